from __future__ import annotations

import numpy as np
import pytest

from hhmnet.pose.tracking import Track, Tracker, Traits, choose_actors, is_double, join, rate_tracks
from made_people import Way, box, detections, straight

SIZE = (480, 270)


def track(number: int, frames: range, way: Way, score: float = 0.9) -> Track:
    made = Track(number)
    for frame in frames:
        place = way(frame)
        assert place is not None
        made.add(frame, box(place), score)
    return made


def swinging(x: float, y: float, size: tuple[float, float], reach: float) -> Way:
    """Who acts stays in place, but the box grows and shrinks with the arms."""

    def way(frame: int) -> tuple[float, float, float, float]:
        return (x, y, size[0] + reach * np.sin(frame / 4), size[1])

    return way


def choose(tracks: list[Track], persons: int = 1, frames: range = range(60)) -> list[int]:
    return [found.number for found, _ in choose_actors(tracks, frames, SIZE, 30, persons)]


def test_the_larger_of_two_acts() -> None:
    player = track(1, range(60), straight((260, 150), (0, 0), (50, 130)))
    spectator = track(2, range(60), straight((220, 60), (0, 0), (15, 40)), score=0.95)
    assert choose([spectator, player]) == [1]


def test_who_moves_acts_rather_than_who_stands_by() -> None:
    player = track(1, range(60), swinging(300, 150, (50, 120), 30))
    coach = track(2, range(60), straight((180, 140), (0, 0), (40, 130)))
    assert choose([coach, player]) == [1]


def test_who_is_there_all_the_time_acts() -> None:
    player = track(1, range(60), straight((240, 150), (0, 0), (40, 100)))
    passing = track(2, range(20, 35), straight((100, 150), (4, 0), (50, 140)))
    assert choose([passing, player]) == [1]


def test_the_cameras_motion_is_no_motion() -> None:
    def panned(way: Way) -> Way:
        def moved(frame: int) -> tuple[float, float, float, float] | None:
            place = way(frame)
            return None if place is None else (place[0] - 3 * frame, *place[1:])

        return moved

    still = [straight((200 + 60 * i, 60), (0, 0), (30, 80)) for i in range(4)]
    tracks = [track(i, range(60), panned(way)) for i, way in enumerate(still)]
    rated = rate_tracks(tracks, range(60), SIZE, 30)
    assert max(traits.motion for traits in rated) == pytest.approx(0, abs=1e-4)
    alone = rate_tracks(tracks[:1], range(60), SIZE, 30)  # nothing to tell the camera's motion by
    assert alone[0].motion == pytest.approx(3 * 30 / 80 / 2, rel=1e-3)  # two of four edges move


def test_traits_are_what_they_say() -> None:
    made = track(1, range(0, 30, 3), straight((360, 100), (0, 0), (40, 135)), score=0.8)
    (traits,) = rate_tracks([made], range(0, 60, 3), SIZE, 30)
    assert traits == pytest.approx((0.5, 0.8, 0.5, 0.75, 0.0))
    assert traits.importance == pytest.approx(0.5 * 0.8**0.5 * 0.5 * 0.75)
    assert Traits(1, 1, 1, 1, 5.0).importance == 2


def test_pieces_of_one_way_are_joined() -> None:
    way = straight((100, 150), (1, 0))
    pieces = [track(1, range(0, 10), way), track(2, range(25, 40), way), track(3, range(52, 60), way)]
    whole, left = join(pieces[1], [pieces[2], pieces[0]])
    assert whole.number == 2
    assert whole.frames == [*range(0, 10), *range(25, 40), *range(52, 60)]
    assert left == []
    assert len(whole.boxes) == len(whole.scores) == len(whole.frames)


@pytest.mark.parametrize(
    "other",
    [
        track(2, range(5, 20), straight((100, 150), (1, 0))),
        track(2, range(90, 99), straight((100, 150), (0, 0))),
        track(2, range(20, 30), straight((400, 150), (0, 0))),
        track(2, range(20, 30), straight((100, 150), (1, 0), (20, 50))),
    ],
    ids=["at the same time", "too late", "too far", "too small"],
)
def test_other_persons_are_not_joined(other: Track) -> None:
    whole, left = join(track(1, range(10), straight((100, 150), (1, 0))), [other])
    assert whole.frames == list(range(10))
    assert left == [other]


def test_one_person_is_not_chosen_twice() -> None:
    player = track(1, range(60), straight((240, 150), (0, 0), (50, 130)))
    double = track(2, range(10, 50), straight((244, 146), (0, 0), (56, 120)), score=0.8)
    other = track(3, range(60), straight((330, 140), (0, 0), (30, 80)), score=0.8)
    assert is_double(double, player)
    assert not is_double(other, player)
    assert choose([player, double, other], persons=2) == [1, 3]
    assert choose([player, double, other], persons=5) == [1, 3]


def test_nobody_to_choose() -> None:
    assert choose([]) == []


def test_the_actor_is_found_among_spectators_and_false_detections() -> None:
    made = np.random.default_rng(5)
    crowd: list[Way] = [straight((30 + 55 * i, 40), (0, 0), (16, 40)) for i in range(8)]
    player = swinging(230, 170, (50, 130), 20)
    tracker = Tracker()
    for frame in range(0, 90, 3):
        boxes, scores, _ = detections([*crowd, player], frame)
        seen = made.random(len(boxes)) < 0.9
        false = box((made.uniform(0, 480), made.uniform(0, 270), 60, 150))
        boxes, scores = np.concatenate([boxes[seen], false[None]]), np.append(scores[seen], np.float32(0.55))
        tracker.update(frame, boxes + made.normal(0, 1, boxes.shape), scores)
    ((found, traits),) = choose_actors(tracker.tracks, range(0, 90, 3), SIZE, 30, 1)
    path = found.boxes_at(np.array([0, 45, 87]))
    assert np.abs((path[:, 0] + path[:, 2]) / 2 - 230).max() < 10
    assert traits.presence > 0.8
