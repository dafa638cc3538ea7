from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hhmnet.data.places import known_joints, person_sizes
from hhmnet.data.roi import RoiConfig, crop_clip, empty_crops
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20, PARTS
from hhmnet.video import VideoError
from made_crops import (
    SMALL,
    TOLERANCE,
    Frames,
    made_clip,
    pictures,
    plain_cut,
    plain_resize,
    standing,
)


def plain_side(sample: Sample, t: int, config: RoiConfig) -> int:
    """Side of a part's crop in frame ``t``: the median of the person's size around it."""
    sizes = person_sizes(sample, KINECT20, config.person_scale)
    near = [
        sizes[u] for u in range(len(sizes)) if abs(u - t) <= config.window * len(sizes) / 2 and sizes[u] > 0
    ]
    return max(8, round(float(np.median(near)) * config.part_size * (1 + config.margin)))


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(
            SMALL, part_size=0.7, cell=11, instants=3
        ),  # shrinks, and reaches out of the picture
        dataclasses.replace(SMALL, part_size=0.2, cell=40, margin=0, instants=2),  # grows
        dataclasses.replace(SMALL, person_scale="box", window=0.1),
    ],
    ids=["small", "shrinks", "grows", "box"],
)
def test_parts_by_the_definition(config: RoiConfig) -> None:
    boxes = np.stack([np.array([20 + t, 5, 50 + t, 25 + 3 * t], np.float32) for t in range(9)])[None]
    sample = made_clip(3, frames=9, boxes=boxes)
    images = pictures(9)
    crops = crop_clip(sample, KINECT20, Frames(images), config)
    for n in range(config.instants):
        t = min(range(9), key=lambda t: abs(t - ((n + 0.5) * 9 / config.instants - 0.5)))
        assert crops.times[n] == t
        for p, part in enumerate(PARTS):
            joints = [3] if part == "head" else list(KINECT20.parts[part])
            x, y = sample.pixels[0, t, joints].astype(float).mean(0)
            square, inside = plain_cut(images[t], x, y, plain_side(sample, t, config))
            assert crops.part_mask[n, p] == (inside >= 0.25)
            if inside >= 0.25:
                difference = np.abs(crops.parts[n, p] - plain_resize(square, config.cell))
                assert difference.max() < TOLERANCE
            else:
                assert not crops.parts[n, p].any()
    assert crops.part_mask.mean() > 0.7


@pytest.mark.parametrize(("frames", "instants"), [(1, 1), (1, 6), (3, 8), (20, 4), (16, 16)])
def test_instants_are_the_middles_of_equal_slots(frames: int, instants: int) -> None:
    config = dataclasses.replace(SMALL, instants=instants, scene_instants=instants)
    video = Frames(pictures(frames))
    crops = crop_clip(made_clip(frames=frames), KINECT20, video, config)
    for n, time in enumerate(crops.times):
        assert abs(time - ((n + 0.5) * frames / instants - 0.5)) <= 0.5
    np.testing.assert_array_equal(crops.times, crops.scene_times)
    assert (np.diff(crops.times) >= 0).all()
    assert crops.part_mask.all()
    assert crops.scene_mask.all()
    assert len(set(video.asked)) == len(video.asked), "a picture is decoded twice"
    assert video.asked == sorted(video.asked)


def test_shapes_and_types_without_anything() -> None:
    crops = empty_crops(RoiConfig(), 40)
    assert [(a.shape, a.dtype) for a in crops] == [
        ((16, 5, 72, 72, 3), np.uint8),
        ((16, 5), bool),
        ((4, 128, 128, 3), np.uint8),
        ((4,), bool),
        ((16,), np.float32),
        ((4,), np.float32),
    ]
    assert not any(array.any() for array in crops[:4])
    np.testing.assert_allclose(crops.scene_times, [4.5, 14.5, 24.5, 34.5])


# Sizes.


