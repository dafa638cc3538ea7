"""The video half of a batch: cached crops in, network input out, at the instants at which the skeleton is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hhmnet.data.augment import uniform
from hhmnet.data.roi import ClipCrops
from hhmnet.fields import within
from hhmnet.skeleton import PARTS

MEAN, STD = 0.498, 0.502
"""A colour from 0 to 255 is shown as (colour / 255 - MEAN) / STD, which is what EfficientNet-Lite was trained with; a
backbone that wants another scale converts."""
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def _other_side(part: str) -> str:
    side, _, rest = part.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, part)


_MIRRORED = [PARTS.index(_other_side(part)) for part in PARTS]


@dataclass
class VideoConfig:
    """How crops become network input. Kept with the weights, as the skeleton's ``DataConfig`` is."""

    instants: int = 8
    """Instants of the clip that the grid shows, its columns, K."""
    cell: int = 64
    """Side of a cell of the grid in pixels, the middle of the cached crop; a multiple of the backbone's stride."""
    scene: int = 112
    """Side of the picture of the whole persons in pixels, the middle of the cached one."""
    scenes: int = 1
    """Pictures of the whole persons a clip, K2."""
    motion: bool = False
    """Show what moves: a picture's three channels are the greys of the cached instant before, of the instant and of the
    one after. What rests is grey, what moves is coloured, and the things' own colours are lost."""

    def __post_init__(self) -> None:
        within(self, 1, math.inf, "instants", "cell", "scene", "scenes")


@dataclass
class VideoAugmentConfig:
    """Training-time augmentation of crops. Every rate or range of 0 turns its part off.

    Shift and zoom are the same for all instants of a part, so that what moves is what moved in the video; colours are
    the same for all crops of a clip.
    """

    shift: float = 1.0
    """Largest displacement of each part's window, as a share of the way to the cached crop's edge."""
    zoom: float = 0.1
    """Largest relative change of a window's side; what is larger than the cached crop is cut to that."""
    brightness: float = 0.2
    """Largest relative change of all colours."""
    contrast: float = 0.2
    """Largest relative change of the distance from grey."""
    saturation: float = 0.2
    """Largest relative change of the distance from the pixel's own grey."""
    part_drop: float = 0.05
    """Probability, for each part of a clip, that all its cells are erased."""
    cell_drop: float = 0.05
    """Probability, for each cell, that it is erased."""

    def __post_init__(self) -> None:
        within(self, 0, 1, "shift", "brightness", "contrast", "saturation", "part_drop", "cell_drop")
        within(self, 0, 0.9, "zoom")


class VideoBatch(NamedTuple):
    """The crops of N clips: the fields of :class:`~hhmnet.data.roi.ClipCrops`, each with a first axis N."""

    parts: Tensor
    part_mask: Tensor
    scene: Tensor
    scene_mask: Tensor
    times: Tensor
    scene_times: Tensor

    def to(self, device: torch.device) -> VideoBatch:
        """The same batch on another device."""
        return VideoBatch(*(value.to(device, non_blocking=True) for value in self))


class VideoInput(NamedTuple):
    """What the video network takes of N clips.

    Attributes:
        grid: ``(N, 3, P·S, K·S)`` float32, normalised: rows are the parts, columns the instants; zero where a cell
            shows nothing.
        cell_mask: ``(N, P, K)`` bool, whether a cell shows something.
        scene: ``(N, K2, 3, W, W)`` float32, normalised, zero where there is no picture.
        scene_mask: ``(N, K2)`` bool.
        times: ``(N, K)`` float32, where among the T sampled frames of the skeleton the instants lie, from 0 to T - 1.
    """

    grid: Tensor
    cell_mask: Tensor
    scene: Tensor
    scene_mask: Tensor
    times: Tensor


def stack_crops(crops: Sequence[ClipCrops]) -> VideoBatch:
    """A batch of the crops of some clips, all made with the same settings."""
    return VideoBatch(*(torch.from_numpy(np.stack(arrays)) for arrays in zip(*crops, strict=True)))


