"""Cached crops become network input, against the definition pixel by pixel; augmentation, and mirrors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from hhmnet.data.augment import AugmentConfig
from hhmnet.data.roi import RoiConfig, empty_crops
from hhmnet.data.transform import DataConfig, SampledFrames, SkeletonBatch, choose_frames, prepare
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
from hhmnet.skeleton import KINECT20
from made_crops import Frames, crops_of, made_clip, pictures

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
    frames = len(positions)
    wanted = np.interp((np.arange(count) + 0.5) * frames / count - 0.5, np.arange(frames), positions)
    return [min(range(len(times)), key=lambda n: abs(times[n] - one)) for one in wanted]


def plain_among(value: float, positions: list[float]) -> float:
    """Where a value lies among increasing positions."""
    for n in range(len(positions) - 1):
        if positions[n] <= value <= positions[n + 1]:
            span = positions[n + 1] - positions[n]
            return n + (value - positions[n]) / span if span else float(n)
    return 0.0 if value < positions[0] else float(len(positions) - 1)


def plain_shown(crops: Tensor, there: Tensor, instant: int, side: int, motion: bool) -> Tensor:
    """The middle of a crop, or the greys of the one before, itself and the next (itself where one lacks) as colours."""
    edge = (crops.shape[1] - side) // 2
    crops = crops[:, edge : edge + side, edge : edge + side].float()
    shown = crops[instant].permute(2, 0, 1)
    if motion:
        beside = [min(max(instant + step, 0), len(crops) - 1) for step in (-1, 0, 1)]
        near = torch.stack([crops[place if there[place] else instant] for place in beside])
        shown = (0.299 * near[..., 0] + 0.587 * near[..., 1] + 0.114 * near[..., 2]).round()
    return (shown / 255 - MEAN) / STD


def plain_input(batch: VideoBatch, positions: Tensor, config: VideoConfig) -> VideoInput:
    """The network's input for evaluation, pixel by pixel from the definition."""
    count, cell = len(batch.parts), config.cell
    grid = torch.zeros(count, 3, 5 * cell, config.instants * cell)
    mask = torch.zeros(count, 5, config.instants, dtype=torch.bool)
    scene = torch.zeros(count, config.scenes, 3, config.scene, config.scene)
    scene_mask = torch.zeros(count, config.scenes, dtype=torch.bool)
    times = torch.zeros(count, config.instants)
    for n in range(count):
        where = positions[n].tolist()
        for k, instant in enumerate(plain_chosen(batch.times[n].tolist(), where, config.instants)):
            times[n, k] = plain_among(float(batch.times[n, instant]), where)
            for p in range(5):
                mask[n, p, k] = batch.part_mask[n, instant, p]
                if mask[n, p, k]:
                    crops = batch.parts[n, :, p], batch.part_mask[n, :, p]
                    image = plain_shown(*crops, instant, cell, config.motion)
                    grid[n, :, p * cell : (p + 1) * cell, k * cell : (k + 1) * cell] = image
        for k, instant in enumerate(plain_chosen(batch.scene_times[n].tolist(), where, config.scenes)):
            scene_mask[n, k] = batch.scene_mask[n, instant]
            if scene_mask[n, k]:
                crops = batch.scene[n], batch.scene_mask[n]
                scene[n, k] = plain_shown(*crops, instant, config.scene, config.motion)
    return VideoInput(grid, mask, scene, scene_mask, times)


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize(("frames", "instants", "motion"), [(1, 7, False), (16, 1, True), (33, 7, False)])
def test_evaluation_by_the_definition(seed, frames, instants, motion):
    config = dataclasses.replace(CONFIG, instants=instants, motion=motion)
    batch, positions = noise_batch(), views(LENGTHS, frames, seed)
    found = prepare_video(batch, positions, None, config)
    expected = plain_input(batch, positions, config)
    for name, a, b in zip(VideoInput._fields, found, expected, strict=True):
        assert a.dtype == b.dtype, name
        # Greys that are a half round either way.
        torch.testing.assert_close(a, b, atol=0.009 if motion else 1e-5, rtol=1e-5, msg=name)


def test_without_a_skeleton_the_whole_clip_is_shown():
    batch = noise_batch((21, 7))
    found = prepare_video(batch, None, None, dataclasses.replace(CONFIG, instants=7))
    assert found.times.tolist() == [list(range(7))] * 2
    np.testing.assert_array_equal(found.cell_mask.numpy(), batch.part_mask.transpose(1, 2).numpy())


@pytest.mark.parametrize("field", ["cell", "scene"])
def test_crops_that_are_too_small(field):
    with pytest.raises(ValueError, match=f"field '{field}' is 60, but the cached crops have"):
        prepare_video(noise_batch(), None, None, dataclasses.replace(CONFIG, **{field: 60}))


# Mirrors: skeleton and video are the same act.


MIRROR = AugmentConfig(mirror=1.0, deform=False)


