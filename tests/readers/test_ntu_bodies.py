from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hhmnet.readers.ntu_bodies import Track, mend, motion, persons, seat
from hhmnet.readers.ntu_format import parse
from made_ntu import ID, Body, skeleton

CHAIR = (0.3, 0.5, 0.3)
FRAMES = 60


def track(body: Body) -> Track:
    frames = np.array(list(body.frames))
    return Track(frames, frames, np.stack([body.joints(frame) for frame in frames]).astype(np.float32))


def chosen(bodies: Sequence[Body]) -> tuple[list[list[int]], dict[str, int]]:
    """For every person the last digits of the ids in its frames (-1: absent), and what was noted."""
    file = parse(skeleton(bodies, FRAMES))
    notes: Counter[str] = Counter()
    found = []
    for person in persons(file, notes):
        ids = [-1] * FRAMES
        for frame, row in zip(person.frames.tolist(), person.rows.tolist(), strict=True):
            assert file.frame[row] == frame
            np.testing.assert_array_equal(
                file.joints[row], person.joints[person.frames.tolist().index(frame)]
            )
            ids[frame] = int(file.ids[row]) % 100
        found.append(ids)
    return found, dict(notes)


def who(bodies: Sequence[Body]) -> list[set[int]]:
    return [set(ids) - {-1} for ids in chosen(bodies)[0]]


MOVER = Body(ID, range(FRAMES), sway=0.4)  # ids end in 01, 02, …
OTHER = Body(ID + 1, range(FRAMES), at=(1.2, 0, 3), sway=0.2)
GHOST = Body(ID + 2, range(FRAMES), at=(-1.2, 0, 3), sway=0.1)


def test_a_body_of_zeros_is_none() -> None:
    zeros = {(frame, joint, column): "0" for frame in (4, 5) for joint in range(25) for column in range(3)}
    ids, notes = chosen([replace(MOVER, values=zeros)])
    assert ids == [[1] * 4 + [-1] * 2 + [1] * (FRAMES - 6)]
    assert notes == {"body left out: all joints are zero": 2}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (replace(OTHER, frames=range(3, 14)), "in fewer than 12 frames"),  # 11 are too few, as published
        (replace(OTHER, frames=range(3, 15)), ""),
        (replace(OTHER, size=(1.6, 1.2, 0.4)), "wider than 0.8 of its height in most frames"),
        (replace(OTHER, size=CHAIR, sway=0), "varies by less than 0.05 or more than 2 m²"),
        (replace(OTHER, pace=0.1), "varies by less than 0.05 or more than 2 m²"),
    ],
    ids=["short", "long enough", "wide", "small", "wild"],
)
def test_what_is_no_person_is_removed(body: Body, reason: str) -> None:
    ids, notes = chosen([MOVER, body])
    assert [set(person) - {-1} for person in ids] == ([{1}] if reason else [{1}, {2}])
    assert notes == ({f"body removed: {reason}": 1} if reason else {})


@pytest.mark.parametrize(
    "only",
    [
        Body(ID, range(3)),
        Body(ID, range(FRAMES), size=(2, 0.5, 1)),
        Body(ID, range(FRAMES), size=CHAIR, sway=0),
        Body(ID, range(FRAMES), pace=0.2),
    ],
    ids=["short", "wide", "small", "wild"],
)
def test_the_only_body_is_never_removed(only: Body) -> None:
    assert chosen([only]) == ([[1 if frame in only.frames else -1 for frame in range(FRAMES)]], {})


def test_motion_is_the_variance_over_time_times_the_presence() -> None:
    body = replace(MOVER, frames=range(10, 40), pace=0.02)
    joints = np.stack([body.joints(frame) for frame in body.frames])
    expected = sum(
        sum((value - series.mean()) ** 2 for value in series) / len(series)
        for series in joints.reshape(30, -1).T
    )
    assert motion(track(body), FRAMES) == pytest.approx(expected * 30 / FRAMES, rel=1e-5)


def test_who_moves_most_comes_first_wherever_it_stands_in_the_file() -> None:
    for bodies in ([MOVER, OTHER], [OTHER, MOVER]):
        assert who(bodies) == [{1}, {2}]
    assert who([replace(MOVER, sway=0.1), OTHER]) == [{2}, {1}]
    brief = replace(MOVER, frames=range(14))  # moves more, but is there for a quarter of the time
    assert who([brief, replace(OTHER, sway=0.35)]) == [{2}, {1}]


def test_two_persons_are_kept_and_a_third_is_not() -> None:
    ids, notes = chosen([GHOST, OTHER, MOVER])
    assert [set(person) for person in ids] == [{1}, {2}]
    assert notes == {"body removed: beyond 2 persons at a time": 1}


def test_a_person_whose_id_changes_stays_one_person() -> None:
    """Also where one part is shorter than a track may be, and another person is there."""
    parts = [replace(MOVER, frames=range(25)), replace(MOVER, id=ID + 6, frames=range(28, 36)), OTHER]
    parts.append(replace(MOVER, id=ID + 7, frames=range(36, FRAMES)))
    ids, notes = chosen(parts)
    assert ids[0] == [1] * 25 + [-1] * 3 + [7] * 8 + [8] * 24
    assert ids[1] == [2] * FRAMES
    assert notes == {"track joined: goes on one that broke off nearby": 2}


def test_mending_looks_nearby_and_not_too_long() -> None:
    first = track(replace(MOVER, frames=range(20)))
    near = track(replace(MOVER, frames=range(49, 55), at=(0.3, 0, 3)))
    assert [len(body.frames) for body in mend([near, first], Counter())] == [26]
    far = track(replace(MOVER, frames=range(24, 30), at=(0.9, 0, 3)))
    late = track(replace(MOVER, frames=range(50, 55)))
    overlapping = track(replace(MOVER, frames=range(19, 30)))
    for other in (far, late, overlapping):
        assert len(mend([first, other], Counter())) == 2


def test_a_person_who_comes_back_elsewhere_takes_the_same_place() -> None:
    back = replace(MOVER, id=ID + 6, frames=range(45, FRAMES), at=(-2, 0, 3))
    ids, notes = chosen([replace(MOVER, frames=range(20)), back])
    assert [set(person) for person in ids] == [{1, -1, 7}]
    assert notes == {"track joined: fills a person's place before or after it was seen": 1}


def test_a_place_is_taken_between_its_first_and_last_frame() -> None:
    """A body seen in a gap of another is someone else: the other has its own id again after the gap."""
    gap = Track(np.array([0, 30]), np.array([0, 1]), np.zeros((2, 25, 3), np.float32))
    inside = Track(np.array([10, 20]), np.array([2, 3]), np.ones((2, 25, 3), np.float32))
    assert [person.rows.tolist() for person in seat([gap, inside], Counter())] == [[0, 1], [2, 3]]
    after = Track(np.array([31]), np.array([4]), np.ones((1, 25, 3), np.float32))
    assert [person.rows.tolist() for person in seat([gap, inside, after], Counter())] == [
        [0, 1, 4],
        [2, 3],
    ]