def test_a_person_seen_twice_as_large_fills_the_crops_as_before() -> None:
    sample = made_clip(frames=5)
    near = dataclasses.replace(sample, pixels=sample.pixels * 2 + 0.5)
    rng = np.random.default_rng(0)
    smooth = [
        np.kron(rng.integers(0, 255, (8, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(5)
    ]
    config = dataclasses.replace(SMALL, cell=24)
    one = crop_clip(sample, KINECT20, Frames(smooth), config)
    two = crop_clip(near, KINECT20, Frames([i.repeat(2, 0).repeat(2, 1) for i in smooth]), config)
    np.testing.assert_array_equal(one.part_mask, two.part_mask)
    difference = np.abs(one.parts.astype(int) - two.parts)[one.part_mask]
    assert difference.mean() < 12, "crops are cut in whole pixels, so they differ by up to one of them"


def sides_of(pixels: np.ndarray, config: RoiConfig) -> np.ndarray:
    """Sides of the head's crops, as a picture tells them whose brightness grows from left to right."""
    image = np.broadcast_to(np.arange(250, dtype=np.uint8)[None, :, None], (120, 250, 3))
    frames = pixels.shape[1]
    crops = crop_clip(made_clip(frames=frames, pixels=pixels), KINECT20, Frames([image] * frames), config)
    head = crops.parts[:, 0, config.cell // 2, :, 0].astype(float)
    return (head[:, -2] - head[:, 1]) / (config.cell - 3) * config.cell


def test_the_size_follows_a_person_who_comes_nearer_but_not_one_odd_frame() -> None:
    config = RoiConfig(instants=20, cell=16, window=0.3, scene_instants=1)
    heights = np.linspace(30, 100, 20)
    pixels = np.stack([standing(120, 30, h) for h in heights])[None].astype(np.float32)
    plain = sides_of(pixels, config)
    np.testing.assert_allclose(plain, heights * 0.97 * config.part_size * 1.125, atol=2.5)
    pixels[0, 10, KINECT20.index("left_foot")] += 3000
    np.testing.assert_allclose(sides_of(pixels, config), plain, atol=3)
    whole = sides_of(pixels, dataclasses.replace(config, window=1.0))
    assert np.ptp(whole) < np.ptp(plain)


def test_a_gigantic_person_is_cut_no_larger_than_the_picture() -> None:
    pixels = made_clip(frames=2).pixels * 1e7
    sample = made_clip(frames=2, pixels=pixels)
    crops = crop_clip(sample, KINECT20, Frames(pictures(2)), SMALL)
    assert not crops.part_mask.any()
    assert crops.scene_mask.all()


# Videos that can't be read.


def test_lost_pictures_are_named_and_left_empty() -> None:
    sample, images = made_clip(frames=5), pictures(5)
    with pytest.raises(VideoError, match="frame 2: is lost"):
        crop_clip(sample, KINECT20, Frames(images, lost=[2]), SMALL)
    problems: list[str] = []
    crops = crop_clip(sample, KINECT20, Frames(images, lost=[2]), SMALL, problems)
    whole = crop_clip(sample, KINECT20, Frames(images), SMALL)
    assert problems == ["frame 2: is lost"]
    short: list[str] = []
    cut = crop_clip(sample, KINECT20, Frames(images[:4]), SMALL, short)
    assert short == ["frame 4: is lost"]
    assert cut.part_mask.any(1).tolist() == [True, True, True, True, False]
    assert crops.part_mask.any(1).tolist() == [True, True, False, True, True]
    np.testing.assert_array_equal(crops.parts[[0, 1, 3, 4]], whole.parts[[0, 1, 3, 4]])
    assert not crops.parts[2].any()


def test_a_joint_at_zero_is_missing_where_no_confidence_tells() -> None:
    sample = made_clip(frames=1)
    pixels = sample.pixels.copy()
    pixels[0, 0, list(KINECT20.parts["right_hand"])] = 0
    sample = dataclasses.replace(sample, pixels=pixels)
    assert known_joints(sample).sum() == 18
    crops = crop_clip(sample, KINECT20, Frames(pictures(1)), SMALL)
    assert crops.part_mask[0].tolist() == [part != "right_hand" for part in PARTS]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instants", 0),
        ("cell", 2),
        ("part_size", 0),
        ("person_scale", "shoe"),
        ("margin", -0.1),
        ("scene", 5000),
        ("show", "foreground"),
        ("grow", -0.1),
    ],
)
def test_settings_that_make_no_sense(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"field '{field}'"):
        RoiConfig(**{field: value})
