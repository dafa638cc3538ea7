"""The text of NTU RGB+D's ``.skeleton`` files as arrays.

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
_STATES = (0, 1, 2)
_KEPT = [0, 1, 2, 5, 6, 11]  # x y z colorX colorY state
_MAX_DIGITS = 9  # of a count
_TOO_LARGE = 2.0**128 - 2.0**103  # from here on float32 rounds to infinity

_NUMBER = rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_FINITE = re.compile(_NUMBER)
_ALL_FINITE = re.compile(rb"%s(?: %s)*" % (_NUMBER, _NUMBER))
# As C++ streams write what is no number; the last form is that of older Windows libraries.
_NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf|infinity|1\.#(?:IND|INF|QNAN|SNAN)0*)", re.IGNORECASE)

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
            or of more than 100,000 frames.
    """
    lines = _Lines(data)
    frame: list[int] = []
    ids: list[int] = []
    try:
        frames = _walk(lines, frame, ids)
    except ReadError:
        lines.check_joints()  # what is wrong with one of them comes first
        raise
    kept = _table(lines.joint_lines())
    if kept is None:
        kept = lines.check_joints()
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = kept[..., 3:5].astype(np.float32)
    mapped = np.asarray(np.isfinite(pixels).all(-1))
    pixels[~mapped] = 0
    joints, state = kept[..., :3].astype(np.float32), kept[..., 5].astype(np.float32)
    return SkeletonFile(
        frames, np.array(frame, np.int64), np.array(ids, np.uint64), joints, pixels, mapped, state
    )


def _walk(lines: _Lines, frame: list[int], ids: list[int]) -> int:
    """Enter the frame and the id of every body; the number of frames. What joints hold isn't looked at."""
    frames = lines.count("the number of frames")
    if not 0 < frames <= MAX_FRAMES:
        raise lines.fault(f"the number of frames must be 1 to {MAX_FRAMES:,}, is {frames:,}")
    for number in range(frames):
        first = len(ids)
        for _ in range(lines.count(f"the number of bodies of frame {number}")):
            body = lines.body()
            if body in ids[first:]:
                raise lines.fault(f"frame {number} has the body id {body} twice")
            ids.append(body)
            frame.append(number)
            if (joints := lines.count("the number of joints")) != JOINTS:
                raise lines.fault(f"a body must have {JOINTS} joints, this one has {joints}")
            lines.pass_joints()
    while lines.are_left():
        if lines.take(""):
            raise lines.fault(f"goes on after the {frames:,} frames that its first line announces")
    return frames


def _table(lines: list[bytes]) -> np.ndarray | None:
    """What is kept of joints ``(B, 25, 6)`` float64, by Arrow; None where something isn't quite as in most files."""
    text = b"\n".join(lines)
    if not lines or b"(" in text:  # Arrow would take nan(anything) for a number
        return None
    try:
        table = pa.csv.read_csv(pa.BufferReader(text), _READ, _PARSE, _CONVERT)
    except pa.ArrowInvalid:
        return None
    kept = np.stack([table.column(column).to_numpy() for column in _KEPT], axis=-1)
    if len(kept) != len(lines) or not (np.abs(kept[:, :3]) < _TOO_LARGE).all():
        return None
    return kept.reshape(-1, JOINTS, len(_KEPT)) if np.isin(kept[:, -1], _STATES).all() else None


class _Lines:
    """A file's lines, taken one after the other."""

    def __init__(self, data: bytes) -> None:
        self._lines = data.split(b"\n")
        if not self._lines[-1]:
            self._lines.pop()
        self._taken = 0
        self._joints: list[int] = []  # where each body's begin

    def fault(self, reason: str) -> ReadError:
        """A ReadError at the line that was taken last."""
        return ReadError(reason, max(self._taken, 1))

    def are_left(self) -> bool:
        """Whether there is another line."""
        return self._taken < len(self._lines)

    def take(self, what: str) -> list[bytes]:
        """The words of the next line."""
        if not self.are_left():
            reason = "cut short: it ends" if self._lines else "is empty: it ends"
            raise self.fault(f"{reason} where {what} should stand")
        self._taken += 1
        return self._lines[self._taken - 1].split()

    def count(self, what: str) -> int:
        """Take a line that holds one count."""
        word = b" ".join(self.take(what))
        if not word.isdigit() or len(word) > _MAX_DIGITS:
            raise self.fault(f"must hold {what}, a whole number; holds {_short(word)}")
        return int(word)

    def body(self) -> int:
        """Take a body's own line and give its id."""
        words = self.take("a body")
        if len(words) != _BODY_VALUES:
            raise self.fault(f"a body must have {_BODY_VALUES} values, this line has {len(words)}")
        if not words[0].isdigit() or len(words[0]) > 20 or int(words[0]) >= 2**64:
            raise self.fault(f"a body's id must be a whole number of 64 bits, is {_short(words[0])}")
        if not _ALL_FINITE.fullmatch(b" ".join(words)):
            for word in words:
                self._number(word)
        return int(words[0])

    def pass_joints(self) -> None:
        """Take a body's joints, whatever they hold."""
        self._joints.append(self._taken)
        self._taken += JOINTS
        if self._taken > len(self._lines):
            self._taken = len(self._lines)
            self.take("a joint")

    def joint_lines(self) -> list[bytes]:
        """The lines of all joints that were passed."""
        return [line for start in self._joints for line in self._lines[start : start + JOINTS]]

    def check_joints(self) -> np.ndarray:
        """What is kept of the joints that were passed, ``(B, 25, 6)`` float64; raises ReadError for the first fault."""
        before, values = self._taken, []
        for start in self._joints:
            self._taken = start
            values += [self._joint() for _ in range(JOINTS)]
        self._taken = before
        return np.array(values).reshape(-1, JOINTS, len(_KEPT))

    def _joint(self) -> list[float]:
        words = self.take("a joint")
        if len(words) != _JOINT_VALUES:
            raise self.fault(f"a joint must have {_JOINT_VALUES} values, this line has {len(words)}")
        values = [self._number(word) for word in words]
        if not all(abs(value) < _TOO_LARGE for value in values[:3]):
            raise self.fault(f"a joint's position must be finite, is {_short(b' '.join(words[:3]))}")
        if values[-1] not in _STATES:
            raise self.fault(f"a joint's tracking state must be 0, 1 or 2, is {_short(words[-1])}")
        return [values[column] for column in _KEPT]

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
