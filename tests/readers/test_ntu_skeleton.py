"""``.skeleton`` files: what is read of them, exactly, or a ReadError that says why; and who is a person."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hhmnet.readers import ReadError, ntu_skeleton
from hhmnet.readers.ntu_skeleton import parse, persons
from made_noise import damaged
from made_ntu import ID, Body, changed, skeleton

assert float(ID) == float(ID + 1)  # ids that float64 can't tell apart stay apart
JOINT = "0.1 0.2 3 270.5 190.25 1000.5 500.25 0 0 0 0 2"  # stands in line 5 of a made file
BODY = f"{ID} 0 1 1 1 1 0 0.02 -0.05 2"
TWO = (Body(ID, range(2)), Body(ID + 1, range(1, 4), at=(1, 0, 3)), Body(2**64 - 1, range(2)))
FILES = [skeleton((Body(),), frames=3), skeleton(TWO, frames=5, end="\n")]


@pytest.mark.parametrize("end", [b"", b"\r\n \r\n\t\n\n"])
def test_bodies_go_by_their_ids(end: bytes) -> None:
    count, tracks = parse(FILES[1].rstrip() + end)
    assert (count, [track.frames.tolist() for track in tracks]) == (5, [[0, 1], [0, 1], [1, 2, 3]])
    for track, body in zip(tracks, (TWO[0], TWO[2], TWO[1]), strict=True):
        lines = [[line.split() for line in body.lines(frame)[2:]] for frame in body.frames]
        expected = np.array(lines, float).astype(np.float32)
        np.testing.assert_array_equal(track.joints, expected[..., :3], strict=True)
        np.testing.assert_array_equal(track.pixels, expected[..., 5:7], strict=True)
        np.testing.assert_array_equal(track.state, expected[..., 11], strict=True)
    assert parse(skeleton(())) == (20, [])


NO = float("nan")


@pytest.mark.parametrize(
    ("line", "text", "kept"),
    [
        (5, "+1 -.5 3. 1e2 1E-2 1e+02 007 0 0 0 0 2.0", [1, -0.5, 3, 100, 7, 2]),
        (5, "0.1000000014901161193847656250001 16777217 3 0 0 1 2 0 0 0 0 1", [0.1, 16777216, 3, 1, 2, 1]),
        (5, "1e-50 -0 340282346638528859811704183484516925440 0 0 1 2 0 0 0 0 1", [0, 0, 2**128 - 2**104, 1, 2, 1]),
        (5, "\t0.1  0.2 \t3 270.5 190.25 1000.5 500.25 0 0 0 0 2 ", [0.1, 0.2, 3, 1000.5, 500.25, 2]),
        (5, "0.1 0.2 3 nan 190.25 -inf 500.25 0 0 Infinity 0 2", [0.1, 0.2, 3, -np.inf, 500.25, 2]),
        (5, "0.1 0.2 3 nan 1 -1.#INF 1.#QNAN0 0 -1.#IND00 Infinity 0 2", [0.1, 0.2, 3, NO, NO, 2]),
        (5, "0.1 0.2 3 0 0 1e39 1e400 0 0 0 0 2", [0.1, 0.2, 3, np.inf, np.inf, 2]),
        (3, BODY.replace("0.02", "-1.#IND"), None),
        (3, BODY.replace("0.02", "1e400"), None),
        (3, f"0042{BODY.removeprefix(str(ID))}", None),
    ],
)  # fmt: skip
def test_unusual_numbers(line: int, text: str, kept: list[float] | None) -> None:
    _, (track, *_) = parse(changed(line, text))
    if kept is not None:
        found = [*track.joints[0, 0], *track.pixels[0, 0], track.state[0, 0]]
        np.testing.assert_array_equal(found, np.float32(kept))


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b"0\r\n", 1, "must hold the number of frames, a whole number from 1 to 100,000; holds '0'"),
        (b"3\n0\n0\n", 3, "cut short: it ends where the number of bodies of frame 2 should stand"),
        (b"2\n0\n0\n0\n", 4, "goes on after the 2 frames that its first line announces"),
        (changed(2, "0"), 3, "must hold the number of bodies of frame 1, a whole number from 0 to 999,999,999; holds"),
        (changed(3, BODY.replace("0.02", "x")), 3, f"has 10: '{ID} 0 1 1 1 1 0 x -0.05 2'"),
        (changed(3, BODY.replace(str(ID), str(2**64))), 3, "first its id, a whole number of 64 bits"),
        (changed(4, "1000000"), 4, "must hold the number of joints, 25; holds '1000000'"),
        (changed(5, None), 29, "a joint must have 12 numbers, first a finite position, last 0, 1 or 2"),
        *((changed(6, JOINT.replace("270.5", word)), 6, f"has 12: '0.1 0.2 3 {word}") for word in
          ("nan(1)", "1_0", "0x1p3", "1,5", "1e", ".", "1.#X")),
        *((changed(6, f"{word} {JOINT[4:]}"), 6, f"has 12: '{word} 0.2") for word in ("nan", "1e39", "-inf")),
        (changed(6, JOINT[:-1] + "3"), 6, "last 0, 1 or 2 (how it was tracked); has 12"),
        (changed(30, "00" + BODY, skeleton((Body(), Body(ID + 1)), 3)), 30, f"frame 0 has the body id {ID} twice"),
        (skeleton().replace(b"\n", b"\0\n"), 1, r"holds '20 \x00'"),
    ],
)  # fmt: skip
def test_what_is_not_the_format_is_refused_with_line_and_reason(data: bytes, line: int, reason: str) -> None:
    with pytest.raises(ReadError) as caught:
        parse(data)
    assert reason in caught.value.reason
    assert caught.value.line == line


def outcome(data: bytes) -> Any:
    """What is read, or the fault."""
    try:
        count, tracks = parse(data)
    except ReadError as error:
        is_brief = error.reason.isascii() and error.reason.isprintable() and len(error.reason) < 300
        return (error.line, error.reason) if is_brief else pytest.fail(error.reason)
    return str([count, *([part.tolist() for part in track] for track in tracks)])


def test_damaged_files_are_read_alike_in_one_go_and_number_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(300):
        rng = random.Random(seed)
        data = damaged(rng, rng.choice(FILES), text=True)
        with monkeypatch.context() as patch:
            patch.setattr(ntu_skeleton, "_by_arrow", lambda lines: None)
            plain = outcome(data)
        assert outcome(data) == plain, seed


CHAIR = (0.3, 0.5, 0.3)
FRAMES = 60


def chosen(bodies: Sequence[Body]) -> tuple[list[list[int]], dict[str, int]]:
    """For every person the last digits of the ids in its frames (-1: absent), and what was noted."""
    _, tracks = parse(skeleton(bodies, FRAMES))
    notes: Counter[str] = Counter()
    found = []
    for person in persons(tracks, notes):
        ids = [-1] * FRAMES
        for frame, joints in zip(person.frames.tolist(), person.joints, strict=True):
            there = [body for body in bodies if frame in body.frames]
            ids[frame] = next(
                one.id % 100 for one in there if np.allclose(one.joints(frame), joints, atol=1e-5)
            )
        found.append(ids)
    return found, dict(notes)


BROKE = "track joined: goes on one that broke off nearby"
MOVER = Body(ID, range(FRAMES), sway=0.4)  # ids end in 01, 02, …
OTHER = Body(ID + 1, range(FRAMES), at=(1.2, 0, 3), sway=0.2)
GHOST = Body(ID + 2, range(FRAMES), at=(-1.2, 0, 3), sway=0.1)


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


@pytest.mark.parametrize("only", [{"frames": range(3)}, {"size": (2, 0.5, 1)}, {"pace": 0.2}], ids=str)
def test_the_only_body_is_never_removed(only: dict[str, Any]) -> None:
    body = Body(ID, **({"frames": range(FRAMES)} | only))
    assert chosen([body]) == ([[1 if frame in body.frames else -1 for frame in range(FRAMES)]], {})


def test_who_moves_most_comes_first_and_a_third_is_left_out() -> None:
    brief = replace(MOVER, frames=range(14))  # moves more, but is there for a quarter of the time
    for bodies, order in (
        ([MOVER, OTHER], [1, 2]),
        ([OTHER, MOVER], [1, 2]),
        ([replace(MOVER, sway=0.1), OTHER], [2, 1]),
        ([brief, replace(OTHER, sway=0.35)], [2, 1]),
        ([GHOST, OTHER, MOVER], [1, 2]),
    ):
        ids, notes = chosen(bodies)
        assert [{*person} - {-1} for person in ids] == [{one} for one in order]
        assert notes == ({"body removed: beyond 2 persons at a time": 1} if len(bodies) > 2 else {})


def test_a_person_whose_id_changes_stays_one_person() -> None:
    """Also where one part is shorter than a track may be, and another person is there."""
    parts = [replace(MOVER, frames=range(25)), replace(MOVER, id=ID + 6, frames=range(28, 36)), OTHER]
    parts.append(replace(MOVER, id=ID + 7, frames=range(36, FRAMES)))
    ids, notes = chosen(parts)
    assert ids[0] == [1] * 25 + [-1] * 3 + [7] * 8 + [8] * 24
    assert ids[1] == [2] * FRAMES
    assert notes == {BROKE: 2}


BACK = "track joined: fills a person's place before or after it was seen"


@pytest.mark.parametrize(
    ("frames", "x", "note"),
    [
        (range(44, FRAMES), 0.3, BROKE),
        (range(45, FRAMES), 0, BACK),
        (range(25, 45), 0.9, BACK),
        (range(14, 30), 0, ""),
    ],
    ids=["nearby", "too late", "too far", "both at once"],
)
def test_who_comes_back_is_the_same_person(frames: range, x: float, note: str) -> None:
    """Nearby and soon the track goes on; later or elsewhere it takes the same place, if nobody is there meanwhile."""
    again = replace(MOVER, id=ID + 6, frames=frames, at=(x, 0, 3))
    ids, notes = chosen([replace(MOVER, frames=range(15)), again])
    assert len(ids) == (1 if note else 2)
    assert notes == ({note: 1} if note else {})
    # A body seen in a gap of another is someone else: the other has its own id again after the gap.
    gap = replace(MOVER, frames=[*range(15), *range(45, FRAMES)])
    assert len(chosen([gap, replace(OTHER, frames=range(20, 40))])[0]) == 2