def test_mirroring_input_is_filming_and_measuring_in_a_mirror():
    """Both halves of a mirrored clip are those of a clip whose raw skeleton and video were mirrored."""
    sample, images = made_clip(3, frames=9), pictures(9)
    width = images[0].shape[1]
    joints = sample.joints[:, :, KINECT20.mirrored] * np.array([-1, 1, 1], np.float32)
    pixels = sample.pixels[:, :, KINECT20.mirrored] * np.array([-1, 1], np.float32) + np.array(
        [width - 1, 0], np.float32
    )
    image_sample = dataclasses.replace(sample, joints=joints, pixels=pixels)
    config = dataclasses.replace(ROI, margin=0)
    here = stack_crops([crops_of(sample, Frames(images), config)])
    there = stack_crops([crops_of(image_sample, Frames([i[:, ::-1].copy() for i in images]), config)])

    data, lengths = DataConfig(frames=6), torch.tensor([9])
    view = choose_frames(lengths, data, MIRROR, seeded(4))
    assert view.mirrored.tolist() == [True]
    clips, image_clips = (
        SkeletonBatch(torch.from_numpy(j[0][:, None].copy()), None, lengths) for j in (sample.joints, joints)
    )
    x, _ = prepare(clips, KINECT20, data, MIRROR, seeded(4), sampled=view)
    expected, _ = prepare(image_clips, KINECT20, data, sampled=SampledFrames(view.positions, None))
    torch.testing.assert_close(x, expected)

    found = prepare_video(here, view.positions, view.mirrored, CONFIG)
    filmed = prepare_video(there, view.positions, None, CONFIG)
    assert torch.equal(found.cell_mask, filmed.cell_mask)
    torch.testing.assert_close(found.grid, filmed.grid, atol=0.01, rtol=0)
    torch.testing.assert_close(found.scene, filmed.scene, atol=0.01, rtol=0)
    assert not torch.allclose(found.grid, prepare_video(here, view.positions, None, CONFIG).grid, atol=0.1)


# Augmentation.


def ruler_batch(clips: int = 6) -> VideoBatch:
    """Crops whose red and green tell the pixel's own place, the same at all instants."""
    config = RoiConfig(instants=3, cell=90, scene=100, scene_instants=2)
    crops = empty_crops(config, 9)
    for array in (crops.parts, crops.scene):
        side = array.shape[-2]
        array[..., 0] = np.arange(side) * 2
        array[..., 1] = np.arange(side)[:, None] * 2
    crops.part_mask[:] = crops.scene_mask[:] = True
    return stack_crops([crops] * clips)


RULER = VideoConfig(instants=3, cell=64, scene=64, scenes=2)


def rulers(found: VideoInput) -> tuple[Tensor, Tensor]:
    """Places ``(N, P + 1, K, 2, 64)`` across and down that the cells and the scenes show, in pixels of the crops."""
    count = len(found.grid)
    cells = (found.grid * STD + MEAN).view(count, 3, 5, 64, 3, 64) * 255 / 2
    parts = torch.stack([cells[:, 0, :, 32], cells[:, 1, ..., 32].transpose(2, 3)], 3)
    scene = (found.scene * STD + MEAN) * 255 / 2
    scenes = torch.stack([scene[:, :, 0, 32], scene[:, :, 1, :, 32]], 2)
    return parts, scenes


@pytest.mark.parametrize(("shift", "zoom"), [(0.4, 0.0), (0.0, 0.25), (1.0, 0.9)])
def test_windows_shift_and_zoom_inside_the_cached_crop(shift, zoom):
    found = prepare_video(ruler_batch(), None, None, RULER, only(shift=shift, zoom=zoom), seeded(2))
    parts, scenes = rulers(found)
    for places, side in ((parts, 90), (scenes[:, None], 100)):
        assert torch.equal(places, places[:, :, :1].expand_as(places)), "the same at all instants of a part"
        places = places[:, :, 0]
        steps = places.diff(dim=-1)[..., 5:-5]  # the outermost pixels lie beyond the first pixel's middle
        scale = steps.mean(-1)
        torch.testing.assert_close(steps, scale[..., None].expand_as(steps), atol=1e-3, rtol=0)
        torch.testing.assert_close(scale[..., 0], scale[..., 1], atol=1e-3, rtol=0)
        assert (scale >= 1 - zoom - 1e-3).all()
        assert (scale <= min(1 + zoom, side / 64) + 1e-3).all()
        assert not zoom or scale.std() > zoom / 10
        middle = places[..., 31:33].mean(-1) - (side - 1) / 2
        room = (side - 64 * scale) / 2
        assert (middle.abs() <= shift * room + 1e-2).all()
        assert not shift or middle.std() > shift * room.mean() / 5
    assert (parts[:, 0] != parts[:, 1]).any(), "each part has its own"


def test_erasing_takes_whole_cells_and_says_so():
    batch = noise_batch((9,) * 200)
    plain = prepare_video(batch, None, None, CONFIG)
    for config, share in ((only(cell_drop=0.3), 0.3), (only(part_drop=0.3), 0.3)):
        found = prepare_video(batch, None, None, CONFIG, config, seeded())
        lost = plain.cell_mask & ~found.cell_mask
        assert not (found.cell_mask & ~plain.cell_mask).any()
        assert float(lost.sum() / plain.cell_mask.sum()) == pytest.approx(share, abs=0.03)
        cells, whole = (one.grid.view(200, 3, 5, 8, 4, 8).permute(0, 2, 4, 1, 3, 5) for one in (found, plain))
        assert not cells[~found.cell_mask].any()
        kept = found.cell_mask
        torch.testing.assert_close(cells[kept], whole[kept], atol=1e-4, rtol=1e-4)
        whole_rows = (lost | ~plain.cell_mask).all(2) & plain.cell_mask.any(2)
        if config.part_drop:
            assert torch.equal(lost.any(2), whole_rows)
        else:
            assert whole_rows.sum() < lost.any(2).sum() / 2
