"""Batches of crops, and what the tests of their preparation share."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from hhmnet.data.augment import AugmentConfig
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.data.transform import DataConfig, choose_frames
from hhmnet.data.video_batch import (
    VideoAugmentConfig,
    VideoBatch,
    VideoConfig,
    stack_crops,
)

ROI = RoiConfig(instants=7, cell=12, scene=16, scene_instants=3)
CONFIG = VideoConfig(instants=4, cell=8, scene=10, scenes=2)
OFF = VideoAugmentConfig(0, 0, 0, 0, 0, 0, 0)
LENGTHS = (9, 1, 30, 4)


def only(**fields: float) -> VideoAugmentConfig:
    return dataclasses.replace(OFF, **fields)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_batch(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> VideoBatch:
    """Crops of noise, some of them missing, of clips of these lengths."""
    rng = np.random.default_rng(seed)
    clips = []
    for length in lengths:
        crops = empty_crops(ROI, length)
        crops.part_mask[:] = rng.random(crops.part_mask.shape) < 0.8
        crops.scene_mask[:] = rng.random(crops.scene_mask.shape) < 0.8
        crops.parts[crops.part_mask] = rng.integers(0, 256, crops.parts[crops.part_mask].shape)
        crops.scene[crops.scene_mask] = rng.integers(0, 256, crops.scene[crops.scene_mask].shape)
        crops.times[:] = np.clip(np.round(crops.times), 0, length - 1)
        clips.append(crops)
    return stack_crops(clips)


def views(lengths: tuple[int, ...], frames: int, seed: int | None) -> Tensor:
    """Positions ``(N, T)`` as training draws them, or, without a seed, as evaluation takes them."""
    config = DataConfig(frames=frames)
    if seed is None:
        return choose_frames(torch.tensor(lengths), config).positions
    return choose_frames(torch.tensor(lengths), config, AugmentConfig(), seeded(seed)).positions


def plain_chosen(times: list[float], positions: list[float], count: int) -> list[int]:
    chosen = []
    for k in range(count):
        middle = min(max((k + 0.5) * len(positions) / count - 0.5, 0), len(positions) - 1)
        before = min(int(middle), len(positions) - 2) if len(positions) > 1 else 0
        after = min(before + 1, len(positions) - 1)
        wanted = positions[before] + (positions[after] - positions[before]) * (middle - before)
        chosen.append(min(range(len(times)), key=lambda n: abs(times[n] - wanted)))
    return chosen
