from __future__ import annotations

import time

import numpy as np
import pytest
from plain_ntu import plain_parse

from hhmnet.readers import ReadError, ntu_format
from hhmnet.readers.ntu_format import SkeletonFile, parse, parse_line_by_line, parse_plain_cases
from made_ntu import ID, JOINTS, Body, changed, skeleton

TWO = (Body(ID, range(2, 9)), Body(ID + 1, range(5, 12), at=(1, 0, 3)))
JOINT = "0.1 0.2 3 270.5 190.25 1000.5 500.25 0 0 0 0 2"  # stands in line 5 of a made file
BODY = f"{ID} 0 1 1 1 1 0 0.02 -0.05 2"


def joint(column: int, text: str) -> str:
    """A joint's line with one of its values replaced."""
    words = JOINT.split()
    words[column] = text
    return " ".join(words)


def check(found: SkeletonFile, data: bytes) -> None:
    """Compare with the plain parser, to the last bit."""
    frames = plain_parse(data)
    bodies = [(number, body) for number, frame in enumerate(frames) for body in frame]
    assert found.frames == len(frames)
    assert found.frame.tolist() == [number for number, _ in bodies]
    assert found.ids.tolist() == [body.id for _, body in bodies]
    for name in ("joints", "pixels", "mapped"):
        array = getattr(found, name)
        assert array.shape[:2] == (len(bodies), JOINTS)
        for row, (_, body) in enumerate(bodies):
            np.testing.assert_array_equal(array[row], getattr(body, name))
    assert found.joints.dtype == found.pixels.dtype == found.state.dtype == np.float32
    states = [body.values[:, 11] for _, body in bodies]
    np.testing.assert_array_equal(found.state, np.reshape(states, (-1, JOINTS)))


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("bodies", [(Body(),), TWO, ()], ids=["one", "two", "none"])
def test_both_parsers_agree_with_a_plain_one(bodies: tuple[Body, ...], end: str) -> None:
    data = skeleton(bodies, end=end)
    fast = parse_plain_cases(data)
    assert fast is not None
    for found in (fast, parse_line_by_line(data), parse(data)):
        check(found, data)


def test_ids_that_float64_cannot_tell_apart_stay_apart() -> None:
    """Also those with leading zeros, and the largest of 64 bits."""
    assert float(ID) == float(ID + 1)
    data = skeleton((Body(ID), Body(ID + 1), Body(2**64 - 1)), frames=2)
    for found in (parse_plain_cases(data), parse_line_by_line(data)):
        assert found is not None
        assert found.ids.tolist() == [ID, ID + 1, 2**64 - 1] * 2
    data = changed(3, f"0042{BODY.removeprefix(str(ID))}")
    assert parse(data).ids[0] == 42


@pytest.mark.parametrize(
    "joint",
    [
        "+1 -.5 3. 1e2 1E-2 1e+02 007 0 0 0 0 2.0",
        "0.1000000014901161193847656250001 16777217 3 0 0 1 2 0 0 0 0 1",
        "1e-50 -0 340282346638528859811704183484516925440 0 0 1 2 0 0 0 0 1",
        "\t0.1  0.2 \t3 270.5 190.25 1000.5 500.25 0 0 0 0 2 ",
        "0.1 0.2 3 nan 190.25 -inf 500.25 0 0 Infinity 0 2",
        "0.1 0.2 3 nan 190.25 -1.#INF 1.#QNAN0 0 -1.#IND00 Infinity 0 2",
        "0.1 0.2 3 0 0 1e39 1e400 0 0 0 0 2",
    ],
)
def test_unusual_numbers(joint: str) -> None:
    data = changed(5, joint)
    check(parse(data), data)
    check(parse_line_by_line(data), data)


@pytest.mark.parametrize("word", ["nan", "-1.#IND", "1e400"])
def test_what_is_not_kept_of_a_body_need_not_be_finite(word: str) -> None:
    data = changed(3, BODY.replace("0.02", word))
    check(parse(data), data)


def test_joints_without_finite_pixels_are_told() -> None:
    data = skeleton((Body(values={(3, 4, 5): "NaN", (3, 9, 6): "-1.#INF"}),))
    found = parse(data)
    assert np.argwhere(~found.mapped).tolist() == [[3, 4], [3, 9]]
    assert not found.pixels[3, [4, 9]].any()
    assert np.isfinite(found.pixels).all()
    assert found.joints[3, 4].any()


