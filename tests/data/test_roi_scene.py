from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hhmnet.data.roi import GREY, RoiConfig, crop_clip
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from made_crops import (
    HEIGHT,
    SMALL,
    TOLERANCE,
    WIDTH,
    Frames,
    made_clip,
    pictures,
    plain_cut,
    plain_resize,
    standing,
)

# The whole persons.


def test_the_scene_covers_all_persons_and_the_parts_are_the_first_ones() -> None:
    red, blue, ground = (250, 0, 0), (0, 0, 250), (0, 90, 0)
    pixels = np.stack([standing(20, 15, 24), standing(80, 20, 24)])[:, None].astype(np.float32)
    image = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
    for body, colour in zip(pixels[:, 0], (red, blue), strict=True):
        (left, top), (right, bottom) = body.min(0).astype(int), body.max(0).astype(int)
        image[top - 2 : bottom + 3, left - 2 : right + 3] = colour
    sample = made_clip(frames=1, persons=2, pixels=pixels)
    config = dataclasses.replace(SMALL, part_size=0.1, scene=64)
    crops = crop_clip(sample, KINECT20, Frames([image]), config)
    for part in crops.parts[0]:
        assert part[8, 8, 0] > 200, "the first person's"
    scene = crops.scene[0].astype(int)
    reds, blues = (scene[..., 0] > 180).sum(), (scene[..., 2] > 180).sum()
    assert reds == pytest.approx(blues, rel=0.1)
    one = crop_clip(
        dataclasses.replace(
            sample,
            present=np.array([[True], [False]]),
            joints=sample.joints * np.array([1, 0], np.float32)[:, None, None, None],
        ),
        KINECT20,
        Frames([image]),
        config,
    )
    assert not (one.scene[0, ..., 2] > 180).any()
    assert (one.scene[0, ..., 0] > 180).sum() > 2 * reds


def plain_scene(sample: Sample, times: list[int], image: np.ndarray, n: int, config: RoiConfig) -> np.ndarray:
    height, width = image.shape[:2]
    boxes = []
    for t in times:
        points = sample.pixels[:, t].reshape(-1, 2)
        low, high = points.min(0), points.max(0)
        boxes.append((max(low[0], 0), max(low[1], 0), min(high[0], width - 1), min(high[1], height - 1)))
    widest = max(max(box[2] - box[0], box[3] - box[1]) for box in boxes)
    side = min(math.ceil(widest * config.scene_size * (1 + config.margin)), max(width, height))
    left, top, right, bottom = boxes[n]
    corner = []
    for low, high, length in ((left, right, width), (top, bottom, height)):
        if side > length:
            corner.append((length - side) / 2)
        else:
            corner.append(min(max((low + high) / 2 - (side - 1) / 2, 0), length - side))
    x, y = (math.floor(value + 0.5) + (side - 1) / 2 for value in corner)
    return plain_resize(plain_cut(image, x, y, side)[0], config.scene)


@pytest.mark.parametrize("size", [0.9, 1.3, 3.0])
def test_scenes_by_the_definition(size: float) -> None:
    config = dataclasses.replace(SMALL, scene_size=size, scene_instants=3)
    sample = made_clip(5, frames=9, persons=2)
    images = pictures(9)
    crops = crop_clip(sample, KINECT20, Frames(images), config)
    times = [1, 4, 7]
    assert crops.scene_times.tolist() == times
    for n, t in enumerate(times):
        expected = plain_scene(sample, times, images[t], n, config)
        assert np.abs(crops.scene[n] - expected).max() < TOLERANCE


# The control that sees no person.

HIDDEN = dataclasses.replace(SMALL, show="background", scene=108, scene_instants=3)


def plain_background(sample: Sample, t: int, image: np.ndarray, config: RoiConfig) -> np.ndarray:
    """The whole picture with the margin around it; every pixel near a person's box is grey."""
    image = image.copy()
    for person in range(sample.num_persons):
        points = sample.pixels[person, t].astype(float)
        left, top, right, bottom = [*points.min(0), *points.max(0)]
        reach = config.grow * max(right - left, bottom - top)
        for y in range(HEIGHT):
            for x in range(WIDTH):
                if left - reach - 1 < x < right + reach + 1 and top - reach - 1 < y < bottom + reach + 1:
                    image[y, x] = GREY
    side = math.ceil(WIDTH * (1 + config.margin))
    return plain_resize(plain_cut(image, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, side)[0], config.scene)


