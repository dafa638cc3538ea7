"""The one preprocessing function: ragged clips in, network input out, for training, evaluation and serving alike.

Its end is one of the four skeleton streams, or several. Two-stream adaptive GCN (Shi et al., CVPR 2019) introduced
bones, its journal version the motions; all of the field's published results use these four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hhmnet.data.augment import AugmentConfig, augment, draw_mirrored, frame_positions
from hhmnet.fields import one_of, within
from hhmnet.skeleton import SkeletonLayout

STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
SCALES = ("none", "trunk", "box")


@dataclass
class DataConfig:
    """How a clip becomes network input. Kept with the weights: a model without it is useless."""

    stream: str = "joint"
    """Skeleton stream: joint, bone, joint_motion or bone_motion; several, joined by +, make the homogeneous network."""
    frames: int = 32
    """Frames sampled from every clip, T."""
    persons: int = 1
    """Persons kept of every clip, M; the store has them in order of importance."""
    scale: str = "none"
    """Unit of length: none (as stored), trunk (the torso's length) or box (each axis spans -1 to 1 over the clip)."""

    def __post_init__(self) -> None:
        for name in self.streams:
            if name not in STREAMS:
                known = ", ".join(STREAMS)
                raise ValueError(
                    f"field 'stream': unknown stream '{name}'; known: {known}; several are joined by +"
                )
        if len(set(self.streams)) < len(self.streams):
            raise ValueError(f"field 'stream': a stream stands twice in '{self.stream}'")
        one_of(self, "scale", SCALES)
        within(self, 1, math.inf, "frames", "persons")

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams, in order."""
        return tuple(self.stream.split("+"))


class SkeletonBatch(NamedTuple):
    """Clips of different lengths, one behind the other.

    Attributes:
        joints: ``(F, M, V, C)`` float32, the frames of all clips.
        present: ``(F, M)`` bool, or None where every body is there in every frame.
        lengths: ``(N,)`` int64, frames of each clip; they sum to F.
    """

    joints: Tensor
    present: Tensor | None
    lengths: Tensor

    def to(self, device: torch.device) -> SkeletonBatch:
        """The same clips on another device."""
        return SkeletonBatch(*(None if x is None else x.to(device, non_blocking=True) for x in self))  # type: ignore[arg-type]


class SampledFrames(NamedTuple):
    """Which instants of each clip are looked at, and whether in a mirror: what skeleton and video must have in common.

    Attributes:
        positions: ``(N, T)`` increasing positions among each clip's frames, such as 3.5 for halfway from 3 to 4.
        mirrored: ``(N,)`` bool; None for no clip.
    """

    positions: Tensor
    mirrored: Tensor | None


def choose_frames(
    lengths: Tensor,
    config: DataConfig,
    augmentation: AugmentConfig | None = None,
    generator: torch.Generator | None = None,
) -> SampledFrames:
    """Frames to sample of clips of ``lengths (N,)`` frames; :func:`prepare` says what the other arguments mean."""
    if augmentation is None:
        slot = (torch.arange(config.frames, device=lengths.device) + 0.5) / config.frames
        return SampledFrames(slot[None, :] * lengths[:, None] - 0.5, None)
    assert generator is not None, "augmentation needs a generator"
    positions = frame_positions(lengths, config.frames, augmentation, generator)
    return SampledFrames(positions, draw_mirrored(len(lengths), augmentation, generator))


def sample_frames(clips: SkeletonBatch, positions: Tensor) -> tuple[Tensor, Tensor | None]:
    """Joints at fractional frame ``positions (N, T)``, by linear interpolation between neighbouring frames.

    Returns:
        Joints ``(N, T, M, V, C)`` and a mask ``(N, T, M)`` or None. Where only one of the two neighbours has a body,
        that one counts alone; where neither has, the joints are zero and the mask false.
    """
    last = (clips.lengths - 1)[:, None]
    offset = (clips.lengths.cumsum(0) - clips.lengths)[:, None]
    positions = torch.minimum(positions.clamp_min(0), last.to(positions.dtype))
    before = positions.floor().long()
    after = torch.minimum(before + 1, last)
    weight = (positions - before).unsqueeze(-1)
    before, after = before + offset, after + offset
    if clips.present is None:
        joints = torch.lerp(clips.joints[before], clips.joints[after], weight[..., None, None])
        return joints, None
    share_before = (1 - weight) * clips.present[before]
    share_after = weight * clips.present[after]
    # At an exact hit of an absent frame the next one has weight 0, so nothing is invented there.
    total = share_before + share_after
    mask = total > 0
    scale = torch.where(mask, total, torch.ones_like(total))
    joints = clips.joints[before] * (share_before / scale)[..., None, None]
    joints = joints + clips.joints[after] * (share_after / scale)[..., None, None]
    return joints, mask


def _leader(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Who says where a clip's origin is and how large it is: a person, and the first frame with them.

    Both are ``(N,)``. It is person 0, unless only others are there in ``x (N, T, M, V, C)``: then the first of those.
    """
    zeros = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
    if mask is None:
        return zeros, zeros
    person = mask.any(1).to(torch.uint8).argmax(1)
    seen = mask[torch.arange(x.shape[0], device=x.device), :, person]
    return person, seen.to(torch.uint8).argmax(1)


def _of(x: Tensor, person: Tensor) -> Tensor:
    """What ``x (N, T, M, ...)`` has of one person of each clip, ``(N, T, ...)``."""
    return x[torch.arange(x.shape[0], device=x.device), :, person]


def center(x: Tensor, root: int, mask: Tensor | None) -> Tensor:
    """Move the origin of ``x (N, T, M, V, C)`` to a root joint; absent bodies stay zero.

    It is the joint of person 0 in the first frame; of a clip that person 0 is missing from, of the first who is there.
    """
    person, frame = _leader(x, mask)
    x = x - x[torch.arange(x.shape[0], device=x.device), frame, person, root][:, None, None, None, :]
    return x if mask is None else x * mask[..., None, None]


def in_trunks(x: Tensor, layout: SkeletonLayout, mask: Tensor | None) -> Tensor:
    """Measure ``x (N, T, M, V, C)`` in trunks of person 0, in a clip without person 0 of the first who is there."""
    person, _ = _leader(x, mask)
    body = _of(x, person)
    shoulders, hips = (
        body[:, :, [layout.index(f"left_{joint}"), layout.index(f"right_{joint}")]]
        for joint in ("shoulder", "hip")
    )
    trunk = (shoulders - hips).norm(dim=-1).mean(-1)
    valid = torch.ones_like(trunk) if mask is None else _of(mask, person).to(trunk.dtype)
    length = (trunk * valid).sum(1) / valid.sum(1).clamp_min(1)
    return x / length.clamp_min(1e-3)[:, None, None, None, None]


def in_box(x: Tensor, mask: Tensor | None) -> Tensor:
    """Let each clip of ``x (N, T, M, V, C)`` span -1 to 1 on every axis; absent bodies are zero."""
    low, high = x, x
    if mask is not None:
        absent = ~mask[..., None, None]
        low, high = x.masked_fill(absent, float("inf")), x.masked_fill(absent, float("-inf"))
    low, high = low.amin((1, 2, 3), keepdim=True), high.amax((1, 2, 3), keepdim=True)
    x = (x - low) / (high - low).clamp_min(1e-3) * 2 - 1
    # Filled, not multiplied: where nobody is there, low is infinite.
    return x if mask is None else x.masked_fill(~mask[..., None, None], 0.0)


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


def stream(name: str, joints: Tensor, layout: SkeletonLayout, mask: Tensor | None = None) -> Tensor:
    """One stream of ``joints (N, T, M, V, C)``, one of STREAMS."""
    x = bones(joints, layout) if name.startswith("bone") else joints
    return motion(x, mask) if name.endswith("motion") else x


def prepare(
    clips: SkeletonBatch,
    layout: SkeletonLayout,
    config: DataConfig,
    augmentation: AugmentConfig | None = None,
    generator: torch.Generator | None = None,
    sampled: SampledFrames | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Turn ragged clips into network input.

    Args:
        clips: clips in the layout's coordinates, at most ``config.persons`` persons.
        layout: their skeleton.
        config: sampling and normalisation.
        augmentation: what to vary; None for evaluation, which is deterministic.
        generator: source of randomness, on the clips' device; needed with ``augmentation``.
        sampled: what :func:`choose_frames` chose; called here if None. Who prepares the videos too calls it
            first, with the same arguments, and gives its choice to both.

    Returns:
        ``x (N, C, T, V, M)``, for S streams ``(N, S·C, T, V, M)``, and
        ``mask (N, T, M)``, or None for the mask where every body is there.
    """
    if sampled is None:
        sampled = choose_frames(clips.lengths, config, augmentation, generator)
    x, mask = sample_frames(clips, sampled.positions)
    x = center(x, layout.root, mask)
    if config.scale == "trunk":
        x = in_trunks(x, layout, mask)
    if augmentation is not None and generator is not None:
        x = augment(x, layout, augmentation, generator, sampled.mirrored)
    if config.scale == "box":  # a box is not kept by a rotation, so it comes last
        x = in_box(x, mask)
    x = torch.cat([stream(name, x, layout, mask) for name in config.streams], -1)
    if mask is not None:
        x = x * mask[..., None, None]
    return x.permute(0, 4, 1, 3, 2), mask
