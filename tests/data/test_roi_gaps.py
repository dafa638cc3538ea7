from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hhmnet.data.roi import GREY, crop_clip, empty_crops
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20, PARTS
from made_crops import (
    HEIGHT,
    SMALL,
    WIDTH,
    Frames,
    made_clip,
    pictures,
    standing,
)

# What is missing.


def with_confidence(sample: Sample, **zero: list[int]) -> Sample:
    """The clip with these parts' joints missing in these frames."""
    confidence = np.ones((*sample.present.shape, 20), np.float32)
    for part, frames in zero.items():
        for t in frames:
            confidence[0, t, list(KINECT20.parts[part])] = 0
    return dataclasses.replace(sample, confidence=confidence)


def test_a_missing_part_is_shown_as_in_the_nearest_frame_that_has_it() -> None:
    whole = made_clip(frames=5)
    video = Frames(pictures(5))
    config = dataclasses.replace(SMALL, window=1.0)
    full = crop_clip(whole, KINECT20, video, config)
    part = PARTS.index("left_hand")
    crops = crop_clip(with_confidence(whole, left_hand=[0, 1, 3]), KINECT20, video, config)
    assert crops.part_mask.all()
    for n, shown in enumerate([2, 2, 2, 2, 4]):  # of two frames equally near the earlier
        np.testing.assert_array_equal(crops.parts[n, part], full.parts[shown, part])
    others = [p for p in range(5) if p != part]
    np.testing.assert_array_equal(crops.parts[:, others], full.parts[:, others])


def test_a_part_that_is_never_seen() -> None:
    crops = crop_clip(
        with_confidence(made_clip(frames=5), head=list(range(5))), KINECT20, Frames(pictures(5)), SMALL
    )
    assert not crops.part_mask[:, 0].any()
    assert not crops.parts[:, 0].any()
    assert crops.part_mask[:, 1:].all()
    assert crops.scene_mask.all()


def test_a_part_out_of_the_picture_is_nothing_and_near_its_edge_partly_grey() -> None:
    sample = made_clip(frames=5, pixels=np.tile(standing(48, 8, 40), (1, 5, 1, 1)).astype(np.float32))
    pixels = sample.pixels.copy()
    foot, head = list(KINECT20.parts["left_foot"]), KINECT20.index("head")
    pixels[0, 2, foot] = (48, HEIGHT + 40)
    pixels[0, 3, foot] = (-1e30, 1e30)
    pixels[0, 1, head] = (48, 0)
    sample = dataclasses.replace(sample, pixels=pixels)
    crops = crop_clip(sample, KINECT20, Frames([np.full((HEIGHT, WIDTH, 3), 200, np.uint8)] * 5), SMALL)
    assert crops.part_mask[:, PARTS.index("left_foot")].tolist() == [True, True, False, False, True]
    assert not crops.parts[2:4, PARTS.index("left_foot")].any()
    edge = crops.parts[1, 0]
    assert (edge[:6] == GREY).all()
    assert (edge[-6:] == 200).all()


def test_the_nearest_frame_that_the_video_has() -> None:
    sample = made_clip(frames=5, video_frames=np.array([-1, 0, -1, 1, -1], np.int32))
    video = Frames(pictures(2))
    crops = crop_clip(sample, KINECT20, video, SMALL)
    assert crops.times.tolist() == [1, 1, 1, 3, 3]
    assert video.asked == [0, 1]
    whole = crop_clip(
        made_clip(frames=5), KINECT20, Frames([video.images[0]] * 3 + [video.images[1]] * 2), SMALL
    )
    np.testing.assert_array_equal(crops.parts[:3], np.stack([whole.parts[1]] * 3))
    np.testing.assert_array_equal(crops.parts[3:], np.stack([whole.parts[3]] * 2))


def test_without_video_frames_the_frames_are_those_of_the_recording() -> None:
    sample = made_clip(frames=3, frame_index=np.array([1, 4, 30], np.int32))
    video = Frames(pictures(6))
    crops = crop_clip(dataclasses.replace(sample, video_frames=None), KINECT20, video, SMALL)
    assert video.asked == [1, 4]
    assert crops.times.tolist() == [0, 0, 1, 1, 1]


def test_a_video_that_shows_nothing_of_the_clip() -> None:
    sample = made_clip(frames=4, video_frames=np.full(4, -1, np.int32))
    crops = crop_clip(sample, KINECT20, Frames(pictures(4)), SMALL)
    for found, empty in zip(crops, empty_crops(SMALL, 4), strict=True):
        np.testing.assert_array_equal(found, empty)


def test_a_person_who_is_absent() -> None:
    present = np.array([[False, False, True, True, False]])
    sample = made_clip(frames=5)
    joints = sample.joints * present[..., None, None]
    absent = dataclasses.replace(sample, present=present, joints=joints)
    video = Frames(pictures(5))
    crops, whole = (
        crop_clip(s, KINECT20, video, dataclasses.replace(SMALL, window=0.0)) for s in (absent, sample)
    )
    assert crops.part_mask.all()
    np.testing.assert_array_equal(crops.parts, whole.parts[[2, 2, 2, 3, 3]])
    nobody = dataclasses.replace(sample, present=np.zeros_like(present), joints=np.zeros_like(sample.joints))
    crops = crop_clip(nobody, KINECT20, video, SMALL)
    assert not crops.part_mask.any()
    assert crops.scene_mask.all()  # the whole picture


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (10, 10, 10, 30), (30, 30, 10, 10)])
def test_boxes_without_a_size_are_passed_over(box: tuple[float, ...]) -> None:
    boxes = np.tile(np.array(box, np.float32), (1, 5, 1))
    video = Frames(pictures(5))
    plain, boxed = (crop_clip(made_clip(frames=5, boxes=b), KINECT20, video, SMALL) for b in (None, boxes))
    for a, b in zip(plain, boxed, strict=True):
        np.testing.assert_array_equal(a, b)
    by_box = crop_clip(
        made_clip(frames=5, boxes=boxes), KINECT20, video, dataclasses.replace(SMALL, person_scale="box")
    )
    assert by_box.part_mask.all()


def test_without_pixels_the_whole_persons_are_shown_all_the_same() -> None:
    boxes = np.tile(np.array([30, 10, 60, 50], np.float32), (1, 5, 1))
    video = Frames(pictures(5))
    for given in (boxes, None):
        crops = crop_clip(made_clip(frames=5, pixels=None, boxes=given), KINECT20, video, SMALL)
        assert not crops.part_mask.any()
        assert crops.scene_mask.all()