@pytest.mark.parametrize("grow", [0.0, 0.2])
def test_a_background_by_the_definition(grow: float) -> None:
    config = dataclasses.replace(HIDDEN, grow=grow)
    sample, images = made_clip(5, frames=9, persons=2), pictures(9)
    crops = crop_clip(sample, KINECT20, Frames(images), config)
    assert crops.scene_times.tolist() == [1, 4, 7]
    for n, t in enumerate((1, 4, 7)):
        assert np.abs(crops.scene[n] - plain_background(sample, t, images[t], config)).max() < TOLERANCE
    assert crops.scene_mask.all()
    assert not crops.part_mask.any()
    assert not crops.parts.any()


def test_no_pixel_of_a_person_is_left_and_all_others_are() -> None:
    """The persons' boxes are red and the rest is blue: no red comes through, and blue reaches all four corners."""
    boxes = np.array([[[10 + t, 8, 30 + t, 50] for t in range(6)], [[60, 20, 80 - t, 63] for t in range(6)]])
    inside = boxes.transpose(0, 1, 2)[..., None, [0, 1]].repeat(20, 2) + 5  # no joint is beyond its box
    sample = made_clip(2, 6, 2, boxes=boxes.astype(np.float32), pixels=inside.astype(np.float32))
    images = [np.full((HEIGHT, WIDTH, 3), (0, 0, 255), np.uint8) for _ in range(6)]
    for t, image in enumerate(images):
        for left, top, right, bottom in boxes[:, t]:
            image[top : bottom + 1, left : right + 1] = (255, 0, 0)
    config = dataclasses.replace(HIDDEN, scene_instants=6, grow=0.0)
    crops = crop_clip(sample, KINECT20, Frames(images), config)
    assert crops.scene[..., 0].max() <= GREY
    shown = crops.scene[:, 24:84, 8:100]  # what isn't padding
    assert (shown[:, [0, 0], [0, -1], 2] > 200).all()
    assert (shown[:, :, 48, 2] > 200).all(), "the space between the two isn't hidden"
    seen = crop_clip(sample, KINECT20, Frames(images), dataclasses.replace(config, show="all"))
    assert seen.scene[..., 0].max() > 200
    assert seen.part_mask.any()


def absent(sample: Sample, present: np.ndarray) -> Sample:
    """The clip with its persons there only at times; what is told of their pixels then doesn't count."""
    return dataclasses.replace(sample, present=present, joints=sample.joints * present[..., None, None])


def test_an_absent_person_is_hidden_where_they_were_last_seen() -> None:
    sample = made_clip(4, frames=9, persons=2)
    present = sample.present.copy()
    present[1, 3:] = False
    sample = absent(sample, present)
    images = [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * 9
    crops = crop_clip(sample, KINECT20, Frames(images), HIDDEN)
    stays = sample.pixels.copy()
    stays[1, 3:] = stays[1, 2]
    expected = crop_clip(
        dataclasses.replace(sample, pixels=stays, present=np.ones_like(present)),
        KINECT20,
        Frames(images),
        HIDDEN,
    )
    np.testing.assert_array_equal(crops.scene, expected.scene)


def test_nothing_is_shown_where_nobody_was_ever_found() -> None:
    for sample in (
        made_clip(1, pixels=None),
        absent(made_clip(1), np.zeros((1, 12), bool)),
    ):
        crops = crop_clip(sample, KINECT20, Frames(pictures(12)), HIDDEN)
        assert not crops.scene_mask.any()
        assert not crops.scene.any()
        assert crop_clip(sample, KINECT20, Frames(pictures(12)), SMALL).scene_mask.all()


def test_a_person_far_outside_the_picture_hides_nothing() -> None:
    for place in (-1e4, 1e4, 1e30):
        sample = made_clip(1, 5, pixels=np.full((1, 5, 20, 2), place, np.float32))
        crops = crop_clip(sample, KINECT20, Frames([np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * 5), HIDDEN)
        assert (crops.scene[:, 24:84, 8:100] == 255).all()
