from __future__ import annotations

import numpy as np

from hhmnet.pose.base import Poses, iou
from hhmnet.pose.following import AHEAD, BEHIND, Follower, body_box
from hhmnet.pose.tracking import Track
from made_people import BoxEstimator, Way, box, straight


def picture(frame: int) -> np.ndarray:
    image = np.zeros((240, 320, 3), np.uint8)
    image[..., 0] = frame
    return image


def tracked(number: int, frames: range, way: Way) -> Track:
    track = Track(number)
    for frame in frames:
        place = way(frame)
        assert place is not None
        track.add(frame, box(place), 0.9)
    return track


def run(estimator: BoxEstimator, tracks: list[Track], frames: int) -> Follower:
    follower = Follower(estimator, tracks, frames)
    for frame in range(frames):
        follower.estimate(frame, picture(frame))
    return follower


def test_joints_follow_the_person() -> None:
    way = straight((80, 120), (1.5, 0))
    estimator = BoxEstimator()
    found = run(estimator, [tracked(1, range(0, 60, 3), way)], 60)
    assert found.present.all()
    assert found.has_world
    # Led by regions the made estimator stays behind; where the detector looks, the box must still be right.
    for frame in range(0, 60, 3):
        place = way(frame)
        assert place is not None
        assert iou(found.boxes[0, frame][None], box(place)[None])[0, 0] > 0.1


def test_the_frame_before_leads_and_the_box_begins() -> None:
    estimator = BoxEstimator()
    run(estimator, [tracked(1, range(0, 30, 3), straight((100, 120), (0, 0)))], 30)
    assert estimator.led[0] == (0, False)
    assert all(led for _, led in estimator.led[1:])


def test_who_is_lost_is_looked_for_in_the_box() -> None:
    estimator = BoxEstimator(blind=[10, 11])
    found = run(estimator, [tracked(1, range(0, 30, 3), straight((100, 120), (0, 0)))], 30)
    assert np.flatnonzero(~found.present[0]).tolist() == [10, 11]
    # In frame 10 it was led, found nobody, and looked into the box; in 11 and 12 there was nothing to lead it.
    assert [one for one in estimator.led if one[0] in (10, 11, 12)] == [
        (10, True),
        (10, False),
        (11, False),
        (12, False),
    ]
    assert not found.pixels[0, 10].any()
    assert not found.confidence[0, 10].any()
    assert not found.boxes[0, 10].any()


def test_a_jump_is_believed_if_the_detector_saw_it() -> None:
    def jumping(frame: int) -> tuple[float, float, float, float]:
        return (60.0 if frame < 15 else 250.0, 120.0, 40.0, 100.0)

    track = tracked(1, range(30), jumping)
    found = run(BoxEstimator(), [track], 30)
    centers = (found.boxes[0, :, 0] + found.boxes[0, :, 2]) / 2
    np.testing.assert_allclose(centers[:15], 60, atol=5)
    np.testing.assert_allclose(centers[15:], 250, atol=5)


def test_the_search_begins_a_little_before_and_ends_a_little_after_the_track() -> None:
    found = run(BoxEstimator(), [tracked(1, range(50, 60), straight((100, 120), (0, 0)))], 150)
    there = np.flatnonzero(found.present[0])
    assert there[0] == 50 - AHEAD
    assert there[-1] == 59 + BEHIND


class Magnet(BoxEstimator):
    """Always finds the person in the middle, as it may happen when one person covers the other."""

    def estimate(self, image: np.ndarray, boxes: np.ndarray, regions: np.ndarray | None = None) -> Poses:
        frame = int(image[0, 0, 0])
        if 10 <= frame < 20 and regions is not None and not np.isnan(regions).any():
            boxes, regions = box((160.0, 120.0, 40.0, 100.0))[None], None
        return super().estimate(image, boxes, regions)


def test_two_tracks_do_not_stay_on_one_person() -> None:
    tracks = [tracked(1, range(30), straight((160, 120), (0, 0)))]
    # The second one stands so near that the box of the first still touches it.
    tracks.append(tracked(2, range(30), straight((184, 120), (0, 0))))
    found = run(Magnet(), tracks, 30)
    centers = (found.boxes[..., 0] + found.boxes[..., 2]) / 2
    there = found.present
    assert there[0].all()
    np.testing.assert_allclose(centers[0], 160, atol=5)
    np.testing.assert_allclose(centers[1][there[1]], 184, atol=5)
    assert there[1].sum() >= 28


def test_a_box_around_trusted_joints_stays_in_the_picture() -> None:
    pixels = np.array([[10, 20], [60, 120], [50, 30], [500, 500]], np.float32)
    trust = np.array([0.9, 0.9, 0.5, 0.1])
    np.testing.assert_allclose(body_box(pixels, trust, 320, 100), [0, 10, 70, 100])
    assert not body_box(pixels, np.array([0.9, 0.9, 0.1, 0.1]), 320, 100).any()
    assert not body_box(pixels + 1000, trust, 320, 100).any()
