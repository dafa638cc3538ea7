from __future__ import annotations

import numpy as np

from hhmnet.pose.estimators import Pose
from hhmnet.pose.following import AHEAD, BEHIND, Follower, root_path
from hhmnet.pose.tracking import Track
from made_people import BoxEstimator, Way, box, straight


def run(estimator: BoxEstimator, ways: list[Way], seen: range, frames: int) -> Follower:
    tracks = [Track(number) for number in range(1, len(ways) + 1)]
    for track, way in zip(tracks, ways, strict=True):
        for frame in seen:
            place = way(frame)
            assert place is not None
            track.add(frame, box(place), 0.9)
    follower = Follower(estimator, tracks, frames)
    for frame in range(frames):
        follower.estimate(frame, np.full((240, 320, 3), frame, np.uint8))
    return follower


def centers(found: Follower) -> np.ndarray:
    return np.asarray((found.boxes[..., 0] + found.boxes[..., 2]) / 2)


def test_the_frame_before_leads_and_who_is_lost_is_looked_for_in_the_box() -> None:
    estimator = BoxEstimator(blind=[10, 11])
    found = run(estimator, [straight((100, 120), (0, 0))], range(0, 30, 3), 30)
    assert np.flatnonzero(~found.present[0]).tolist() == [10, 11]
    # In frame 10 it was led, found nobody, and looked into the box; in 11 and 12 there was nothing to lead it.
    lost = [(10, True), (10, False), (11, False), (12, False)]
    after = [(frame, True) for frame in range(13, 30)]
    assert estimator.led == [(0, False), *((frame, True) for frame in range(1, 10)), *lost, *after]
    for array in (found.pixels, found.confidence, found.boxes):
        assert not array[0, 10].any()
    # A jump is believed if the detector saw it.
    jump = run(
        BoxEstimator(), [lambda frame: (60.0 if frame < 15 else 250.0, 120.0, 40.0, 100.0)], range(30), 30
    )
    np.testing.assert_allclose(centers(jump)[0], np.repeat([60, 250], 15), atol=5)
    # The search begins a little before a track and ends a little after it.
    late = run(BoxEstimator(), [straight((100, 120), (0, 0))], range(50, 60), 150)
    assert np.flatnonzero(late.present[0]).tolist() == list(range(50 - AHEAD, 60 + BEHIND))


class Magnet(BoxEstimator):
    """Always finds the person in the middle, as it may happen when one person covers the other."""

    def estimate(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None = None) -> Pose:
        if 10 <= image[0, 0, 0] < 20 and region is not None:
            box, region = np.array([140.0, 70.0, 180.0, 170.0]), None
        return super().estimate(image, box, region)


def test_two_tracks_do_not_stay_on_one_person() -> None:
    # The second one stands so near that the box of the first still touches it.
    found = run(Magnet(), [straight((160, 120), (0, 0)), straight((184, 120), (0, 0))], range(30), 30)
    assert found.present.sum(1).tolist() >= [30, 28]
    np.testing.assert_allclose(centers(found)[0], 160, atol=5)
    np.testing.assert_allclose(centers(found)[1][found.present[1]], 184, atol=5)


PICTURE, FOCAL = (640, 480), 1.1
STANDING = np.tile([0.5, -0.2, 4.0], (30, 1))


def seen(way: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A stiff body on a way through the room: metres from its hips, pixels of a pinhole camera, trust, presence."""
    body = np.random.default_rng(2).normal(0, [0.2, 0.5, 0.02], (12, 3))
    points = body + way[:, None]
    pixels = FOCAL * 640 * points[..., :2] / points[..., 2:] + [320, 240]
    world = np.repeat(body[None], len(way), 0).astype(np.float32)
    return world, pixels.astype(np.float32), np.full((len(way), 12), 0.9), np.ones(len(way), bool)


def test_the_way_through_the_room_is_found_again() -> None:
    t = np.linspace(0, 1, 60)
    way = np.stack([-1 + 2 * t, 0.1 * np.sin(6 * t), 5 + t], 1)
    path = root_path(*seen(way), PICTURE, FOCAL)
    # Smoothing takes a little off the ends of the depth, weak perspective a little off all.
    np.testing.assert_allclose(path[5:-5], way[5:-5], atol=0.1)
    wrong = root_path(*seen(way), PICTURE, 2 * FOCAL)  # a wrong focal length scales the depth alone
    np.testing.assert_allclose(wrong, path * [1, 1, 2], rtol=1e-5)


def test_what_is_not_seen_disturbs_no_path() -> None:
    world, pixels, trust, there = seen(STANDING)
    there[10:20], pixels[10:20], trust[10:20] = False, 0, 0  # no body
    trust[5, 3:], pixels[5, 3:] = 0, 0  # too few joints: the frames around tell
    trust[:, 4], pixels[:, 4] = 0.1, 300  # a joint that isn't trusted
    path = root_path(world, pixels, trust, there, PICTURE, FOCAL)
    assert not path[10:20].any()
    np.testing.assert_allclose(path[there], STANDING[there], atol=0.05)
    assert not root_path(world, pixels, trust * 0, there, PICTURE, FOCAL).any()