def prepare_video(
    batch: VideoBatch,
    positions: Tensor | None,
    mirrored: Tensor | None,
    config: VideoConfig,
    augmentation: VideoAugmentConfig | None = None,
    generator: torch.Generator | None = None,
) -> VideoInput:
    """Turn cached crops into network input.

    Column k of the grid shows the cached instant that is nearest to the middle of the k-th of K equal chunks of the
    sampled frames; likewise the pictures of the whole persons.

    Args:
        batch: the crops.
        positions: ``(N, T)`` increasing, at which frames the clips' skeletons are sampled; None where there are no
            skeletons: then the grid shows the whole clip, and ``times`` count the cached instants.
        mirrored: ``(N,)`` bool, which clips' skeletons are mirrored: their crops are too, and left and right parts
            change places. None for no clip.
        config: which crops, and how they are normalised.
        augmentation: what to vary; None for evaluation, which shows the middle of the cached crops.
        generator: source of randomness, on the batch's device; needed with ``augmentation``.

    Raises:
        ValueError: the cached crops are smaller than what is to be shown.
    """
    for name, cached in (("cell", batch.parts.shape[3]), ("scene", batch.scene.shape[2])):
        if getattr(config, name) > cached:
            raise ValueError(
                f"field '{name}' is {getattr(config, name)}, but the cached crops have {cached} pixels"
            )
    positions = batch.times if positions is None else positions
    chosen = _nearest(batch.times, positions, config.instants)
    chosen_scenes = _nearest(batch.scene_times, positions, config.scenes)
    show = _moving if config.motion else _shown
    parts, mask = (values.transpose(1, 2) for values in show(batch.parts, batch.part_mask, chosen))
    scene, scene_mask = show(batch.scene, batch.scene_mask, chosen_scenes)
    if mirrored is not None:
        parts = torch.where(mirrored.view(-1, 1, 1, 1, 1, 1), parts[:, _MIRRORED].flip(4), parts)
        mask = torch.where(mirrored.view(-1, 1, 1), mask[:, _MIRRORED], mask)
        scene = torch.where(mirrored.view(-1, 1, 1, 1, 1), scene.flip(3), scene)
    matrix = None
    if augmentation is None:
        parts, scene = _middle(parts, config.cell), _middle(scene, config.scene)
    else:
        assert generator is not None, "augmentation needs a generator"
        parts = _windows(parts, config.cell, augmentation, generator)
        scene = _windows(scene[:, None], config.scene, augmentation, generator)[:, 0]
        matrix = _colour_matrix(len(parts), augmentation, generator)
        mask = mask & ~_erased(mask, augmentation, generator)
    grid = _normalised(parts.permute(0, 5, 1, 3, 2, 4), matrix)
    grid *= mask[:, None, :, None, :, None]
    scene = _normalised(scene.permute(0, 4, 1, 2, 3), matrix)
    scene *= scene_mask[:, None, :, None, None]
    return VideoInput(
        grid.flatten(4, 5).flatten(2, 3),
        mask,
        scene.transpose(1, 2),
        scene_mask,
        _among(batch.times.gather(1, chosen), positions),
    )


def frames_at(positions: Tensor, places: Tensor) -> Tensor:
    """The positions ``(N, T)`` at ``places (N, K)`` among them, linear in between, such as 3.5 for halfway from 3 to 4.

    At :class:`VideoInput`'s times they are the frames of a clip that the instants show.
    """
    before = places.floor().long()
    after = (before + 1).clamp_max(positions.shape[1] - 1)
    return torch.lerp(positions.gather(1, before), positions.gather(1, after), places - before)


def _nearest(times: Tensor, positions: Tensor, count: int) -> Tensor:
    """Which of ``times (N, L)`` are nearest to the middles of K equal chunks of ``positions (N, T)``: ``(N, K)``."""
    frames = positions.shape[1]
    middles = (torch.arange(count, device=positions.device) + 0.5) * frames / count - 0.5
    wanted = frames_at(positions, middles.clamp(0, frames - 1).expand(len(positions), count))
    return (times[:, None, :] - wanted[:, :, None]).abs().argmin(2)


def _among(times: Tensor, positions: Tensor) -> Tensor:
    """Where ``times (N, K)`` lie among increasing ``positions (N, T)``, linear in between: from 0 to T - 1."""
    last = positions.shape[1] - 1
    if last == 0:
        return torch.zeros_like(times)
    after = torch.searchsorted(positions.contiguous(), times.contiguous()).clamp(1, last)
    low, high = positions.gather(1, after - 1), positions.gather(1, after)
    share = (times - low) / (high - low).clamp_min(1e-6)
    return (after - 1 + share).clamp(0, last)


