"""A trained model as one ONNX file: raw joints in, logits out; other programs need neither torch nor hhmnet for it."""

from __future__ import annotations

import base64
import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn

from hhmnet import __version__
from hhmnet.confidence import neighbours_of
from hhmnet.data.dataset import RawBatch
from hhmnet.data.transform import SkeletonBatch, choose_frames, prepare
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.spec import ModelSpec
from hhmnet.skeleton import PARTS

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
        self.spec, network, self.has_guidance = model.spec, model.network, False
        if isinstance(network, HeterogeneousNetwork):
            self.has_guidance = network.config.guidance != "none"
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what :meth:`forward` returns."""
        there = {"members": bool(self.model.members), "guidance": self.has_guidance}
        return tuple(name for name in ("logits", "members", "used", "guidance") if there.get(name, True))

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
        clips = SkeletonBatch(joints, present, lengths)
        crops = None
        if video:
            from hhmnet.data.video_batch import VideoInput

            crops = VideoInput(*video)
        x, mask = prepare(clips, self.spec.layout, self.spec.data)
        output = self.model.classify(x, mask, crops)
        found = [output.logits, output.used]
        if self.model.members:
            found.insert(1, torch.stack([output.each[name] for name in self.model.members]))
        if self.has_guidance:
            assert output.guidance is not None
            found.append(output.guidance)
        return tuple(found)


def to_onnx(model: ActionModel) -> bytes:
    """A model as the content of an ONNX file: dynamic clips and frames, settings in the metadata.

    Raises:
        ExportError: the model can't be exported, or the packages for it aren't installed.
    """
    onnx, ir = package("onnx"), package("onnx_ir")
    package("onnxscript")
    graph = Graph(model).eval()
    feed = inputs_of(model.spec, next(made_clips(model.spec, 3)))
    clips, frames = torch.export.Dim("clips"), torch.export.Dim("frames")
    sizes = [{0: frames if name in ("joints", "present") else clips} for name in feed]
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(torch.from_numpy(array) for array in feed.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=tuple(feed),
            output_names=graph.outputs,
            # forward takes the video's fields as one variable argument
            dynamic_shapes=(*sizes[:3], tuple(sizes[3:])) if len(sizes) > 3 else tuple(sizes),
            optimize=False,
            verbose=False,
        )
    assert program is not None
    _simplify(program.model)
    proto = ir.to_proto(program.model)
    _strip(proto.graph)
    proto.producer_name, proto.producer_version = "hhmnet", __version__
    kept = base64.b64encode(save(neighbours_of(model.spec.confidence))).decode()
    notes = {
        "version": __version__,
        "members": model.members,
        "model": model.spec.to_dict(),
        "neighbours": kept,
    }
    onnx.helper.set_model_props(proto, {METADATA: json.dumps(notes)})
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


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


def inputs_of(spec: ModelSpec, batch: RawBatch) -> dict[str, np.ndarray]:
    """The exported graph's inputs, by name, of clips with at most ``spec.data.persons`` persons."""
    clips = batch.clips
    present = clips.present
    if present is None:
        present = torch.ones(clips.joints.shape[:2], dtype=torch.bool)
    feed = {"joints": clips.joints, "present": present, "lengths": clips.lengths}
    if spec.video is not None:
        from hhmnet.data.video_batch import prepare_video

        assert batch.video is not None
        sampled = choose_frames(clips.lengths, spec.data)
        feed |= prepare_video(batch.video, sampled.positions, None, spec.video)._asdict()
    return {name: value.contiguous().numpy() for name, value in feed.items()}


def made_clips(spec: ModelSpec, count: int, batch: int = 8, seed: int = 0) -> Iterator[RawBatch]:
    """Made-up clips in batches: bodies that swing about a pose of chance, of 20 to 90 frames, some of them absent.

    A model with video gets crops of noise; every fourth clip has none, and every fourth has a video alone.
    """
    draw = np.random.default_rng(seed)
    for start in range(0, count, batch):
        numbers = range(start, min(start + batch, count))
        lengths = draw.integers(20, 90, len(numbers))
        shape = (spec.data.persons, spec.layout.num_joints, spec.layout.dims)
        joints = np.concatenate([_swinging(int(length), shape, draw) for length in lengths])
        present = draw.random(joints.shape[:2]) > 0.1
        owner = np.repeat(np.array(numbers), lengths)
        if spec.video is not None:
            present[owner % 4 == 2] = False
        joints[~present] = 0
        clips = SkeletonBatch(torch.from_numpy(joints), torch.from_numpy(present), torch.from_numpy(lengths))
        rows = torch.tensor(list(numbers))
        raw = RawBatch(clips, torch.full_like(rows, -1), rows)
        yield raw if spec.video is None else _with_noise(spec, raw, draw)


def _swinging(frames: int, shape: tuple[int, int, int], draw: np.random.Generator) -> np.ndarray:
    """Joints ``(T, M, V, C)`` float32 in metres."""
    pose, reach, phase = (draw.normal(0, size, shape) for size in (0.5, 0.2, 3.0))
    pace = draw.uniform(0.02, 0.3, shape)
    time = np.arange(frames)[:, None, None, None]
    return (pose + reach * np.sin(pace * time + phase)).astype(np.float32)


def _with_noise(spec: ModelSpec, raw: RawBatch, draw: np.random.Generator) -> RawBatch:
    from hhmnet.data.roi import empty_crops
    from hhmnet.data.video_batch import stack_crops

    assert spec.roi is not None
    found = []
    for number, length in zip(raw.index.tolist(), raw.clips.lengths.tolist(), strict=True):
        crops = empty_crops(spec.roi, length)
        if number % 4 != 3:
            crops.parts[:] = draw.integers(0, 256, crops.parts.shape)
            crops.part_mask[:] = draw.random((len(crops.parts), len(PARTS))) > 0.2
            crops.scene[:] = draw.integers(0, 256, crops.scene.shape)
            crops.scene_mask[:] = number % 4 != 1
        found.append(crops)
    return raw._replace(video=stack_crops(found))
