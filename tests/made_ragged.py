"""Ragged clips of random joints, and what is done to them in tests of preprocessing."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from hhmnet.data.augment import AugmentConfig
from hhmnet.data.transform import SkeletonBatch
from hhmnet.skeleton import KINECT20, SkeletonLayout

OFF = AugmentConfig(
    **{field.name: 0.0 for field in dataclasses.fields(AugmentConfig)} | {"crop": 1.0, "deform": True}  # type: ignore[arg-type]
)
LENGTHS = (5, 1, 12, 3)


def make(
    lengths: tuple[int, ...] = LENGTHS,
    *,
    persons: int = 2,
    layout: SkeletonLayout = KINECT20,
    gaps: float = 0.0,
    seed: int = 0,
) -> SkeletonBatch:
    """Clips that drift slowly, so that a frame resembles its neighbours; absent bodies are zero."""
    generator = torch.Generator().manual_seed(seed)
    shape = (sum(lengths), persons, layout.num_joints, layout.dims)
    joints = torch.randn(shape, generator=generator).cumsum(0) * 0.2 + torch.randn(
        shape[1:], generator=generator
    )
    if not gaps:
        return SkeletonBatch(joints, None, torch.tensor(lengths))
    present = torch.rand(shape[:2], generator=generator) >= gaps
    return SkeletonBatch(joints * present[..., None, None], present, torch.tensor(lengths))


def one(clips: SkeletonBatch, n: int) -> SkeletonBatch:
    """Clip ``n`` alone."""
    end = int(clips.lengths[: n + 1].sum())
    rows = slice(end - int(clips.lengths[n]), end)
    return SkeletonBatch(
        clips.joints[rows], None if clips.present is None else clips.present[rows], clips.lengths[n : n + 1]
    )


def moved(clips: SkeletonBatch, joints: Tensor) -> SkeletonBatch:
    """The same clips with other joints, absent ones still zero."""
    keep = 1.0 if clips.present is None else clips.present[..., None, None]
    return clips._replace(joints=joints * keep)