def _take(values: Tensor, chosen: Tensor) -> Tensor:
    """Of ``values (N, L, ...)`` those at ``chosen (N, K)``: ``(N, K, ...)``."""
    return values[torch.arange(len(values), device=values.device)[:, None], chosen]


def _shown(crops: Tensor, mask: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``crops (N, L, ..., 3)`` and their masks those at ``chosen (N, K)``."""
    return _take(crops, chosen), _take(mask, chosen)


def _moving(crops: Tensor, mask: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_shown`, the greys of the one before, itself and the one after as channels; itself where one lacks."""
    luma, last = torch.tensor(_LUMA, device=crops.device), crops.shape[1] - 1
    here = _take(crops, chosen).float() @ luma
    greys = []
    for step in (-1, 0, 1):
        beside = (chosen + step).clamp(0, last)
        there = _take(mask, beside)[..., None, None]
        greys.append(torch.where(there, _take(crops, beside).float() @ luma, here))
    return torch.stack(greys, -1).round().to(crops.dtype), _take(mask, chosen)


def _middle(crops: Tensor, side: int) -> Tensor:
    """The middle ``(..., side, side, 3)`` of square crops ``(..., S, S, 3)``."""
    start = (crops.shape[-2] - side) // 2
    return crops[..., start : start + side, start : start + side, :]


def _windows(crops: Tensor, side: int, config: VideoAugmentConfig, generator: torch.Generator) -> Tensor:
    """A random square of crops ``(N, P, K, S, S, 3)``, the same of all K, as ``(N, P, K, side, side, 3)`` float32.

    Bilinear: a window is hardly larger than what comes of it, so nothing is averaged.
    """
    count, parts, instants, cached = crops.shape[:4]
    zoom = 1 + uniform((count * parts, 1), config.zoom, generator)
    share = (zoom * side / cached).clamp_max(1)
    shift = uniform((count * parts, 2), config.shift, generator) * (1 - share)
    zero = torch.zeros_like(share)
    rows = [torch.cat([share, zero, shift[:, :1]], 1), torch.cat([zero, share, shift[:, 1:]], 1)]
    grid = functional.affine_grid(
        torch.stack(rows, 1), [count * parts, 3 * instants, side, side], align_corners=False
    )
    images = crops.permute(0, 1, 2, 5, 3, 4).reshape(count * parts, instants * 3, cached, cached).float()
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return images.view(count, parts, instants, 3, side, side).permute(0, 1, 2, 4, 5, 3)


def _colour_matrix(
    count: int, config: VideoAugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A random change of colours for each clip: a matrix ``(N, 3, 3)`` and each clip's contrast ``(N, 1, 1)``."""
    limits = torch.tensor([config.brightness, config.contrast, config.saturation], device=generator.device)
    factors = 1 + limits * uniform((count, 3), 1.0, generator)
    brightness, contrast, saturation = factors[:, :, None, None].unbind(1)
    eye = torch.eye(3, device=generator.device)
    grey = torch.tensor(_LUMA, device=generator.device).expand(3, 3)
    return brightness * contrast * (saturation * eye + (1 - saturation) * grey), contrast


def _normalised(images: Tensor, colours: tuple[Tensor, Tensor] | None) -> Tensor:
    """Images ``(N, 3, ...)`` from 0 to 255 as the backbone takes them, float32; contrast is about the mean."""
    images = images.contiguous()
    if colours is None:
        offset = torch.tensor(-MEAN / STD, device=images.device)
        return torch.add(offset, images, alpha=1 / (255 * STD))
    matrix, contrast = colours
    offset = -contrast * MEAN / STD
    return torch.baddbmm(offset, matrix / (255 * STD), images.flatten(2)).view_as(images)


def _erased(mask: Tensor, config: VideoAugmentConfig, generator: torch.Generator) -> Tensor:
    """Which cells of ``mask (N, P, K)`` are erased."""
    draws = torch.rand(mask.shape, generator=generator, device=generator.device)
    rows = torch.rand(mask.shape[:2], generator=generator, device=generator.device)
    return (draws < config.cell_drop) | (rows < config.part_drop)[:, :, None]
