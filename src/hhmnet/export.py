"""A trained model as one ONNX file: raw joints in, logits out; other programs need neither torch nor hhmnet for it.

And whether that answers as PyTorch does. A network that makes hard choices (which joints are each other's neighbours,
which attention weights stay) stands on an edge for some clips: two joints are alike to the last digit, and a rounding
error decides, in PyTorch as in any other runtime. There PyTorch has more than one answer, and the graph's has to be one
of them.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn

from hhmnet import __version__
from hhmnet.confidence import neighbours_of
from hhmnet.data.dataset import RawBatch
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.data.transform import SkeletonBatch, choose_frames, prepare
from hhmnet.data.video_batch import VideoBatch, VideoInput, prepare_video, stack_crops
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.spec import ModelSpec
from hhmnet.predict.engines import METADATA, open_session
from hhmnet.predict.sources import InputError
from hhmnet.skeleton import PARTS

OPSET = 20
"""Version of ONNX's operators, the first with GELU; onnxruntime has had it since 1.17."""
TOLERANCE = 1e-4
"""The largest difference of a logit that still counts as the same answer."""
ROUNDING = (1e-7, 3e-7, 1e-6)
"""What joints are moved by to find out what a rounding error does, as a share of the largest coordinate: from the last
digit of float32 to what adds up in a network. A stream of motions sees small differences of large numbers, so that much
more would be more than rounding."""
COPIES = 24
"""So many times each."""


class Graph(nn.Module):
    """What is exported, a copy of the trained model: preprocessing and network, from tensors to tensors."""

    def __init__(self, model: ActionModel) -> None:
        super().__init__()
        network = model.network
        guided = isinstance(network, HeterogeneousNetwork) and network.config.guidance != "none"
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        there = {"logits": True, "members": bool(model.members), "used": True, "guidance": guided}
        self.outputs = tuple(name for name, is_there in there.items() if is_there)
        """Names of what :meth:`forward` returns."""

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
        spec, crops = self.model.spec, VideoInput(*video) if video else None
        x, mask = prepare(SkeletonBatch(joints, present, lengths), spec.layout, spec.data)
        output = self.model.classify(x, mask, crops)
        found = {"logits": output.logits, "used": output.used, "guidance": output.guidance}
        if self.model.members:
            found["members"] = torch.stack([output.each[name] for name in self.model.members])
        return tuple(found[name] for name in self.outputs)  # type: ignore[misc]


def to_onnx(model: ActionModel) -> bytes:
    """A model as the content of an ONNX file: dynamic clips and frames, settings in the metadata. Raises InputError:
    the packages for it aren't installed.
    """
    try:
        import onnx
        import onnx_ir as ir
        import onnxscript  # noqa: F401  # torch needs it
    except ModuleNotFoundError as error:
        raise InputError(
            f"exporting needs the package '{error.name}', which isn't installed; pip install 'hhmnet[export]'"
        ) from None
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
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    del proto.graph.value_info[:]
    proto.producer_name, proto.producer_version = "hhmnet", __version__
    kept = base64.b64encode(save(neighbours_of(model.spec.confidence))).decode()
    about = {"members": model.members, "model": model.spec.to_dict(), "neighbours": kept}
    onnx.helper.set_model_props(proto, {METADATA: json.dumps({"version": __version__, **about})})
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _simplify(model: Any) -> None:
    """Compute what is known already in a graph, ``onnx_ir.Model``, and keep each result once.

    That is what the exporter does unasked, without its rules for nodes that could be one: to look for those takes as
    long as all the rest, and what runs a graph looks for them too."""
    from onnx_ir.passes import common as passes
    from onnxscript.optimizer import fold_constants

    passes.InlinePass()(model)
    fold_constants(model)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
        # Where each node came from: half of a small file, and paths of this machine.
        passes.ClearMetadataAndDocStringPass(),
    ):
        step(model)


@contextmanager
def _quiet() -> Iterator[None]:
    """No notes of the exporter's about packages and functions of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def inputs_of(spec: ModelSpec, batch: RawBatch) -> dict[str, np.ndarray]:
    """The exported graph's inputs, by name, of clips with at most ``spec.data.persons`` persons."""
    joints, present, lengths = batch.clips
    if present is None:
        present = torch.ones(joints.shape[:2], dtype=torch.bool)
    feed = {"joints": joints, "present": present, "lengths": lengths}
    if spec.video is not None:
        assert batch.video is not None
        positions = choose_frames(lengths, spec.data).positions
        feed |= prepare_video(batch.video, positions, None, spec.video)._asdict()
    return {name: value.contiguous().numpy() for name, value in feed.items()}


