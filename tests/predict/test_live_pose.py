from __future__ import annotations

import numpy as np
import pytest

from hhmnet.pose.base import Poses
from hhmnet.pose.estimate import PoseConfig
from hhmnet.predict.live_pose import LivePose
from hhmnet.skeleton import BLAZEPOSE33
from made_people import BoxEstimator, KnowingDetector, Way, straight

PLAYER = straight((100, 130), (0.2, 0), (60, 140))
BYSTANDER = straight((280, 60), (0, 0), (16, 40))


def picture(frame: int, size: tuple[int, int] = (320, 240)) -> np.ndarray:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[..., 0] = frame
    return image


def live(
    *ways: Way, window: int = 60, estimator: BoxEstimator | None = None, most: int = 1, **chosen: object
) -> LivePose:
    config = PoseConfig(**chosen)  # type: ignore[arg-type]
    return LivePose(config, window, 30.0, KnowingDetector(*ways), estimator or BoxEstimator(), most)


def there(start: int, end: int, way: Way) -> Way:
    """A way that leads through some frames alone."""
    return lambda frame: way(frame) if start <= frame < end else None


def center(pose: LivePose) -> float:
    newest = pose.newest()
    assert newest is not None
    return float(newest[0][:, 0].min() + newest[0][:, 0].max()) / 2


def test_the_most_important_person_is_followed() -> None:
    pose = live(BYSTANDER, PLAYER)
    for frame in range(60):
        pose.look(frame, picture(frame))
        assert pose.person == 1
        assert center(pose) == pytest.approx(PLAYER(frame)[0], abs=25)  # type: ignore[index]
    found = pose.poses()
    assert found is not None
    assert found.present.shape == (1, 60)
    assert found.present.all()


def test_who_becomes_more_important_by_far_is_followed_from_then_on() -> None:
    pose = live(BYSTANDER, there(60, 200, straight((160, 120), (0, 0), (80, 200))))
    persons = []
    for frame in range(120):
        pose.look(frame, picture(frame))
        persons.append(pose.person)
    changed = persons.index(2)
    assert 60 <= changed < 100
    assert set(persons[:changed]) == {1}
    assert set(persons[changed:]) == {2}
    assert pose.length == 120 - changed  # joints of the first are no part of the window
    assert center(pose) == pytest.approx(160, abs=10)


def test_two_alike_do_not_take_turns() -> None:
    pose = live(straight((100, 120), (0, 0)), straight((210, 120), (0, 0)))
    for frame in range(200):
        pose.look(frame, picture(frame))
        assert pose.person == 1


def test_a_person_who_leaves_is_gone_after_a_while() -> None:
    pose = live(there(0, 30, PLAYER), estimator=BoxEstimator(blind=range(30, 256)))
    persons = []
    for frame in range(120):
        pose.look(frame, picture(frame))
        persons.append(pose.person)
        assert pose.seen == (frame < 30)
    assert persons[:80] == [1] * 80
    assert persons[100:] == [0] * 20
    assert pose.poses() is None
    assert pose.length == 0
    assert pose.newest() is None


@pytest.mark.parametrize(("away", "persons"), [(40, {1}), (100, {0, 1, 2})])
def test_a_person_who_comes_back(away: int, persons: set[int]) -> None:
    def way(frame: int) -> tuple[float, float, float, float] | None:
        return None if 30 <= frame < 30 + away else (100, 130, 60, 140)

    pose = live(way, window=40, estimator=BoxEstimator(blind=range(30, 30 + away)))
    seen = set()
    for frame in range(away + 75):
        pose.look(frame, picture(frame))
        seen.add(pose.person)
    assert seen == persons
    assert pose.seen
    found = pose.poses()
    assert found is not None
    assert found.present.all()


def test_another_who_is_there_takes_the_place_of_one_who_left() -> None:
    pose = live(there(0, 40, PLAYER), BYSTANDER, estimator=BoxEstimator(blind=range(40, 64)))
    for frame in range(100):
        pose.look(frame, picture(frame))
    assert pose.person == 2
    assert center(pose) == pytest.approx(280, abs=10)


