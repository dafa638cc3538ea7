"""Damaged ``.skeleton`` files: a ReadError that says why, or exactly what a plain, strict parser reads."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_ntu import PlainBody, plain_parse

from hhmnet.readers import ReadError
from hhmnet.readers.ntu import NTU60
from hhmnet.readers.ntu_format import parse_line_by_line, parse_plain_cases
from hhmnet.sample import Sample
from made_ntu import ID, NAME, Body, put, skeleton

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FILES = [
    skeleton((Body(),), frames=3),
    skeleton((Body(ID, range(2)), Body(ID + 1, range(1, 4), at=(1, 0, 3))), frames=5, end="\n"),
]
FILE = st.sampled_from(FILES)
NUMBERS = "-0 +1 .5 5. . - 0 1 2 3 25 24 -1 1e12 1e400 1e39 1e-400 1_0 0x1p3 1e 1,5 1000000000000 999999999"
IDS = "18446744073709551615 18446744073709551616 72057594037937102"
NO_NUMBERS = "nan -inf Infinity 1.#QNAN -1.#IND00 nan(1) word '' é ٣"
WORDS = st.sampled_from([*f"{NUMBERS} {IDS} {NO_NUMBERS}".split(), "\0", "1\v2", "3\r4", ""])


def read_or_refuse(folder: Path, data: bytes) -> None:
    """Read a file; what comes of it must be what the plain parser says."""
    try:
        frames = plain_parse(data)
    except ValueError:
        frames = None
    put(folder, data)
    sample, refused = None, None
    try:
        sample = NTU60(folder).read(f"{NAME}.skeleton", Counter())
    except ReadError as error:
        refused = error
    if sample is not None:
        assert frames is not None, "read what is not the format"
        check(sample, frames)
    elif refused is not None:
        nobody = frames is not None and not any(body.joints.any() for frame in frames for body in frame)
        assert (frames is None) != nobody, refused.reason
        assert refused.reason.isprintable()
        assert (refused.line is None) == nobody
        assert nobody or 1 <= (refused.line or 0) <= data.count(b"\n") + 1


def check(sample: Sample, frames: list[list[PlainBody]]) -> None:
    """Every body of the sample is one of the file's, in its frame, and no two persons are the same one."""
    assert sample.num_frames == len(frames)
    assert sample.pixels is not None
    assert sample.confidence is not None
    for t, bodies in enumerate(frames):
        left = list(bodies)
        for person in np.flatnonzero(sample.present[:, t]):
            joints = sample.joints[person, t]
            pixels, confidence = sample.pixels[person, t], sample.confidence[person, t]
            same = [
                body
                for body in left
                if np.array_equal(body.joints, joints)
                and np.array_equal(body.pixels, pixels)
                and np.array_equal(body.confidence, confidence)
            ]
            assert same
            left.remove(same[0])
    if len({body.id for bodies in frames for body in bodies}) == 1:  # the only body is never removed
        there = [any(body.joints.any() for body in bodies) for bodies in frames]
        assert sample.present.tolist() == [there]


def test_what_is_not_damaged_is_read(tmp_path: Path) -> None:
    for data in FILES:
        put(tmp_path, data)
        sample = NTU60(tmp_path).read(f"{NAME}.skeleton", Counter())
        check(sample, plain_parse(data))


@FUZZ
@given(data=FILE, cut=st.floats(0, 1), after=st.binary(max_size=3))
def test_cut(tmp_path: Path, data: bytes, cut: float, after: bytes) -> None:
    read_or_refuse(tmp_path, data[: int(cut * len(data))] + after)


@FUZZ
@given(data=FILE, seed=st.integers(0, 2**32), few=st.booleans())
def test_shuffled_lines(tmp_path: Path, data: bytes, seed: int, few: bool) -> None:
    """All of them, or two that change places."""
    lines, rng = data.splitlines(keepends=True), random.Random(seed)
    one, other = rng.sample(range(len(lines)), 2)
    if few:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        rng.shuffle(lines)
    read_or_refuse(tmp_path, b"".join(lines))


