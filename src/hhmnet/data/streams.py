"""The four skeleton streams, derived from joint positions.

Two-stream adaptive GCN (Shi et al., CVPR 2019) introduced bones, its journal version the motions; all of the
field's published results use these four.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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


class Later(NamedTuple):
    """The same bodies a little later.

    Attributes:
        joints: ``(N, T, M, V, C)``.
        mask: ``(N, T, M)`` or None.
    """

    joints: Tensor
    mask: Tensor | None


def stack(
    names: Sequence[str],
    joints: Tensor,
    layout: SkeletonLayout,
    mask: Tensor | None = None,
    later: Later | None = None,
) -> Tensor:
    """Several streams of ``joints (N, T, M, V, C)``, one behind the other: ``(N, T, M, V, S·C)``."""
    return torch.cat([stream(name, joints, layout, mask, later) for name in names], -1)


def stream(
    name: str,
    joints: Tensor,
    layout: SkeletonLayout,
    mask: Tensor | None = None,
    later: Later | None = None,
) -> Tensor:
    """One stream of ``joints (N, T, M, V, C)`` by name.

    Args:
        name: one of :data:`STREAMS`.
        joints: positions.
        layout: their skeleton.
        mask: ``(N, T, M)``, which bodies are there; all by default.
        later: what motion is the way to; by default the next sampled frame.

    Raises:
        ValueError: the name is unknown; the message has the known ones.
    """
    if name not in STREAMS:
        raise ValueError(f"unknown stream '{name}'; known: {', '.join(STREAMS)}")
    bone = name.startswith("bone")
    x = bones(joints, layout) if bone else joints
    if not name.endswith("motion"):
        return x
    if later is None:
        return motion(x, mask)
    difference = (bones(later.joints, layout) if bone else later.joints) - x
    for known in (mask, later.mask):
        if known is not None:
            difference = difference * known[..., None, None]
    return difference
