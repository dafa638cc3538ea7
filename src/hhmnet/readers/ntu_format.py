"""The text of NTU RGB+D's ``.skeleton`` files as arrays: strict, and fast where nothing is out of the ordinary.

A file is text in lines: the number of frames; for every frame the number of bodies; for every body a line of ten
values, the first of them its id, then the number of joints (25) and a line of twelve values a joint: x, y, z
(metres), depthX, depthY, colorX, colorY (pixels of the 1920 x 1080 video), orientation w, x, y, z, tracking state
(0 not tracked, 1 inferred, 2 tracked).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv

from hhmnet.readers import ReadError

JOINTS = 25
MAX_BYTES = 64 * 2**20
MAX_FRAMES = 100_000

_BODY_VALUES = 10
_JOINT_VALUES = 12
_BODY_LINES = 2 + JOINTS
_STATE = 11
_KEPT = [0, 1, 2, 5, 6, _STATE]  # x y z colorX colorY state
_STATES = (0, 1, 2)
_MAX_DIGITS = 9  # of a count
_MAX_ID_DIGITS = 20
_MAX_ID = 2**64 - 1
_TOO_LARGE = 2.0**128 - 2.0**103  # from here on float32 rounds to infinity

_NUMBER = rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_FINITE = re.compile(_NUMBER)
# As C++ streams write what is no number; the last form is that of older Windows libraries.
_NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf|infinity|1\.#(?:IND|INF|QNAN|SNAN)0*)", re.IGNORECASE)
_JOINT_COUNT = b"%d" % JOINTS
_TWO_MORE = b" 0" * (_JOINT_VALUES - _BODY_VALUES) + b"\n"
_COLUMNS = [str(number) for number in range(_JOINT_VALUES)]
# Without quotes, escapes and words for "nothing", the only numbers that Arrow knows beyond those above are nan(…).
_PARSE = pa.csv.ParseOptions(
    delimiter=" ", quote_char=False, escape_char=False, newlines_in_values=False, ignore_empty_lines=False
)
_CONVERT = pa.csv.ConvertOptions(
    column_types=dict.fromkeys(_COLUMNS, pa.float64()),
    null_values=[],
    strings_can_be_null=False,
    check_utf8=False,
)
_READ = pa.csv.ReadOptions(use_threads=False, column_names=_COLUMNS, block_size=2 * MAX_BYTES)


@dataclass(frozen=True, eq=False)
class SkeletonFile:
    """What one file says: its bodies, one row for each body in each frame, in the order of the file.

    Attributes:
        frames: number of frames T; some may have no body.
        frame: the frame of every row, ``(B,)`` int64 from 0.
        ids: the id of every row's body, ``(B,)`` uint64; no frame has an id twice.
        joints: positions ``(B, 25, 3)`` float32 in metres: x to the image's right, y up, z away from the camera.
        pixels: colour pixels ``(B, 25, 2)`` float32, zeros where ``mapped`` is False.
        mapped: whether the camera could place the joint in the colour image, ``(B, 25)`` bool.
        state: tracking state ``(B, 25)`` float32: 0 not tracked, 1 inferred, 2 tracked.
    """

    frames: int
    frame: np.ndarray
    ids: np.ndarray
    joints: np.ndarray
    pixels: np.ndarray
    mapped: np.ndarray
    state: np.ndarray


def parse(data: bytes) -> SkeletonFile:
    """The bodies in a file's text.

    Positions are the float32 of the float64 nearest to the text. NaN and infinity, in any spelling that C++ writes, are
    allowed where a joint has no place in an image (the pixels) and in values that aren't kept, but not in its position.

    Raises:
        ReadError: with the line, for anything that isn't the format: a number, line, joint or frame too few or
            too many, a word, a tracking state other than 0, 1, 2, an id that a frame has twice, and a file of no frames
            or of more than 100,000 frames or 64 MiB.
    """
    if len(data) > MAX_BYTES:
        raise ReadError(f"is larger than {MAX_BYTES // 2**20} MiB, so it is no skeleton file")
    found = parse_plain_cases(data)
    return parse_line_by_line(data) if found is None else found


def parse_plain_cases(data: bytes) -> SkeletonFile | None:
    """Same as :func:`parse_line_by_line`, some ten times as fast; None where that has to decide.

    Lines of joints, and those of bodies with two zeros added, are handed to Arrow as one table of twelve columns.
    """
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    starts = [0, *(breaks + 1).tolist(), len(data)]
    whole = memoryview(data)
    frame: list[int] = []
    ids: list[bytes] = []
    rows: list[bytes | memoryview] = []
    try:
        frames, line = _whole(data[: starts[1]]), 1
        for number in range(frames):
            bodies, line = _whole(data[starts[line] : starts[line + 1]]), line + 1
            for _ in range(bodies):
                body = data[starts[line] : starts[line + 1]].rstrip()
                joints = starts[line + 2]
                if data[starts[line + 1] : joints].strip() != _JOINT_COUNT:
                    return None
                line += _BODY_LINES
                ids.append(body.split(None, 1)[0])
                rows += (body, _TWO_MORE, whole[joints : starts[line]])
            frame += [number] * bodies
            if bodies > 1 and len(set(map(int, ids[-bodies:]))) < bodies:
                return None
        rest = data[starts[line] :]
    except (IndexError, ValueError):
        return None
    if not 0 < frames <= MAX_FRAMES or rest.strip():
        return None
    if ids and not (b"".join(ids).isdigit() and max(map(len, ids)) <= _MAX_ID_DIGITS):
        return None
    numbers = [int(word) for word in ids]
    kept = _table(b"".join(rows), len(ids))
    if kept is None or not np.isin(kept[-1], _STATES).all() or max(numbers, default=0) > _MAX_ID:
        return None
    found = _file(frames, frame, numbers, kept)
    return found if np.isfinite(found.joints).all() else None


def _whole(line: bytes) -> int:
    """The count in a line; raises ValueError if it holds anything else."""
    word = line.strip()
    if not word.isdigit() or len(word) > _MAX_DIGITS:
        raise ValueError
    return int(word)


def _table(lines: bytes, bodies: int) -> list[np.ndarray] | None:
    """The columns kept, each ``(B, 25)`` float64; None unless the lines hold twelve numbers each."""
    if not bodies:
        return [np.empty((0, JOINTS)) for _ in _KEPT]
    if b"(" in lines:  # Arrow would take nan(anything) for a number
        return None
    try:
        table = pa.csv.read_csv(pa.BufferReader(lines), _READ, _PARSE, _CONVERT)
    except pa.ArrowInvalid:
        return None
    if table.num_rows != bodies * (1 + JOINTS):
        return None
    columns = (table.column(number).to_numpy() for number in _KEPT)
    return [column.reshape(bodies, 1 + JOINTS)[:, 1:] for column in columns]


def _file(frames: int, frame: list[int], ids: list[int], kept: list[np.ndarray]) -> SkeletonFile:
    """Put together what was parsed; ``kept`` are x, y, z, colorX, colorY and state, each ``(B, 25)`` float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        joints, pixels, state = (
            np.stack(part, axis=-1, dtype=np.float32, casting="same_kind")
            for part in (kept[:3], kept[3:5], kept[5:])
        )
    mapped = np.asarray(np.isfinite(pixels).all(-1))
    if not mapped.all():
        pixels[~mapped] = 0
    return SkeletonFile(
        frames, np.array(frame, np.int64), np.array(ids, np.uint64), joints, pixels, mapped, state[..., 0]
    )