def made_clips(spec: ModelSpec, count: int, batch: int = 8, seed: int = 0) -> Iterator[RawBatch]:
    """Made-up clips in batches: bodies that swing about a pose of chance, of 20 to 90 frames, some of them absent.

    A model with video gets crops of noise; every fourth clip has none, and every fourth has a video alone.
    """
    draw = np.random.default_rng(seed)
    shape = spec.data.persons, spec.layout.num_joints, spec.layout.dims
    for start in range(0, count, batch):
        numbers = np.arange(start, min(start + batch, count))
        lengths, motions = draw.integers(20, 90, len(numbers)), []
        for length in lengths:
            pose, reach, phase = (draw.normal(0, size, shape) for size in (0.5, 0.2, 3.0))
            pace = draw.uniform(0.02, 0.3, shape)
            motions.append(pose + reach * np.sin(pace * np.arange(length)[:, None, None, None] + phase))
        joints = np.concatenate(motions).astype(np.float32)  # metres
        present = draw.random(joints.shape[:2]) > 0.1
        if spec.video is not None:
            present[np.repeat(numbers, lengths) % 4 == 2] = False
        joints[~present] = 0
        clips = SkeletonBatch(torch.from_numpy(joints), torch.from_numpy(present), torch.from_numpy(lengths))
        rows, crops = torch.from_numpy(numbers), None
        if spec.roi is not None:
            crops = _made_crops(spec.roi, numbers, lengths, draw)
        yield RawBatch(clips, rows, crops)


def _made_crops(
    roi: RoiConfig, numbers: np.ndarray, lengths: np.ndarray, draw: np.random.Generator
) -> VideoBatch:
    found = []
    for number, length in zip(numbers, lengths, strict=True):
        crops = empty_crops(roi, int(length))
        if number % 4 != 3:
            crops.parts[:] = draw.integers(0, 256, crops.parts.shape)
            crops.part_mask[:] = draw.random((len(crops.parts), len(PARTS))) > 0.2
            crops.scene[:] = draw.integers(0, 256, crops.scene.shape)
            crops.scene_mask[:] = number % 4 != 1
        found.append(crops)
    return stack_crops(found)


@dataclass(frozen=True)
class Parity:
    """How an exported graph's logits, the members' own among them, differ from PyTorch's: the largest difference of
    each clip, ``plain (N,)``; the same, but for a clip beyond :data:`TOLERANCE` the difference from the nearest of the
    answers that PyTorch gives when the skeletons move by a rounding error, ``nearest (N,)``; and whether both name the
    same class, ``same (N,)`` bool."""

    plain: np.ndarray
    nearest: np.ndarray
    same: np.ndarray

    @property
    def on_edge(self) -> np.ndarray:
        """Clips ``(N,)`` bool that are told from PyTorch's plain answer, and are one of those it gives."""
        return (self.plain > TOLERANCE) & (self.nearest <= TOLERANCE)

    @property
    def holds(self) -> bool:
        """Whether every clip's answer is one of PyTorch's."""
        return bool((self.nearest <= TOLERANCE).all())

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        edge = self.on_edge
        return {
            "clips": len(self.plain),
            "tolerance": TOLERANCE,
            "largest_difference": float(self.plain.max()),
            "median_difference": float(np.median(self.plain)),
            "on_edge": int(edge.sum()),
            "largest_difference_off_edge": float(self.plain[~edge].max(initial=0)),
            "largest_difference_from_nearest": float(self.nearest.max()),
            "same_class": int(self.same.sum()),
            "holds": self.holds,
        }


def measure_parity(model: ActionModel, content: bytes, batches: Iterable[RawBatch]) -> Parity:
    """Compare an exported graph, the ``content`` of an ONNX file, with the model it was made of, on the CPU and in eval
    mode; the clips have crops where it has a video side. Raises OnnxModelError: onnxruntime isn't installed."""
    graph = open_session(content, threads=1)
    plain, nearest, same = [], [], []
    for batch in batches:
        feed = inputs_of(model.spec, batch)
        found = dict(zip((out.name for out in graph.get_outputs()), graph.run(None, feed), strict=True))
        with torch.inference_mode():
            given = model.streams(batch.clips, batch.video).numpy()
        ours = np.concatenate([found["logits"][None], found.get("members", given[1:])])
        gap = np.abs(ours - given).max((0, 2))
        near = gap.copy()
        for row in np.flatnonzero(gap > TOLERANCE):
            answers = np.concatenate([given[:, row, None], _answers_near(model, batch, int(row))], 1)
            # Each member by itself: two may stand on an edge at once, and jump one by one.
            near[row] = np.abs(answers - ours[:, None, row]).max(2).min(1).max()
        plain.append(gap)
        nearest.append(near)
        same.append(ours[0].argmax(1) == given[0].argmax(1))
    return Parity(np.concatenate(plain), np.concatenate(nearest), np.concatenate(same))


def _answers_near(model: ActionModel, batch: RawBatch, row: int) -> np.ndarray:
    """PyTorch's logits ``(1 + members, copies, classes)`` of one clip whose joints move by rounding errors."""
    clips, video = batch.clips, batch.video
    end = int(clips.lengths[: row + 1].sum())
    of_clip = slice(end - int(clips.lengths[row]), end)
    joints, lengths = clips.joints[of_clip], clips.lengths[row].repeat(COPIES)
    present = None if clips.present is None else clips.present[of_clip].repeat(COPIES, 1)
    crops = video and type(video)(*(part[row : row + 1].repeat_interleave(COPIES, 0) for part in video))
    noise = torch.rand(COPIES, *joints.shape, generator=torch.Generator().manual_seed(row)) * 2 - 1
    found = []
    for share in ROUNDING:
        moved = (joints + noise * (share * joints.abs().max())).flatten(0, 1)
        if present is not None:
            moved = moved * present[..., None, None]
        with torch.inference_mode():
            found.append(model.streams(SkeletonBatch(moved, present, lengths), crops).numpy())
    return np.concatenate(found, 1)
