"""A trained model as one ONNX file: raw joints in, logits out; other programs need neither torch nor hhmnet for it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn

from hhmnet import __version__
from hhmnet.data.transform import SkeletonBatch, choose_frames, prepare
from hhmnet.export.inputs import inputs_of, made_clips
from hhmnet.export.network import exportable, take_encoders
from hhmnet.export.streams import fill, free_weights, weights_of
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.homogeneous import HomogeneousOutput
from hhmnet.models.pretrained import ActionModel

OPSET = 20
"""Version of ONNX's operators, the first with GELU; onnxruntime has had it since 1.17."""
METADATA = "hhmnet"
"""Key in the file's metadata under which the model's settings are, as JSON."""


class ExportError(ValueError):
    """A model that can't be exported, or a package that is missing."""


class Graph(nn.Module):
    """What is exported: preprocessing and network, from tensors to tensors.

    Args:
        model: trained model; it is copied.

    Raises:
        ExportError: the model can't be a graph.
    """

    def __init__(self, model: ActionModel) -> None:
        super().__init__()
        self.spec, network = model.spec, model.network
        if isinstance(network, HeterogeneousNetwork):
            if network.video.backbone.video:
                raise ExportError(
                    f"the backbone {network.config.backbone} looks at several frames at once; only image "
                    "backbones can be exported"
                )
            if self.spec.data.views > 1:
                raise ExportError(
                    f"field 'data.views' is {self.spec.data.views}; a model with video can be exported with one view"
                )
        self.network = exportable(network)
        self.members = model.members

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what :meth:`forward` returns."""
        guided = isinstance(self.network, HeterogeneousNetwork) and self.network.config.guidance != "none"
        return ("logits", *(("members",) if self.members else ()), "used", *(("guidance",) if guided else ()))

    def forward(self, joints: Tensor, present: Tensor, lengths: Tensor, *video: Tensor) -> tuple[Tensor, ...]:
        """Classify raw clips.

        Args:
            joints: ``(F, M, V, C)`` float32, the frames of all clips, one clip behind the other.
            present: ``(F, M)`` bool, whether a person's body is there.
            lengths: ``(N,)`` int64, frames of each clip, which sum to F.
            video: for a model with video the fields of :class:`~hhmnet.data.video_batch.VideoInput`; clips without
                one have masks that are false throughout.

        Returns:
            ``logits (N, classes)``; for several members ``members (S, N, classes)``; ``used (N, 2)`` bool, whether
            skeleton and video counted; for a guided video ``guidance (N, P, K)``.
        """
        clips, views = SkeletonBatch(joints, present, lengths), self.spec.data.views
        answers = [self._view(clips, (view + 0.5) / views, video) for view in range(views)]
        logits, members, used, guidance = answers[0]
        if views > 1:
            logits = torch.stack([answer[0] for answer in answers]).mean(0)
            members = torch.stack([answer[1] for answer in answers]).mean(0)
            used = torch.stack([answer[2] for answer in answers]).any(0)
        named = {"logits": logits, "members": members, "used": used, "guidance": guidance}
        return tuple(cast(Tensor, named[name]) for name in self.outputs)

    def _view(
        self, clips: SkeletonBatch, phase: float, video: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        sampled = choose_frames(clips.lengths, self.spec.data, phase=phase)
        x, mask = prepare(clips, self.spec.layout, self.spec.data, sampled=sampled)
        assert mask is not None
        there = mask.any(2).any(1)
        if isinstance(self.network, HeterogeneousNetwork):
            return self._with_video(x, mask, there, video)
        output = self.network(x, mask)
        each = output.each if isinstance(output, HomogeneousOutput) else output.logits[None]
        return output.logits, each, torch.stack([there, torch.zeros_like(there)], 1), None

    def _with_video(
        self, x: Tensor, mask: Tensor, there: Tensor, video: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What :meth:`HeterogeneousNetwork.forward` answers, without what only training needs."""
        from hhmnet.data.video_batch import VideoInput

        network, shown = self.network, VideoInput(*video)
        assert isinstance(network, HeterogeneousNetwork)
        known = network._ask(x, mask)
        weight = network._guidance(known, shown)
        seen = network.video(shown, weight, network.config.guidance)
        used = torch.stack([there, seen.there.any(1)], 1)
        each = torch.cat([known.logits, seen.logits[None]])
        return network._join(each, used), each, used, weight


