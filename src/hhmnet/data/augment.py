"""Augmentation of a whole batch of clips at once, in torch, on whatever device the batch lies.

Every random number comes from one generator that the training loop seeds from (seed, step): no worker process draws
any, so a rerun or a resumed run sees the same clips, and no two epochs or workers see equal ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hhmnet.fields import within
from hhmnet.skeleton import SkeletonLayout

_DEFORMING = ("yaw", "tilt", "scale", "stretch", "shear", "noise", "offset")


@dataclass
class AugmentConfig:
    """Training-time augmentation. Every rate or range of 0 turns its part off."""

    crop: float = 0.5
    """Shortest share of a clip that a random temporal crop keeps; 1 keeps all of it."""
    jitter: float = 1.0
    """Random position of each sampled frame inside its time slot, as a share of the slot."""
    yaw: float = 60.0
    """Largest rotation around the vertical axis, in degrees."""
    tilt: float = 30.0
    """Largest rotation around each of the two horizontal axes, in degrees."""
    scale: float = 0.2
    """Largest relative change of size, the same for all axes."""
    stretch: float = 0.1
    """Largest relative change of size, for each axis apart."""
    shear: float = 0.1
    """Largest shear between any two axes."""
    mirror: float = 0.0
    """Probability of the mirror image (left and right joints change places)."""
    noise: float = 0.005
    """Standard deviation of noise on every joint and frame, in the clip's unit."""
    offset: float = 0.01
    """Standard deviation of a displacement of each joint that lasts the whole clip, in the clip's unit."""
    deform: bool = True
    """Whether poses are changed. False sets yaw, tilt, scale, stretch, shear, noise and offset to 0, and leaves crop,
    jitter and mirror: a video beside the skeleton can't be deformed along with it."""

    def __post_init__(self) -> None:
        within(self, 0, 1, "crop", "jitter", "mirror")
        within(self, 0, 180, "yaw", "tilt")
        within(self, 0, math.inf, "scale", "stretch", "shear", "noise", "offset")
        if not self.deform:
            for name in _DEFORMING:
                setattr(self, name, 0.0)


def uniform(shape: tuple[int, ...], limit: float, generator: torch.Generator) -> Tensor:
    """Random numbers from ``-limit`` to ``limit``, on the generator's device."""
    return (torch.rand(shape, generator=generator, device=generator.device) * 2 - 1) * limit


def frame_positions(
    lengths: Tensor, frames: int, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """Random, increasing sampling positions ``(N, T)`` within clips of ``lengths (N,)`` frames.

    A random crop is cut into T equal slots, and one position is drawn in each (TSN's segment sampling).
    """
    count = lengths.shape[0]
    share = 1 - torch.rand(count, 1, generator=generator, device=generator.device) * (1 - config.crop)
    span = lengths[:, None] * share
    start = (lengths[:, None] - span) * torch.rand(count, 1, generator=generator, device=generator.device)
    slot = torch.arange(frames, device=generator.device)[None, :] + 0.5
    slot = slot + uniform((count, frames), 0.5 * config.jitter, generator)
    return start + slot / frames * span - 0.5


def rotation(angles: Tensor) -> Tensor:
    """Rotation matrices ``(N, 3, 3)`` from ``angles (N, 3)`` in radians around x, y and z, applied in that order."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(1), angles.sin().unbind(1)
    one, zero = torch.ones_like(cx), torch.zeros_like(cx)
    about_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], 1).view(-1, 3, 3)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], 1).view(-1, 3, 3)
    about_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], 1).view(-1, 3, 3)
    return about_z @ about_y @ about_x


def linear_map(count: int, dims: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Random rotation, scaling, stretching and shearing as one matrix a clip, ``(N, C, C)``.

    In two dimensions the only rotation is in the image plane, by at most ``tilt``.
    """
    device = generator.device
    if dims == 3:
        limits = torch.tensor([config.tilt, config.yaw, config.tilt], device=device) * math.pi / 180
        turn = rotation(uniform((count, 3), 1.0, generator) * limits)
    else:
        angle = uniform((count,), config.tilt * math.pi / 180, generator)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    size = 1 + uniform((count, 1), config.scale, generator)
    size = size + uniform((count, dims), config.stretch, generator)
    shear = uniform((count, dims, dims), config.shear, generator)
    eye = torch.eye(dims, device=device)
    return (eye + shear * (1 - eye)) @ (turn * size[:, None, :])


def draw_mirrored(count: int, config: AugmentConfig, generator: torch.Generator) -> Tensor | None:
    """Which clips to mirror, ``(N,)`` bool; None, and nothing is drawn, where mirroring is off."""
    if not config.mirror:
        return None
    return torch.rand(count, generator=generator, device=generator.device) < config.mirror


def mirror(x: Tensor, layout: SkeletonLayout, mirrored: Tensor) -> Tensor:
    """``x (N, T, M, V, C)`` with the ``mirrored (N,)`` clips as in a mirror: left and right joints change places."""
    image = x.index_select(-2, torch.from_numpy(layout.mirrored).to(x.device))
    image = image * torch.tensor([-1.0] + [1.0] * (x.shape[-1] - 1), device=x.device)
    return torch.where(mirrored[:, None, None, None, None], image, x)


def augment(
    x: Tensor,
    layout: SkeletonLayout,
    config: AugmentConfig,
    generator: torch.Generator,
    mirrored: Tensor | None = None,
) -> Tensor:
    """Deform ``x (N, T, M, V, C)`` (centred joint positions), after a mirror for the clips ``mirrored (N,)``."""
    count, dims, joints = x.shape[0], x.shape[-1], x.shape[-2]
    if mirrored is not None:
        x = mirror(x, layout, mirrored)
    if config.offset:
        shift = torch.randn(count, 1, 1, joints, dims, generator=generator, device=generator.device)
        x = x + config.offset * shift
    if config.noise:
        x = x + config.noise * torch.randn(x.shape, generator=generator, device=generator.device)
    matrix = linear_map(count, dims, config, generator)
    return (x.flatten(1, 3) @ matrix.transpose(1, 2)).view_as(x)


def mix_clips(
    x: Tensor, mask: Tensor | None, classes: Tensor, alpha: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Mixup (Zhang et al. 2018) of every clip with another of the batch, with one share per clip.

    Args:
        x: ``(N, C, T, V, M)``.
        mask: ``(N, T, M)`` or None; a mixed clip has a body wherever either has one.
        classes: class shares ``(N, K)``.
        alpha: of the Beta distribution that shares are drawn from, above 0.
        generator: source of randomness on the host, since torch's Beta takes none.
    """
    count = x.shape[0]
    share = torch.from_numpy(generator.beta(alpha, alpha, count)).to(x)
    partner = torch.from_numpy(generator.permutation(count)).to(x.device)
    wide = share.view(-1, 1, 1, 1, 1)
    mixed = wide * x + (1 - wide) * x[partner]
    classes = share[:, None] * classes + (1 - share[:, None]) * classes[partner]
    return mixed, None if mask is None else mask | mask[partner], classes
