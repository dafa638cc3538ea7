from __future__ import annotations

import itertools

import numpy as np
import pytest

from hhmnet.pose.tracking import Motion, Tracker, TrackingConfig, assign, from_center, to_center
from made_people import Way, box, detections, straight


def follow(ways: list[Way], frames: range, jitter: float = 0.0) -> tuple[Tracker, dict[int, set[int]]]:
    """Track made persons; returns which track numbers each of them was given."""
    tracker, noise = Tracker(), np.random.default_rng(0)
    given: dict[int, set[int]] = {person: set() for person in range(len(ways))}
    for frame in frames:
        boxes, scores, whose = detections(ways, frame)
        boxes = boxes + noise.normal(0, jitter, boxes.shape).astype(np.float32)
        order = noise.permutation(len(boxes))  # a detector has no order
        numbers = tracker.update(frame, boxes[order], scores[order])
        for number, person in zip(numbers, np.array(whose, int)[order], strict=True):
            given[int(person)].add(int(number))
    return tracker, given


def test_one_person_is_one_track() -> None:
    tracker, given = follow([straight((50, 100), (4, 0.5))], range(0, 60), jitter=1.5)
    assert given == {0: {1}}
    assert tracker.tracks[0].frames == list(range(60))


@pytest.mark.parametrize("every", [1, 3])
def test_crossing_persons_keep_their_numbers(every: int) -> None:
    # They pass each other at frame 30, where their boxes are nearly the same.
    ways = [straight((40, 120), (4, 0)), straight((280, 126), (-4, 0))]
    _, given = follow(ways, range(0, 60, every), jitter=1.0)
    assert [len(numbers) for numbers in given.values()] == [1, 1]
    assert given[0] != given[1]


def test_crossing_persons_of_whom_one_is_hidden_keep_their_numbers() -> None:
    hidden = range(24, 37)
    ways = [straight((40, 120), (4, 0)), straight((280, 124), (-4, 0), hidden=hidden)]
    _, given = follow(ways, range(0, 66), jitter=1.0)
    assert [len(numbers) for numbers in given.values()] == [1, 1]
    assert given[0] != given[1]


def test_a_short_occlusion_ends_no_track_but_a_long_one_does() -> None:
    short = straight((50, 100), (2, 0), hidden=range(20, 40))
    long = straight((50, 100), (2, 0), hidden=range(20, 60))
    assert len(follow([short], range(0, 90))[0].tracks) == 1
    assert len(follow([long], range(0, 90))[0].tracks) == 2


def test_a_false_detection_gets_a_track_of_its_own() -> None:
    tracker = Tracker()
    person = straight((50, 100), (2, 0))
    for frame in range(30):
        boxes, scores, _ = detections([person], frame)
        if frame == 10:
            boxes = np.concatenate([boxes, box((250, 60, 30, 70))[None]])
            scores = np.append(scores, np.float32(0.6))
        tracker.update(frame, boxes, scores)
    assert [len(track.frames) for track in tracker.tracks] == [30, 1]


def test_doubtful_detections_continue_tracks_but_begin_none() -> None:
    tracker = Tracker()
    person = straight((50, 100), (2, 0))
    for frame in range(20):
        boxes, _, _ = detections([person], frame)
        boxes = np.concatenate([boxes, box((250, 60, 30, 70))[None]])
        sure = 0.9 if frame < 5 else 0.3
        numbers = tracker.update(frame, boxes, np.float32([sure, 0.3]))
        assert numbers.tolist() == [1, 0]
    assert len(tracker.tracks) == 1


def test_a_fast_person_is_found_by_distance() -> None:
    # A third of a second later the boxes have nothing in common, but lie half a height apart.
    tracker = Tracker()
    numbers = [tracker.update(f, box((50 + 4.8 * f, 100, 40, 100))[None], np.float32([0.9])) for f in (0, 10)]
    assert [n.tolist() for n in numbers] == [[1], [1]]


def test_nobody_is_no_mistake() -> None:
    tracker = Tracker()
    assert tracker.update(0, np.zeros((0, 4)), np.zeros(0)).shape == (0,)
    assert tracker.tracks == []


def test_boxes_between_detections_are_interpolated_and_held_outside() -> None:
    tracker, _ = follow([straight((50, 100), (2, 1))], range(10, 41, 10))
    path = tracker.tracks[0].boxes_at(np.array([0, 15, 40, 55]))
    expected = [box((50 + 2 * f, 100 + f, 40, 100)) for f in (10, 15, 40, 40)]
    np.testing.assert_allclose(path, expected, atol=1e-4)


def test_assignment_is_the_cheapest_of_all() -> None:
    made = np.random.default_rng(3)
    for rows, columns in ((3, 3), (2, 5), (5, 2), (4, 4)):
        costs = made.random((rows, columns))
        pairs = assign(costs, most=0.6)
        assert all(costs[pair] <= 0.6 for pair in pairs)
        best = (0, 0.0)
        for count in range(1, min(rows, columns) + 1):  # most pairs first, then the least cost
            for some in itertools.combinations(range(rows), count):
                for others in itertools.permutations(range(columns), count):
                    chosen = costs[list(some), list(others)]
                    if (chosen <= 0.6).all():
                        best = max(best, (count, -chosen.sum()))
        assert (len(pairs), -sum(costs[pair] for pair in pairs)) == pytest.approx(best)


def test_assignment_of_nothing() -> None:
    assert assign(np.zeros((0, 3)), 1) == []
    assert assign(np.full((2, 2), np.inf), 1) == []


def test_motion_learns_a_constant_velocity() -> None:
    motion = Motion(0, box((0, 0, 40, 100)))
    for frame in range(1, 30):
        motion.predict(frame)
        motion.correct(box((3 * frame, -2 * frame, 40, 100)))
    np.testing.assert_allclose(to_center(motion.predict(39)), [117, -78, 40, 100], atol=2.5)


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


def test_center_form_and_back() -> None:
    boxes = np.array([[1.0, 2, 5, 10], [-3, 0, 3, 8]])
    np.testing.assert_allclose(to_center(boxes)[0], [3, 6, 4, 8])
    np.testing.assert_allclose(from_center(to_center(boxes)), boxes)


def test_thresholds_are_checked() -> None:
    with pytest.raises(ValueError, match="'overlap' must be from 0 to 1"):
        TrackingConfig(overlap=2)
    with pytest.raises(ValueError, match="'doubtful' must not be larger than 'sure'"):
        TrackingConfig(sure=0.3, doubtful=0.4)
