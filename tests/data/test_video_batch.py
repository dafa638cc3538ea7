"""Cached crops become network input, against the definition pixel by pixel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hhmnet.commands.configuration import ConfigError, read_config
from hhmnet.data.roi import ClipCrops, empty_crops
from hhmnet.data.video_batch import (
    MEAN,
    STD,
    VideoAugmentConfig,
    VideoBatch,
    VideoConfig,
    VideoInput,
    prepare_video,
    stack_crops,
)
from hhmnet.models.spec import ModelSpec, PretrainedError
from made_video_batch import CONFIG, LENGTHS, ROI, noise_batch, plain_chosen, seeded, views


def plain_among(value: float, positions: list[float]) -> float:
    """Where a value lies among increasing positions."""
    for n in range(len(positions) - 1):
        if positions[n] <= value <= positions[n + 1]:
            span = positions[n + 1] - positions[n]
            return n + (value - positions[n]) / span if span else float(n)
    return 0.0 if value < positions[0] else float(len(positions) - 1)


def plain_input(batch: VideoBatch, positions: Tensor, config: VideoConfig) -> VideoInput:
    """The network's input for evaluation, pixel by pixel from the definition."""
    count, cell = len(batch.parts), config.cell
    grid = torch.zeros(count, 3, 5 * cell, config.instants * cell)
    mask = torch.zeros(count, 5, config.instants, dtype=torch.bool)
    scene = torch.zeros(count, config.scenes, 3, config.scene, config.scene)
    scene_mask = torch.zeros(count, config.scenes, dtype=torch.bool)
    times = torch.zeros(count, config.instants)
    edge, scene_edge = (batch.parts.shape[3] - cell) // 2, (batch.scene.shape[2] - config.scene) // 2
    for n in range(count):
        where = positions[n].tolist()
        for k, instant in enumerate(plain_chosen(batch.times[n].tolist(), where, config.instants)):
            times[n, k] = plain_among(float(batch.times[n, instant]), where)
            for p in range(5):
                mask[n, p, k] = batch.part_mask[n, instant, p]
                if mask[n, p, k]:
                    shown = batch.parts[n, instant, p, edge : edge + cell, edge : edge + cell]
                    image = (shown.float().permute(2, 0, 1) / 255 - MEAN) / STD
                    grid[n, :, p * cell : (p + 1) * cell, k * cell : (k + 1) * cell] = image
        for k, instant in enumerate(plain_chosen(batch.scene_times[n].tolist(), where, config.scenes)):
            scene_mask[n, k] = batch.scene_mask[n, instant]
            if scene_mask[n, k]:
                end = scene_edge + config.scene
                shown = batch.scene[n, instant, scene_edge:end, scene_edge:end]
                scene[n, k] = (shown.float().permute(2, 0, 1) / 255 - MEAN) / STD
    return VideoInput(grid, mask, scene, scene_mask, times)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize(("frames", "instants"), [(1, 7), (16, 1), (33, 7)])
def test_evaluation_by_the_definition(seed: int | None, frames: int, instants: int) -> None:
    config = dataclasses.replace(CONFIG, instants=instants)
    batch, positions = noise_batch(), views(LENGTHS, frames, seed)
    found = prepare_video(batch, positions, None, config)
    expected = plain_input(batch, positions, config)
    for name, a, b in zip(VideoInput._fields, found, expected, strict=True):
        assert a.dtype == b.dtype, name
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=name)
    assert (found.times >= 0).all()
    assert (found.times <= frames - 1).all()


def test_without_a_skeleton_the_whole_clip_is_shown() -> None:
    batch = noise_batch((21, 7))
    found = prepare_video(batch, None, None, dataclasses.replace(CONFIG, instants=7))
    assert found.times.tolist() == [list(range(7))] * 2
    np.testing.assert_array_equal(found.cell_mask.numpy(), batch.part_mask.transpose(1, 2).numpy())


def test_a_clip_without_video_is_empty() -> None:
    batch = stack_crops([empty_crops(ROI, 9), ClipCrops(*(a[0].numpy() for a in noise_batch((9,))))])
    for augmentation in (None, VideoAugmentConfig()):
        found = prepare_video(batch, views((9, 9), 16, 3), None, CONFIG, augmentation, seeded())
        assert not any(value[0].any() for value in found[:4])
        assert found.grid[1].any()
        assert torch.isfinite(found.times).all()


@pytest.mark.parametrize("field", ["cell", "scene"])
def test_crops_that_are_too_small(field: str) -> None:
    with pytest.raises(ValueError, match=f"field '{field}' is 60, but the cached crops have"):
        prepare_video(noise_batch(), None, None, dataclasses.replace(CONFIG, **{field: 60}))


def test_mean_and_std_of_earlier_files_are_passed_over(tmp_path: Path) -> None:
    """They could be set, and would have broken a backbone that doesn't expect them."""
    zoo = Path(__file__).parents[2] / "zoo"
    for name in ("nw_ucla/hhmnet", "tennis/hhmnet"):
        fields = json.loads((zoo / name / "config.json").read_text())
        assert fields["video"]["mean"] == MEAN
        assert read_config(zoo / name / "config.yaml").video == ModelSpec.from_dict(fields).video
    with pytest.raises(PretrainedError, match="pretty"):
        ModelSpec.from_dict(fields | {"video": fields["video"] | {"pretty": 1}})
    file = tmp_path / "own.yaml"
    file.write_text("augment: {joint_drop: 0.5}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'augment\.joint_drop'"):
        read_config(file)