def to_onnx(model: ActionModel) -> bytes:
    """A model as the content of an ONNX file: dynamic clips and frames, settings in the metadata.

    Raises:
        ExportError: the model can't be exported, or the packages for it aren't installed.
    """
    onnx = package("onnx")
    package("onnxscript")
    graph = Graph(model).eval()
    encoders = take_encoders(graph.network)
    feed = inputs_of(model.spec, next(made_clips(model.spec, 3)))
    clips, frames = torch.export.Dim("clips"), torch.export.Dim("frames")
    sizes = [{0: frames if name in ("joints", "present") else clips} for name in feed]
    given = tuple(torch.from_numpy(array) for array in feed.values())
    # forward takes the video's fields as one variable argument.
    shapes = (*sizes[:3], tuple(sizes[3:])) if len(sizes) > 3 else tuple(sizes)
    program = _exported(graph, given, shapes, tuple(feed), graph.outputs)
    ir = package("onnx_ir")
    _simplify(program.model)
    if encoders:
        proto = ir.to_proto(program.model)
        weights = {stream: weights_of(encoder) for stream, encoder in encoders.items()}
        fill(proto, _encoder_graph(next(iter(encoders.values())), model, clips), weights)
        program.model = ir.from_proto(proto)
    ir.passes.common.RemoveUnusedNodesPass()(program.model)
    proto = ir.to_proto(program.model)
    _strip(proto.graph)
    proto.producer_name, proto.producer_version = "hhmnet", __version__
    notes = {"version": __version__, "members": graph.members, "model": model.spec.to_dict()}
    onnx.helper.set_model_props(proto, {METADATA: json.dumps(notes)})
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _encoder_graph(encoder: nn.Module, model: ActionModel, clips: torch.export.Dim) -> Any:
    """``onnx.GraphProto`` of one stream's encoder, its weights as inputs."""
    data, layout = model.spec.data, model.spec.layout
    x = torch.zeros(3, layout.dims, data.frames, layout.num_joints, data.persons)
    mask = torch.ones(3, data.frames, data.persons, dtype=torch.bool)
    outputs = "logits", "embedding", "features"
    program = _exported(encoder, (x, mask), ({0: clips}, {0: clips}), ("x", "mask"), outputs)
    free_weights(program.model, weights_of(encoder))
    _simplify(program.model)
    return package("onnx_ir").to_proto(program.model).graph


def _simplify(model: Any) -> None:
    """Compute what is known already in a graph, ``onnx_ir.Model``, and keep each result once.

    That is what the exporter does unasked, without its rules for nodes that could be one: to look for those takes as
    long as all the rest, and what runs a graph looks for them too.
    """
    passes = package("onnx_ir.passes.common")
    passes.InlinePass()(model)
    package("onnxscript.optimizer").fold_constants(model)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        step(model)


def _exported(
    module: nn.Module,
    given: tuple[Tensor, ...],
    sizes: tuple[Any, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> Any:
    """``torch.onnx.ONNXProgram`` of a module; ``sizes`` are the free ones of each input."""
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        return torch.onnx.export(
            module,
            given,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=sizes,
            optimize=False,
            verbose=False,
        )


def _strip(graph: Any) -> None:
    """Take out of an ONNX graph where each node came from: half of a small file, and paths of this machine."""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del graph.metadata_props[:], graph.value_info[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """No notes of the exporter's about packages and functions of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def package(name: str) -> Any:
    """A package that only exporting needs; raises ExportError where it isn't installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ExportError(
            f"exporting needs the package '{name}', which isn't installed; pip install 'hhmnet[export]'"
        ) from None
