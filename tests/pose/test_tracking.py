from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hhmnet.pose.tracking import Motion, Track, Tracker, assign, choose_actors, join, to_center
from made_people import Way, box, detections, straight

SIZE = (480, 270)


def follow(ways: list[Way], frames: range, jitter: float = 0.0) -> tuple[Tracker, list[set[int]]]:
    """Track made persons; returns which track numbers each of them was given."""
    tracker, noise = Tracker(), np.random.default_rng(0)
    given: list[set[int]] = [set() for _ in ways]
    for frame in frames:
        boxes, scores, whose = detections(ways, frame)
        boxes = boxes + noise.normal(0, jitter, boxes.shape).astype(np.float32)
        order = noise.permutation(len(boxes))  # a detector has no order
        numbers = tracker.update(frame, boxes[order], scores[order])
        for number, person in zip(numbers, np.array(whose, int)[order], strict=True):
            given[int(person)].add(int(number))
    return tracker, given


@pytest.mark.parametrize(("every", "hidden"), [(1, range(0)), (3, range(0)), (1, range(24, 37))])
def test_crossing_persons_keep_their_numbers(every: int, hidden: range) -> None:
    # They pass each other at frame 30, where their boxes are nearly the same.
    ways = [straight((40, 120), (4, 0)), straight((280, 125), (-4, 0), hidden=hidden)]
    tracker, given = follow(ways, range(0, 66, every), jitter=1.0)
    assert sorted(map(tuple, given)) == [(1,), (2,)]
    assert tracker.tracks[0].frames == list(range(0, 66, every))


@pytest.mark.parametrize(("hidden", "tracks"), [(range(20, 40), 1), (range(20, 60), 2)])
def test_a_short_occlusion_ends_no_track_but_a_long_one_does(hidden: range, tracks: int) -> None:
    tracker, _ = follow([straight((50, 100), (2, 0), hidden=hidden)], range(0, 90))
    assert len(tracker.tracks) == tracks


def test_doubtful_detections_continue_tracks_but_begin_none() -> None:
    tracker, person = Tracker(), straight((50, 100), (2, 0))
    for frame in range(20):
        boxes, _, _ = detections([person], frame)
        boxes = np.concatenate([boxes, box((250, 60, 30, 70))[None]])
        sure = 0.9 if frame < 5 else 0.3
        assert tracker.update(frame, boxes, np.float32([sure, 0.3])).tolist() == [1, 0]
    assert tracker.update(20, np.zeros((0, 4)), np.zeros(0)).tolist() == []
    assert len(tracker.tracks) == 1
    path = tracker.tracks[0].boxes_at(np.array([-5, 7, 30]))  # held before and after the detections
    np.testing.assert_allclose(path, [box((50 + 2 * f, 100, 40, 100)) for f in (0, 7, 19)], atol=1e-4)
    # A third of a second later a fast person's boxes have nothing in common, but lie half a height apart.
    fast = Tracker()
    numbers = [fast.update(f, box((50 + 4.8 * f, 100, 40, 100))[None], np.float32([0.9])) for f in (0, 10)]
    assert [n.tolist() for n in numbers] == [[1], [1]]


def test_motion_is_a_kalman_filter() -> None:
    """Against the textbook's matrices for one coordinate, the centre's x."""
    places = np.random.default_rng(1).normal(0, 3, 12).cumsum() + 100
    motion = Motion(0, box((places[0], 50, 40, 100)))
    position, velocity = (100 / 20) ** 2, (100 / 160) ** 2
    state, spread = np.array([places[0], 0.0]), np.diag([4 * position, 100 * velocity])
    move, see = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    for frame in range(1, 12):
        state, spread = move @ state, move @ spread @ move.T + np.diag([position, velocity])
        np.testing.assert_allclose(to_center(motion.predict(frame))[0], state[0], rtol=1e-6)
        gain = spread @ see.T / (see @ spread @ see.T + position)
        state = state + (gain * (places[frame] - see @ state)).ravel()
        spread = (np.eye(2) - gain @ see) @ spread
        motion.correct(box((places[frame], 50, 40, 100)).astype(np.float64))


def track(number: int, frames: range, way: Way, score: float = 0.9) -> Track:
    made = Track(number)
    for frame in frames:
        place = way(frame)
        assert place is not None
        made.add(frame, box(place), score)
    return made


def swinging(x: float, y: float, size: tuple[float, float], reach: float) -> Way:
    """Who acts stays in place, but the box grows and shrinks with the arms."""
    return lambda frame: (x, y, size[0] + reach * np.sin(frame / 4), size[1])


ALL = range(60)
PLAYER = track(1, ALL, straight((240, 150), (0, 0), (50, 130)))


@pytest.mark.parametrize(
    ("player", "other"),
    [
        (PLAYER, track(2, ALL, straight((220, 60), (0, 0), (15, 40)), score=0.95)),
        (
            track(1, ALL, swinging(300, 150, (50, 120), 30)),
            track(2, ALL, straight((180, 140), (0, 0), (40, 130))),
        ),
        (PLAYER, track(2, range(20, 35), straight((100, 150), (4, 0), (50, 140)))),
    ],
    ids=["the larger one", "who moves", "who is there all the time"],
)
def test_who_acts(player: Track, other: Track) -> None:
    assert [found.number for found, _ in choose_actors([other, player], ALL, SIZE, 30, 1)] == [1]
    assert choose_actors([], ALL, SIZE, 30, 1) == []
    double = track(3, range(10, 50), straight((244, 146), (0, 0), (56, 120)), score=0.8)
    chosen = choose_actors([PLAYER, double], ALL, SIZE, 30, 5)
    assert [found.number for found, _ in chosen] == [1], "one person isn't chosen twice"


@pytest.mark.parametrize(
    ("frames", "way"),
    [
        (range(5, 20), straight((100, 150), (1, 0))),
        (range(130, 139), straight((100, 150), (0, 0))),
        (range(20, 30), straight((400, 150), (0, 0))),
        (range(20, 30), straight((100, 150), (1, 0), (20, 50))),
    ],
    ids=["at the same time", "too late", "too far", "too small"],
)
def test_pieces_of_one_way_are_joined_and_other_persons_are_not(frames: range, way: Way) -> None:
    own = straight((100, 150), (1, 0))
    first, piece, other = track(1, range(10), own), track(3, range(52, 60), own), track(2, frames, way)
    whole, left = join(first, [other, piece])
    assert (whole.frames, left) == ([*range(10), *range(52, 60)], [other])


@for_all(hnp.arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(0, 4)), elements=st.floats(0, 2)))
def test_as_many_pairs_as_may_be_at_the_least_cost(costs: np.ndarray) -> None:
    rows, columns = costs.shape
    ways = [
        list(zip(chosen, order, strict=True))
        for count in range(min(rows, columns) + 1)
        for chosen in itertools.combinations(range(rows), count)
        for order in itertools.permutations(range(columns), count)
    ]
    allowed = [pairs for pairs in ways if all(costs[pair] <= 0.8 for pair in pairs)]
    best = min(allowed, key=lambda pairs: (-len(pairs), sum(costs[pair] for pair in pairs)))
    found = assign(costs, 0.8)
    assert len(found) == len(best)
    assert sum(costs[pair] for pair in found) == pytest.approx(sum(costs[pair] for pair in best))
