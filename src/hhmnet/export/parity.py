"""Whether an exported graph answers as PyTorch does.

A network that makes hard choices (which joints are each other's neighbours, which attention weights stay) stands on an
edge for some clips: two joints are alike to the last digit, and a rounding error decides, in PyTorch as in any other
runtime. There PyTorch has more than one answer, and the graph's has to be one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hhmnet.data.dataset import RawBatch
from hhmnet.data.transform import SkeletonBatch
from hhmnet.export.graph import inputs_of, package
from hhmnet.models.pretrained import ActionModel

TOLERANCE = 1e-4
"""The largest difference of a logit that still counts as the same answer."""
ROUNDING = (1e-7, 3e-7, 1e-6)
"""What joints are moved by to find out what a rounding error does, as a share of the largest coordinate: from the last
digit of float32 to what adds up in a network. A stream of motions sees small differences of large numbers, so that much
more would be more than rounding."""
COPIES = 24
"""So many times each."""


@dataclass(frozen=True)
class Parity:
    """How an exported graph's logits, the members' own among them, differ from PyTorch's.

    Attributes:
        plain: largest difference of each clip, ``(N,)``.
        nearest: the same, but for a clip beyond :data:`TOLERANCE` the difference from the nearest of the answers
            that PyTorch gives when the skeletons move by a rounding error.
        same: whether both name the same class, ``(N,)`` bool.
    """

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


def session(content: bytes, threads: int = 1) -> Any:
    """onnxruntime's session of an ONNX file's content, on the CPU."""
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def measure_parity(model: ActionModel, content: bytes, batches: Iterable[RawBatch]) -> Parity:
    """Compare an exported graph with the model it was made of.

    Args:
        model: on the CPU, in eval mode.
        content: of the ONNX file.
        batches: clips; with crops where the model has a video side.

    Raises:
        ExportError: onnxruntime isn't installed.
    """
    graph = session(content)
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
    begin = int(clips.lengths[:row].sum())
    of_clip = slice(begin, begin + int(clips.lengths[row]))
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