def test_spaces_and_blank_lines_at_the_end_are_fine() -> None:
    data = skeleton()
    for ending in (b"", b"\n", b"\r\n \r\n\t\n\n"):
        check(parse(data.rstrip() + ending), data)


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b"", 1, "is empty: it ends where the number of frames should stand"),
        (b"\r\n", 1, "must hold the number of frames, a whole number; holds ''"),
        (b"0\r\n", 1, "the number of frames must be 1 to 100,000, is 0"),
        (b"100001\n" + 100_001 * b"0\n", 1, "the number of frames must be 1 to 100,000, is 100,001"),
        (b"3\n0\n0\n", 3, "cut short: it ends where the number of bodies of frame 2 should stand"),
        (b"999999999\n", 1, "the number of frames must be 1 to 100,000, is 999,999,999"),
        (b"1000000000000\n0\n", 1, "must hold the number of frames, a whole number; holds '1000000000000'"),
        (b"\xef\xbb\xbf2\n0\n0\n", 1, r"must hold the number of frames, a whole number; holds '\xef\xbb\xbf2'"),
        (b"2\n0\n0\n0\n", 4, "goes on after the 2 frames that its first line announces"),
        (skeleton() + b"the end\n", 562, "goes on after the 20 frames that its first line announces"),
        (changed(1, "20.0"), 1, "must hold the number of frames, a whole number; holds '20.0'"),
        (changed(1, "+20"), 1, "must hold the number of frames, a whole number; holds '+20'"),
        (changed(1, "19"), 534, "goes on after the 19 frames"),
        (changed(1, "21"), 561, "cut short: it ends where the number of bodies of frame 20 should stand"),
        (changed(2, "-1"), 2, "must hold the number of bodies of frame 0, a whole number; holds '-1'"),
        (changed(2, "0"), 3, "must hold the number of bodies of frame 1, a whole number; holds '72057594037937101 0"),
        (changed(2, "2"), 30, "a body must have 10 values, this line has 1"),
        (changed(2, "999999999"), 30, "a body must have 10 values, this line has 1"),
        (changed(2, None), 2, "must hold the number of bodies of frame 0"),
        (changed(2, ""), 2, "must hold the number of bodies of frame 0, a whole number; holds ''"),
        (changed(3, BODY + " 0"), 3, "a body must have 10 values, this line has 11"),
        (changed(3, BODY.replace("0.02", "x")), 3, "'x' is no number"),
        (changed(3, "-" + BODY), 3, f"a body's id must be a whole number of 64 bits, is '-{ID}'"),
        (changed(3, BODY.replace(str(ID), str(2**64))), 3, "a body's id must be a whole number of 64 bits"),
        (changed(3, BODY.replace(str(ID), "7e16")), 3, "a body's id must be a whole number of 64 bits, is '7e16'"),
        (changed(4, "24"), 4, "a body must have 25 joints, this one has 24"),
        (changed(4, "1000000"), 4, "a body must have 25 joints, this one has 1000000"),
        (changed(5, None), 29, "a joint must have 12 values, this line has 1"),
        (changed(5, JOINT + " 1"), 5, "a joint must have 12 values, this line has 13"),
        (changed(5, JOINT[:-2]), 5, "a joint must have 12 values, this line has 11"),
        (changed(6, joint(1, "left")), 6, "'left' is no number"),
        (changed(6, joint(3, "1_0")), 6, "'1_0' is no number"),
        (changed(6, joint(3, "0x10")), 6, "'0x10' is no number"),
        (changed(6, joint(3, "nan(1)")), 6, "'nan(1)' is no number"),
        (changed(6, joint(3, "1,5")), 6, "'1,5' is no number"),
        (changed(6, joint(3, "1e")), 6, "'1e' is no number"),
        (changed(6, joint(1, "nan")), 6, "a joint's position must be finite, is '0.1 nan 3'"),
        (changed(6, joint(1, "-1.#IND")), 6, "a joint's position must be finite, is '0.1 -1.#IND 3'"),
        (changed(6, joint(1, "3.5e38")), 6, "a joint's position must be finite, is '0.1 3.5e38 3'"),
        (changed(7, joint(11, "3")), 7, "a joint's tracking state must be 0, 1 or 2, is '3'"),
        (changed(7, joint(11, "0.5")), 7, "a joint's tracking state must be 0, 1 or 2, is '0.5'"),
        (changed(7, joint(11, "1e-99")), 7, "a joint's tracking state must be 0, 1 or 2, is '1e-99'"),
        (changed(7, joint(11, "nan")), 7, "a joint's tracking state must be 0, 1 or 2, is 'nan'"),
        (skeleton((Body(), Body(sway=0)), 3), 30, f"frame 0 has the body id {ID} twice"),
        (changed(30, "00" + BODY, skeleton((Body(), Body(ID + 1)), 3)), 30, f"frame 0 has the body id {ID} twice"),
        (skeleton()[:1000], 14, "a joint must have 12 values, this line has 10"),
        (skeleton().replace(b"\r\n", b"\r"), 1, "must hold the number of frames"),
        (skeleton().replace(b"\n", b"\0\n"), 1, r"must hold the number of frames, a whole number; holds '20 \x00'"),
        (changed(9, "9" * 3000), 9, "a joint must have 12 values, this line has 1"),
        (changed(9, joint(1, "é")), 9, "is no number"),
    ],
)  # fmt: skip
def test_what_is_not_the_format_is_refused_with_line_and_reason(data: bytes, line: int, reason: str) -> None:
    assert parse_plain_cases(data) is None
    with pytest.raises(ValueError):  # noqa: PT011
        plain_parse(data)
    with pytest.raises(ReadError) as caught:
        parse(data)
    assert reason in caught.value.reason
    assert caught.value.line == line
    assert caught.value.reason.isascii()
    assert len(caught.value.reason) < 200


def test_counts_of_what_is_not_there_cost_neither_time_nor_memory() -> None:
    start = time.perf_counter()
    for data in (b"100000\n" + b"999999999\n" * 3, b"99999\n", b"1\n" + b"9" * 2_000_000):
        with pytest.raises(ReadError):
            parse(data)
    assert time.perf_counter() - start < 2


def test_a_file_of_absurd_size_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntu_format, "MAX_BYTES", 2**20)
    with pytest.raises(ReadError, match="is larger than 1 MiB, so it is no skeleton file"):
        parse(b"1\n" + b"0\n" * 2**20)
