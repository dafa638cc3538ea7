"""What is cut out of videos, against its definition; what is shown where something is missing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hhmnet.data.places import person_sizes
from hhmnet.data.roi import GREY, RoiConfig, cut_clip, empty_crops
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20, PARTS
from made_crops import (
    HEIGHT,
    SMALL,
    TOLERANCE,
    WIDTH,
    Frames,
    crops_of,
    made_clip,
    pictures,
    plain_cut,
    plain_resize,
    standing,
)


def plain_side(sample: Sample, t: int, config: RoiConfig) -> int:
    """Side of a part's crop in frame ``t``: the median of the person's size around it."""
    sizes = person_sizes(sample, KINECT20)
    near = [size for u, size in enumerate(sizes) if abs(u - t) <= config.window * len(sizes) / 2 and size > 0]
    return max(8, round(float(np.median(near)) * config.part_size * (1 + config.margin)))


@pytest.mark.parametrize(
    "changed",
    [
        {"window": 0.1},
        {"part_size": 0.7, "cell": 11, "instants": 3},  # shrinks, and reaches out of the picture
        {"part_size": 0.2, "cell": 40, "margin": 0, "instants": 2},  # grows
    ],
    ids=str,
)
def test_parts_by_the_definition(changed):
    sample, images, config = made_clip(3, frames=9), pictures(9), dataclasses.replace(SMALL, **changed)
    crops = crops_of(sample, Frames(images), config)
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


# Videos that can't be read.


def test_lost_pictures_are_named_and_left_empty():
    sample, images = made_clip(frames=5), pictures(5)
    whole = crops_of(sample, Frames(images), SMALL)
    cut, problem = cut_clip(sample, KINECT20, Frames(images, lost=[1, 2]), SMALL)
    assert problem == "frame 1: is lost (2 pictures in all)"
    assert cut.part_mask.any(1).tolist() == [True, False, False, True, True]
    np.testing.assert_array_equal(cut.parts[[0, 3, 4]], whole.parts[[0, 3, 4]])
    assert not cut.parts[1:3].any()
    cut, problem = cut_clip(sample, KINECT20, Frames(images[:4]), SMALL)
    assert problem == "frame 4: is lost"
    assert cut.part_mask.any(1).tolist() == [True, True, True, True, False]


# What is missing.


def test_a_missing_part_is_shown_as_in_the_nearest_frame_that_has_it():
    whole, video = made_clip(frames=5), Frames(pictures(5))
    config, part = dataclasses.replace(SMALL, window=1.0), PARTS.index("left_hand")
    confidence = np.ones((1, 5, 20), np.float32)
    confidence[0, [[0], [1], [3]], list(KINECT20.parts["left_hand"])] = 0
    full = crops_of(whole, video, config)
    crops = crops_of(dataclasses.replace(whole, confidence=confidence), video, config)
    assert crops.part_mask.all()
    for n, shown in enumerate([2, 2, 2, 2, 4]):  # of two frames equally near the earlier
        np.testing.assert_array_equal(crops.parts[n, part], full.parts[shown, part])
    others = [p for p in range(5) if p != part]
    np.testing.assert_array_equal(crops.parts[:, others], full.parts[:, others])
    never = dataclasses.replace(whole, confidence=confidence * 0)
    assert not crops_of(never, video, config).part_mask.any()


def test_a_part_out_of_the_picture_is_nothing_and_near_its_edge_partly_grey():
    sample = made_clip(frames=5, pixels=np.tile(standing(48, 8, 40), (1, 5, 1, 1)).astype(np.float32))
    pixels = sample.pixels.copy()
    foot, head = list(KINECT20.parts["left_foot"]), KINECT20.index("head")
    pixels[0, 2, foot] = (48, HEIGHT + 40)
    pixels[0, 3, foot] = (-1e30, 1e30)
    pixels[0, 1, head] = (48, 0)
    sample = dataclasses.replace(sample, pixels=pixels)
    crops = crops_of(sample, Frames([np.full((HEIGHT, WIDTH, 3), 200, np.uint8)] * 5), SMALL)
    assert crops.part_mask[:, PARTS.index("left_foot")].tolist() == [True, True, False, False, True]
    assert not crops.parts[2:4, PARTS.index("left_foot")].any()
    edge = crops.parts[1, 0]
    assert (edge[:6] == GREY).all()
    assert (edge[-6:] == 200).all()


def test_the_nearest_frame_that_the_video_has():
    sample = made_clip(frames=5, video_frames=np.array([-1, 0, -1, 1, -1], np.int32))
    video = Frames(pictures(2))
    crops = crops_of(sample, video, SMALL)
    assert crops.times.tolist() == [1, 1, 1, 3, 3]
    assert video.asked == [0, 1]
    whole = crops_of(made_clip(frames=5), Frames([video.images[0]] * 3 + [video.images[1]] * 2), SMALL)
    np.testing.assert_array_equal(crops.parts[:3], np.stack([whole.parts[1]] * 3))
    np.testing.assert_array_equal(crops.parts[3:], np.stack([whole.parts[3]] * 2))


def test_what_shows_nothing_of_a_clip_is_empty():
    elsewhere = made_clip(frames=4, video_frames=np.full(4, -1, np.int32))
    for video in (Frames(pictures(4)), None):
        cut, problem = cut_clip(elsewhere, KINECT20, video, SMALL)
        assert problem == ""
        for found, empty in zip(cut, empty_crops(SMALL, 4), strict=True):
            np.testing.assert_array_equal(found, empty)


def test_a_person_who_is_absent():
    sample, video, config = made_clip(frames=5), Frames(pictures(5)), dataclasses.replace(SMALL, window=0.0)
    absent, nobody = (
        dataclasses.replace(sample, present=there, joints=sample.joints * there[..., None, None])
        for there in (np.array([[False, False, True, True, False]]), np.zeros((1, 5), bool))
    )
    crops, whole = (crops_of(one, video, config) for one in (absent, sample))
    assert crops.part_mask.all()
    np.testing.assert_array_equal(crops.parts, whole.parts[[2, 2, 2, 3, 3]])
    crops = crops_of(nobody, video, SMALL)
    assert not crops.part_mask.any()
    assert crops.scene_mask.all()  # the whole picture
    assert not crops_of(nobody, video, HIDDEN).scene_mask.any(), "the person may be anywhere"


# The whole persons.


def plain_scene(sample: Sample, times: list[int], image: np.ndarray, n: int, config: RoiConfig) -> np.ndarray:
    size = np.array(image.shape[1::-1])
    points = sample.pixels[:, times]  # (M, L, V, 2)
    low, high = points.min((0, 2)).clip(0), np.minimum(points.max((0, 2)), size - 1)
    side = min(math.ceil((high - low).max() * config.scene_size * (1 + config.margin)), size.max())
    inside = ((low[n] + high[n]) / 2 - (side - 1) / 2).clip(0, np.maximum(size - side, 0))
    corner = np.where(side > size, (size - side) / 2, inside)
    x, y = np.floor(corner + 0.5) + (side - 1) / 2
    return plain_resize(plain_cut(image, x, y, side)[0], config.scene)


@pytest.mark.parametrize("size", [0.9, 3.0])
def test_scenes_by_the_definition(size):
    config = dataclasses.replace(SMALL, scene_size=size, scene_instants=3)
    sample = made_clip(5, frames=9, persons=2)
    images = pictures(9)
    crops = crops_of(sample, Frames(images), config)
    times = [1, 4, 7]
    assert crops.scene_times.tolist() == times
    for n, t in enumerate(times):
        expected = plain_scene(sample, times, images[t], n, config)
        assert np.abs(crops.scene[n] - expected).max() < TOLERANCE


# The controls that see no parts.


def test_a_scene_without_parts_is_the_same_scene():
    sample, images = made_clip(5, frames=9, persons=2), Frames(pictures(9))
    full, alone = (
        crops_of(sample, images, config) for config in (SMALL, dataclasses.replace(SMALL, show="scene"))
    )
    np.testing.assert_array_equal(alone.scene, full.scene)
    assert alone.scene_mask.all()
    assert full.part_mask.any()
    assert not alone.part_mask.any()
    assert not alone.parts.any()


HIDDEN = dataclasses.replace(SMALL, show="background", scene=108, scene_instants=3)


def plain_background(sample: Sample, t: int, image: np.ndarray, config: RoiConfig) -> np.ndarray:
    """The whole picture with the margin around it; every pixel near a person's box is grey."""
    image = image.copy()
    for person in range(sample.num_persons):
        points = sample.pixels[person, t].astype(float)
        left, top, right, bottom = [*points.min(0), *points.max(0)]
        reach = config.grow * max(right - left, bottom - top)
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        across = (left - reach - 1 < x) & (x < right + reach + 1)
        image[across & (top - reach - 1 < y) & (y < bottom + reach + 1)] = GREY
    side = math.ceil(WIDTH * (1 + config.margin))
    return plain_resize(plain_cut(image, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, side)[0], config.scene)


def test_a_background_by_the_definition():
    sample, images = made_clip(5, frames=9, persons=2), pictures(9)
    crops = crops_of(sample, Frames(images), HIDDEN)
    assert crops.scene_times.tolist() == [1, 4, 7]
    for n, t in enumerate((1, 4, 7)):
        assert np.abs(crops.scene[n] - plain_background(sample, t, images[t], HIDDEN)).max() < TOLERANCE
    assert crops.scene_mask.all()
    assert not crops.parts.any()