@FUZZ
@given(data=FILE, line=st.integers(1, 10_000), times=st.sampled_from([0, 2]))
def test_lines_lost_or_doubled(tmp_path: Path, data: bytes, line: int, times: int) -> None:
    lines = data.splitlines(keepends=True)
    place = line % len(lines)
    read_or_refuse(tmp_path, b"".join(lines[:place] + times * lines[place : place + 1] + lines[place + 1 :]))


@FUZZ
@given(data=FILE, places=st.lists(st.tuples(st.integers(0), st.integers(0)), min_size=1, max_size=3))
def test_swapped_words(tmp_path: Path, data: bytes, places: list[tuple[int, int]]) -> None:
    words = re.split(rb"(\s+)", data)
    for one, other in places:
        i, j = (2 * (number % (len(words) // 2)) for number in (one, other))
        words[i], words[j] = words[j], words[i]
    read_or_refuse(tmp_path, b"".join(words))


@FUZZ
@given(data=FILE, places=st.lists(st.tuples(st.integers(0, 10_000), WORDS), min_size=1, max_size=3))
def test_other_words(tmp_path: Path, data: bytes, places: list[tuple[int, str]]) -> None:
    words = re.split(rb"(\s+)", data)
    for place, word in places:
        words[2 * (place % (len(words) // 2))] = word.encode()
    read_or_refuse(tmp_path, b"".join(words))


@FUZZ
@given(data=FILE, line=st.integers(0, 200), column=st.integers(0, 11), word=WORDS)
def test_another_word_in_a_joint(tmp_path: Path, data: bytes, line: int, column: int, word: str) -> None:
    lines = data.splitlines(keepends=True)
    joints = [i for i, text in enumerate(lines) if len(text.split()) == 12]
    words = lines[joints[line % len(joints)]].split()
    words[column] = word.encode()
    lines[joints[line % len(joints)]] = b" ".join(words) + b"\n"
    read_or_refuse(tmp_path, b"".join(lines))


@FUZZ
@given(data=FILE, places=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=8))
def test_corrupt_bytes(tmp_path: Path, data: bytes, places: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, byte in places:
        damaged[place % len(data)] = byte
    read_or_refuse(tmp_path, bytes(damaged))


@FUZZ
@given(data=FILE, places=st.lists(st.tuples(st.integers(0), st.sampled_from(b"0123456789.-+e \t\r\n"))))
def test_corrupt_bytes_that_look_right(tmp_path: Path, data: bytes, places: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for place, byte in places:
        damaged[place % len(data)] = byte
    read_or_refuse(tmp_path, bytes(damaged))


@FUZZ
@given(text=st.binary(max_size=60) | st.text("0123456789 \n.-+enaif", max_size=60).map(str.encode))
def test_anything_at_all(tmp_path: Path, text: bytes) -> None:
    read_or_refuse(tmp_path, text)


@FUZZ
@given(data=FILE, line=st.integers(0, 200), column=st.integers(0, 11), number=st.floats(width=64))
def test_numbers_are_read_to_the_last_bit(
    tmp_path: Path, data: bytes, line: int, column: int, number: float
) -> None:
    lines = data.splitlines(keepends=True)
    joints = [i for i, text in enumerate(lines) if len(text.split()) == 12]
    words = lines[joints[line % len(joints)]].split()
    words[column] = repr(number).encode()
    lines[joints[line % len(joints)]] = b" ".join(words) + b"\n"
    read_or_refuse(tmp_path, b"".join(lines))


@FUZZ
@given(data=FILE, places=st.lists(st.tuples(st.integers(0), st.sampled_from(b"0123456789.-+e \t\r\n\v(naN"))))
def test_the_fast_parser_never_differs_from_the_strict_one(
    data: bytes, places: list[tuple[int, int]]
) -> None:
    damaged = bytearray(data)
    for place, byte in places:
        damaged[place % len(data)] = byte
    fast = parse_plain_cases(bytes(damaged))
    if fast is None:
        return
    strict = parse_line_by_line(bytes(damaged))
    assert fast.frames == strict.frames
    for name in ("frame", "ids", "joints", "pixels", "mapped", "state"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(strict, name))
        assert getattr(fast, name).dtype == getattr(strict, name).dtype


def test_the_fast_parser_reads_what_is_ordinary() -> None:
    """If it left everything to the other, all tests but this one would pass."""
    for data in FILES:
        assert parse_plain_cases(data) is not None