def parse_line_by_line(data: bytes) -> SkeletonFile:
    """:func:`parse` by the definition of the format; slow, but it knows the line of every fault."""
    lines = _Lines(data)
    frames = lines.count("the number of frames")
    if not 0 < frames <= MAX_FRAMES:
        raise lines.fault(f"the number of frames must be 1 to {MAX_FRAMES:,}, is {frames:,}")
    frame: list[int] = []
    ids: list[int] = []
    values: list[list[float]] = []
    for number in range(frames):
        seen: set[int] = set()
        for _ in range(lines.count(f"the number of bodies of frame {number}")):
            body = lines.body()
            if body in seen:
                raise lines.fault(f"frame {number} has the body id {body} twice")
            seen.add(body)
            ids.append(body)
            frame.append(number)
            if (joints := lines.count("the number of joints")) != JOINTS:
                raise lines.fault(f"a body must have {JOINTS} joints, this one has {joints}")
            values.extend(lines.joint() for _ in range(JOINTS))
    lines.end(frames)
    kept = np.array(values).reshape(-1, JOINTS, len(_KEPT))
    return _file(frames, frame, ids, list(np.moveaxis(kept, -1, 0)))


class _Lines:
    """A file's lines, taken one after the other."""

    def __init__(self, data: bytes) -> None:
        self._lines = data.split(b"\n")
        if not self._lines[-1]:
            self._lines.pop()
        self._taken = 0

    def fault(self, reason: str) -> ReadError:
        """A ReadError at the line that was taken last."""
        return ReadError(reason, max(self._taken, 1))

    def count(self, what: str) -> int:
        """Take a line that holds one count."""
        words = self._take(what)
        try:
            return _whole(b" ".join(words))
        except ValueError:
            held = _short(b" ".join(words))
            raise self.fault(f"must hold {what}, a whole number; holds {held}") from None

    def body(self) -> int:
        """Take a body's own line and give its id."""
        words = self._take("a body")
        if len(words) != _BODY_VALUES:
            raise self.fault(f"a body must have {_BODY_VALUES} values, this line has {len(words)}")
        is_whole = words[0].isdigit() and len(words[0]) <= _MAX_ID_DIGITS
        if not is_whole or int(words[0]) > _MAX_ID:
            raise self.fault(f"a body's id must be a whole number of 64 bits, is {_short(words[0])}")
        for word in words[1:]:
            self._number(word)
        return int(words[0])

    def joint(self) -> list[float]:
        """Take a joint and give the values that are kept of it."""
        words = self._take("a joint")
        if len(words) != _JOINT_VALUES:
            raise self.fault(f"a joint must have {_JOINT_VALUES} values, this line has {len(words)}")
        values = [self._number(word) for word in words]
        if not all(abs(value) < _TOO_LARGE for value in values[:3]):
            raise self.fault(f"a joint's position must be finite, is {_short(b' '.join(words[:3]))}")
        if values[_STATE] not in _STATES:
            raise self.fault(f"a joint's tracking state must be 0, 1 or 2, is {_short(words[_STATE])}")
        return [values[column] for column in _KEPT]

    def end(self, frames: int) -> None:
        """Raise ReadError unless nothing but blank lines is left."""
        while self._taken < len(self._lines):
            if self._take(""):
                raise self.fault(f"goes on after the {frames:,} frames that its first line announces")

    def _take(self, what: str) -> list[bytes]:
        """The words of the next line."""
        if self._taken == len(self._lines):
            reason = "cut short: it ends" if self._lines else "is empty: it ends"
            raise self.fault(f"{reason} where {what} should stand")
        self._taken += 1
        return self._lines[self._taken - 1].split()

    def _number(self, word: bytes) -> float:
        if _FINITE.fullmatch(word):
            return float(word)
        if _NOT_FINITE.fullmatch(word):
            return float("nan")
        raise self.fault(f"{_short(word)} is no number")


def _short(text: bytes) -> str:
    """Bytes for a message: quoted, escaped where they aren't ASCII, and not too many."""
    shown = ascii(text[:40].decode("latin-1"))
    return f"{shown[:-1]}...'" if len(text) > 40 else shown
