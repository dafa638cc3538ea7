from __future__ import annotations

import numpy as np
import pytest

from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.predict.live_pose import LastPictures, LivePose
from hhmnet.video import VideoError
from made_people import BoxEstimator, KnowingDetector, Way, straight

PLAYER = straight((100, 130), (0.2, 0), (60, 140))
BYSTANDER = straight((280, 60), (0, 0), (16, 40))


def picture(frame: int, size: tuple[int, int] = (320, 240)) -> np.ndarray:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[..., 0] = frame
    return image


def live(*ways: Way, window: int = 60, estimator: BoxEstimator | None = None, **chosen: object) -> LivePose:
    config = PoseConfig(**chosen)  # type: ignore[arg-type]
    networks = VideoPoseEstimator(config, KnowingDetector(*ways), estimator or BoxEstimator())
    return LivePose(networks, window, 30.0)


@pytest.mark.parametrize(("rate", "step"), [(15.0, 3), (30.0, 6), (60.0, 12)])
def test_persons_are_looked_for_as_often_a_second_at_any_rate(rate: float, step: int) -> None:
    detector = KnowingDetector(PLAYER)
    pose = LivePose(VideoPoseEstimator(PoseConfig(), detector, BoxEstimator()), 60, rate)
    followed(pose, 30)
    assert detector.asked == list(range(0, 30, step))


def there(start: int, end: int, way: Way) -> Way:
    """A way that leads through some frames alone."""
    return lambda frame: way(frame) if start <= frame < end else None


def followed(pose: LivePose, frames: int) -> list[int]:
    """Who is followed in each frame; 0 for nobody."""
    persons = []
    for frame in range(frames):
        pose.look(frame, picture(frame))
        persons.append(pose.person)
    return persons


def center(pose: LivePose) -> float:
    assert pose.followed is not None
    across = pose.followed.pixels[0, -1, :, 0]
    return float(across.min() + across.max()) / 2


def test_the_most_important_person_is_followed_and_what_is_kept_does_not_grow() -> None:
    starts = range(0, 150, 25)
    passing = [there(start, start + 20, straight((20 + start, 60), (0, 0), (16, 40))) for start in starts]
    alike = straight((100, 130), (0, 0), (60, 140)), straight((220, 130), (0, 0), (60, 140))
    pose = live(*passing, *alike, window=50, every=3)
    assert followed(pose, 150) == [1] * 150  # nor do two alike take turns
    assert pose.followed is not None
    assert (pose.others >= 1, center(pose)) == (True, pytest.approx(100, abs=10))
    tracks = pose._tracker.tracks
    assert (len(tracks) <= 8, len(pose._looked) <= 31) == (True, True)
    assert max(len(track.frames) for track in tracks) <= 31
    assert pose._networks.detector.asked == list(range(0, 150, 3))  # type: ignore[attr-defined]
    found = pose.poses()
    assert (found.pixels.shape, found.present.all()) == ((1, 50, 33, 2), True)


def test_who_becomes_more_important_by_far_is_followed_from_then_on() -> None:
    pose = live(BYSTANDER, there(60, 200, straight((160, 120), (0, 0), (80, 200))))
    persons = followed(pose, 120)
    changed = persons.index(2)
    assert 60 <= changed < 100
    assert persons == [1] * changed + [2] * (120 - changed)
    assert pose.followed is not None
    assert pose.followed.length == 120 - changed  # joints of the first are no part of the window
    assert center(pose) == pytest.approx(160, abs=10)


@pytest.mark.parametrize(("away", "persons"), [(40, {1}), (100, {0, 1, 2})])
def test_who_comes_back_soon_is_the_same_person_and_else_is_gone(away: int, persons: set[int]) -> None:
    def way(frame: int) -> tuple[float, float, float, float] | None:
        return None if 30 <= frame < 30 + away else (100, 130, 60, 140)

    pose = live(way, window=40, estimator=BoxEstimator(blind=range(30, 30 + away)))
    assert set(followed(pose, away + 75)) == persons
    assert pose.followed is not None
    assert pose.poses().present.all()


def test_dropped_frames_are_filled_and_persons_looked_for_all_the_same() -> None:
    pose = live(PLAYER, every=6)
    for frame in range(0, 60, 12):
        pose.look(frame, picture(frame))
    assert pose.followed is not None
    assert pose.followed.person == 1
    filled = pose.poses()
    assert filled.present.shape == (1, 49)
    assert filled.present.all()
    joint, places = filled.pixels[0, :, 4], range(0, 49, 12)
    expected = [np.interp(np.arange(49), places, joint[::12, axis]) for axis in range(2)]
    np.testing.assert_allclose(joint, np.stack(expected, 1), rtol=1e-4)


def test_pictures_of_another_size_begin_anew() -> None:
    pose = live(PLAYER)
    followed(pose, 20)
    pose.look(20, picture(20, (640, 480)))
    assert pose.followed is not None
    assert (pose.followed.length, pose.followed.person) == (1, 2)


def test_pictures_of_the_window_are_kept_and_large_ones_of_fewer_frames() -> None:
    image = np.random.default_rng(0).integers(0, 100, (72, 128, 3), np.uint8)
    pictures, few = LastPictures(5), LastPictures(20, 4 * image.nbytes)
    for frame in (0, 1, 2, 3, 6, 7, 8):
        pictures.add(frame, image)
    np.testing.assert_array_equal(pictures.shown(np.arange(2, 10)), [-1, -1, -1, -1, 6, 7, 8, -1])
    with pytest.raises(VideoError, match="is over"):
        pictures.frame(3)
    for frame in range(50):
        few.add(frame, image + np.uint8(frame))
    kept = few.shown(np.arange(30, 50))
    assert 3 <= (kept >= 0).sum() <= 4
    np.testing.assert_array_equal(few.frame(int(kept.max())), image + np.uint8(kept.max()))