def test_dropped_frames_are_filled_and_persons_looked_for_all_the_same() -> None:
    plain, gappy = live(PLAYER, every=6), live(PLAYER, every=6)
    for frame in range(60):
        plain.look(frame, picture(frame))
    for frame in range(0, 60, 12):
        gappy.look(frame, picture(frame))
    assert gappy.person == 1
    whole, filled = plain.poses(), gappy.poses()
    assert whole is not None
    assert filled is not None
    assert filled.present.shape == (1, 49)
    assert filled.present.all()
    expected = [
        np.interp(np.arange(49), range(0, 49, 12), filled.pixels[0, ::12, 4, axis]) for axis in range(2)
    ]
    np.testing.assert_allclose(filled.pixels[0, :, 4], np.stack(expected, 1), rtol=1e-4)


def test_persons_are_looked_for_in_every_nth_frame() -> None:
    detector = KnowingDetector(PLAYER)
    pose = LivePose(PoseConfig(every=5), 60, 30.0, detector, BoxEstimator())
    for frame in range(31):
        pose.look(frame, picture(frame))
    assert detector.asked == list(range(0, 31, 5))


def test_what_is_kept_does_not_grow() -> None:
    passing = [
        there(start, start + 20, straight((20 + start, 60), (0, 0), (16, 40))) for start in range(0, 250, 25)
    ]
    pose = live(PLAYER, *passing, window=50)
    for frame in range(250):
        pose.look(frame, picture(frame))
    tracks = pose._tracker.tracks
    assert len(tracks) <= 6
    assert max(len(track.frames) for track in tracks) <= 31
    assert len(pose._looked) <= 31
    assert pose.length == 50
    found = pose.poses()
    assert found is not None
    assert found.pixels.shape == (1, 50, 33, 2)


def test_mirrored_pictures_swap_left_and_right() -> None:
    plain, mirrored = live(PLAYER), live(PLAYER, mirrored=True)
    for pose in (plain, mirrored):
        pose.look(0, picture(0))
    left, right = (BLAZEPOSE33.index(f"{side}_wrist") for side in ("left", "right"))
    one, other, newest = plain.poses(), mirrored.poses(), mirrored.newest()
    assert one is not None
    assert other is not None
    assert newest is not None
    np.testing.assert_array_equal(one.pixels[0, 0, left], other.pixels[0, 0, right])
    np.testing.assert_array_equal(newest[0], other.pixels[0, 0])


def test_pictures_of_another_size_begin_anew() -> None:
    pose = live(PLAYER)
    for frame in range(20):
        pose.look(frame, picture(frame))
    pose.look(20, picture(20, (640, 480)))
    assert pose.length == 1
    assert pose.person == 2


def test_indices_must_ascend() -> None:
    pose = live(PLAYER)
    pose.look(5, picture(5))
    with pytest.raises(ValueError, match="must ascend"):
        pose.look(5, picture(5))


def test_several_are_followed_and_the_rest_counted() -> None:
    pose = live(PLAYER, straight((220, 120), (0, 0)), BYSTANDER, most=2)
    for frame in range(40):
        pose.look(frame, picture(frame))
        assert [one.person for one in pose.followed] == [1, 2]
        assert pose.others == 1
    centers = [found.pixels[0, -1, :, 0].mean() for place in (0, 1) if (found := pose.poses(place))]
    np.testing.assert_allclose(centers, [PLAYER(39)[0], 220], atol=10)  # type: ignore[index]
    assert pose.poses(2) is None
    assert pose.newest(2) is None


def test_who_leaves_makes_room_for_another() -> None:
    still = straight((60, 120), (0, 0))
    pose = live(
        *(still, there(0, 30, straight((150, 120), (0, 0))), there(20, 200, straight((260, 120), (0, 0)))),
        most=2,
        estimator=BoxEstimator(leads=False),
    )
    followed = []
    for frame in range(80):
        pose.look(frame, picture(frame))
        followed.append([one.person for one in pose.followed])
    assert followed[25] == [1, 2]
    assert followed[79] == [2, 3]  # the first was nearer the middle, and has left


def test_two_who_are_found_in_one_place_are_told_apart() -> None:
    class Stuck(BoxEstimator):
        """Finds from frame 12 to 14 everybody where the first one is."""

        def estimate(self, image: np.ndarray, boxes: np.ndarray, regions: np.ndarray | None = None) -> Poses:
            if 12 <= image[0, 0, 0] < 15:
                boxes, regions = np.array([[80, 70, 120, 170]], np.float32), None
            return super().estimate(image, boxes, regions)

    pose = live(
        straight((100, 120), (0, 0)), straight((220, 120), (0, 0)), most=2, every=10, estimator=Stuck()
    )
    for frame in range(15):
        pose.look(frame, picture(frame))
        assert [one.seen for one in pose.followed] == [True, not 12 <= frame < 15]
