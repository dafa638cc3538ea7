"""The four skeleton streams, derived from joint positions.

Two-stream adaptive GCN (Shi et al., CVPR 2019) introduced bones, its journal version the motions; all of the
field's published results use these four.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hhmnet.skeleton import SkeletonLayout

STREAMS = ("joint", "bone", "joint_motion", "bone_motion")


def bones(joints: Tensor, layout: SkeletonLayout) -> Tensor:
    """Vector from every joint's parent to the joint, ``(..., V, C)``; the root's is zero."""
    parents = torch.from_numpy(layout.parents).to(joints.device)
    return joints - joints.index_select(-2, parents)


def motion(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Difference to the next sampled frame of ``x (N, T, M, V, C)``; the last frame's is zero.

    Args:
        x: joints or bones.
        mask: ``(N, T, M)``; the motion into or out of an absent frame is zero.
    """
    difference = torch.zeros_like(x)
    difference[:, :-1] = x[:, 1:] - x[:, :-1]
    if mask is not None:
        both = mask.clone()
        both[:, :-1] &= mask[:, 1:]
        difference = difference * both[..., None, None]
    return difference


def split_names(names: str) -> tuple[str, ...]:
    """Stream names from ``joint`` or ``joint+bone``; raises ValueError for an unknown or repeated one."""
    found = tuple(names.split("+"))
    for name in found:
        if name not in STREAMS:
            raise ValueError(f"unknown stream '{name}'; known: {', '.join(STREAMS)}; several are joined by +")
    if len(set(found)) < len(found):
        raise ValueError(f"a stream stands twice in '{names}'")
    return found


def stack(names: Sequence[str], joints: Tensor, layout: SkeletonLayout, mask: Tensor | None = None) -> Tensor:
    """Several streams of ``joints (N, T, M, V, C)``, one behind the other: ``(N, T, M, V, S·C)``."""
    return torch.cat([stream(name, joints, layout, mask) for name in names], -1)


def stream(name: str, joints: Tensor, layout: SkeletonLayout, mask: Tensor | None = None) -> Tensor:
    """One stream of ``joints (N, T, M, V, C)`` by name; raises ValueError with the known names."""
    if name not in STREAMS:
        raise ValueError(f"unknown stream '{name}'; known: {', '.join(STREAMS)}")
    x = bones(joints, layout) if name.startswith("bone") else joints
    return motion(x, mask) if name.endswith("motion") else x
