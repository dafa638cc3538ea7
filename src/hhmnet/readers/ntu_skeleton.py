"""NTU RGB+D's ``.skeleton`` files: from their text to the bodies that a Kinect saw, and from those to persons.

A file is text in lines: the number of frames; for every frame the number of bodies; for every body a line of ten
values, the first of them its id, then the number of joints (25) and a line of twelve values a joint: x, y, z
(metres), depthX, depthY, colorX, colorY (pixels of the 1920 x 1080 video), orientation w, x, y, z, tracking state
(0 not tracked, 1 inferred, 2 tracked).

A Kinect takes chairs and jackets for bodies, and gives a person a new id after losing sight of them. The rules that
remove bodies, and their thresholds, are those of the preprocessing that the authors of SGN published (P. Zhang et al.,
Semantics-Guided Neural Networks for Efficient Skeleton-Based Human Action Recognition, CVPR 2020) and that CTR-GCN and
others use. That has a motion rule too, but doesn't call it; here it is called, with a lower bound of our own. Also
our own: tracks that broke are joined before anything is removed, every body keeps the frames it was seen in, and a
clip never loses its last body. No rule looks at the action: a clip to be recognised doesn't say whether it takes two.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from hhmnet.readers import ReadError
from hhmnet.readers.joints import motion

JOINTS = 25
MAX_BYTES = 64 * 2**20
MAX_FRAMES = 100_000
MIN_FRAMES = 12  # a body seen in fewer frames is removed
SPREAD_RATIO, SPREAD_SHARE = 0.8, 0.69754
"""A body is removed that is wider (x) than so many times its height (y) in this share of its frames or more."""
MOTION = (0.05, 2.0)
"""A body is removed whose joints' positions vary by less or more, in m². Of the published lower bound, 0.089925,
persons who stand still and partly hidden come too near: adults have 0.12 to 0.23."""
MAX_PERSONS = 2  # who moves most is kept
JOIN_GAP, JOIN_DISTANCE = 30, 0.5
"""A body is the same person as another if it appears at most so many frames after that one was lost, within so many
metres."""

_BODY_VALUES, _JOINT_VALUES = 10, 12
_STATES = (0, 1, 2)
_KEPT = [0, 1, 2, 5, 6, 11]  # x y z colorX colorY state
_MOST = 10**9 - 1  # of a count
_TOO_LARGE = 2.0**128 - 2.0**103  # from here on float32 rounds to infinity
# With the ways in which C++ streams write what is no number; the last is that of older Windows libraries.
_NUMBER = re.compile(
    rb"(?i)[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|nan|inf|infinity|1\.#(?:IND|INF|QNAN|SNAN)0*)"
)
_COLUMNS = dict.fromkeys(map(str, range(_JOINT_VALUES)), pa.float64())
# Without quotes, escapes and words for "nothing", the only numbers that Arrow knows beyond those above are nan(…).
_PARSE = pa.csv.ParseOptions(delimiter=" ", quote_char=False, escape_char=False, ignore_empty_lines=False)
_CONVERT = pa.csv.ConvertOptions(column_types=_COLUMNS, null_values=[], check_utf8=False)
_READ = pa.csv.ReadOptions(use_threads=False, column_names=[*_COLUMNS], block_size=2 * MAX_BYTES)


class Track(NamedTuple):
    """One body over time, a row for every frame that it is seen in."""

    frames: np.ndarray  # which frames these are, ``(F,)`` int64 from 0, in order
    joints: (
        np.ndarray
    )  # ``(F, 25, 3)`` float32 in metres: x to the image's right, y up, z away from the camera
    pixels: np.ndarray  # ``(F, 25, 2)`` float32, NaN or infinite where the camera couldn't place a joint
    state: np.ndarray  # how each joint is tracked, ``(F, 25)`` float32


def read_persons(path: Path, notes: Counter[str]) -> dict[str, Any]:
    """A sample's fields that a ``.skeleton`` file gives: joints, who is there, frames, pixels and confidence. Raises
    ReadError where it isn't such a file, with the line, or has no body; OSError.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ReadError(f"is larger than {MAX_BYTES // 2**20} MiB, so it is no skeleton file")
    frames, tracks = parse(path.read_bytes())
    bodies = persons(tracks, notes)
    if not bodies:
        raise ReadError("no frame has a body")
    size = (len(bodies), frames)
    joints, pixels = (np.zeros((*size, JOINTS, dims), np.float32) for dims in (3, 2))
    confidence, present = np.zeros((*size, JOINTS), np.float32), np.zeros(size, bool)
    unmapped = 0
    for person, body in enumerate(bodies):
        place, mapped = (person, body.frames), np.isfinite(body.pixels).all(-1)
        joints[place], present[place] = body.joints, True
        pixels[place] = np.where(mapped[..., None], body.pixels, np.float32(0))
        confidence[place] = body.state / 2 * mapped
        unmapped += int((~mapped).sum())
    counts = {
        "joint without finite pixels: pixels and confidence set to 0": unmapped,
        "frame without a person: kept and masked": int((~present.any(0)).sum()),
    }
    notes.update(+Counter(counts))
    index, known = np.arange(frames, dtype=np.int32), {"pixels": pixels, "confidence": confidence}
    return {"joints": joints, "present": present, "frame_index": index, **known}


def parse(data: bytes) -> tuple[int, list[Track]]:
    """The number of frames in a file's text, and its bodies by their ids, in the order in which they appear.

    NaN and infinity, in any spelling that C++ writes, are allowed where a joint has no place in an image (the pixels)
    and in values that aren't kept, but not in its position. Raises ReadError, with the line, for anything that isn't
    the format, an id that a frame has twice, and a file of no frames or of more than 100,000.
    """
    lines = _Lines(data)
    frame: list[int] = []  # of every body in the file's order
    rows: dict[int, list[int]] = {}  # a body's places in that order, by its id
    try:
        frames = lines.count("the number of frames", 1, MAX_FRAMES)
        for number in range(frames):
            for _ in range(lines.count(f"the number of bodies of frame {number}", 0, _MOST)):
                seen = rows.setdefault(body := lines.body(), [])
                if seen and frame[seen[-1]] == number:
                    raise lines.fault(f"frame {number} has the body id {body} twice")
                seen.append(len(frame))
                frame.append(number)
                lines.count("the number of joints", JOINTS, JOINTS)
                lines.bodies.append(lines.at)
                lines.at += JOINTS
        if lines.at < len(lines.lines):
            lines.at += 1
            raise lines.fault(f"goes on after the {frames:,} frames that its first line announces")
    except ReadError:
        lines.read_joints()  # what is wrong with one of them comes first
        raise
    kept, frame_of = lines.read_joints(), np.array(frame, np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        kept = kept.astype(np.float32)
    joints, pixels, state = kept[..., :3], kept[..., 3:5], kept[..., 5]
    return frames, [Track(frame_of[at], joints[at], pixels[at], state[at]) for at in rows.values()]


class _Lines:
    """A file's lines, taken one after the other."""

    def __init__(self, data: bytes) -> None:
        self.lines = data.rstrip().split(b"\n") if data.strip() else []
        self.at = 0  # how many were taken
        self.bodies: list[int] = []  # where the joints of each begin, which are read in the end, all at once

    def fault(self, reason: str) -> ReadError:
        """A ReadError at the line that was taken last."""
        return ReadError(reason, max(self.at, 1))

    def take(self, what: str) -> list[bytes]:
        """The words of the next line."""
        if self.at >= len(self.lines):
            self.at = len(self.lines)
            reason = "cut short: it ends" if self.lines else "is empty: it ends"
            raise self.fault(f"{reason} where {what} should stand")
        self.at += 1
        return self.lines[self.at - 1].split()

    def count(self, what: str, least: int, most: int) -> int:
        """Take a line that holds one count."""
        word = b" ".join(self.take(what))
        if not word.isdigit() or len(word) > len(str(_MOST)) or not least <= int(word) <= most:
            span = f"{least:,}" if least == most else f"a whole number from {least} to {most:,}"
            raise self.fault(f"must hold {what}, {span}; holds {_short(word)}")
        return int(word)

    def body(self) -> int:
        """Take a body's own line and give its id."""
        words = self.take("a body")
        is_id = words and words[0].isdigit() and len(words[0]) <= 20 and int(words[0]) < 2**64
        if not is_id or len(words) != _BODY_VALUES or not all(map(_NUMBER.fullmatch, words)):
            rule = f"must have {_BODY_VALUES} numbers, first its id, a whole number of 64 bits"
            raise self.fault(f"a body {rule}; has {len(words)}: {_short(b' '.join(words))}")
        return int(words[0])

    def read_joints(self) -> np.ndarray:
        """What is kept of the bodies' joints, ``(B, 25, 6)`` float64; raises ReadError for the first fault."""
        values = _by_arrow([line for start in self.bodies for line in self.lines[start : start + JOINTS]])
        if values is None or len(values) != JOINTS * len(self.bodies):
            values = np.array([self._joint(start + at) for start in self.bodies for at in range(JOINTS)])
        return values.reshape(-1, JOINTS, len(_KEPT))

    def _joint(self, at: int) -> list[float]:
        self.at = at
        words = self.take("a joint")
        if len(words) == _JOINT_VALUES and all(map(_NUMBER.fullmatch, words)):
            values = [float("nan") if b"#" in word else float(word) for word in words]
            if all(abs(value) < _TOO_LARGE for value in values[:3]) and values[-1] in _STATES:
                return [values[column] for column in _KEPT]
        rule = f"{_JOINT_VALUES} numbers, first a finite position, last 0, 1 or 2 (how it was tracked)"
        raise self.fault(f"a joint must have {rule}; has {len(words)}: {_short(b' '.join(words))}")


def _by_arrow(lines: list[bytes]) -> np.ndarray | None:
    """What is kept of joints ``(B · 25, 6)`` float64; None where something isn't quite as in most files."""
    text = b"\n".join(lines)
    if not lines or b"(" in text:  # Arrow would take nan(anything) for a number
        return None
    try:
        table = pa.csv.read_csv(pa.BufferReader(text), _READ, _PARSE, _CONVERT)
    except pa.ArrowInvalid:
        return None
    kept = np.stack([table.column(column).to_numpy() for column in _KEPT], axis=-1)
    is_good = len(kept) == len(lines) and (np.abs(kept[:, :3]) < _TOO_LARGE).all()
    return kept if is_good and np.isin(kept[:, -1], _STATES).all() else None


def _short(text: bytes) -> str:
    """Bytes for a message: quoted, escaped where they aren't ASCII, and not too many."""
    shown = ascii(text[:60].decode("latin-1"))
    return f"{shown[:-1]}...'" if len(text) > 60 else shown


def persons(tracks: Sequence[Track], notes: Counter[str]) -> list[Track]:
    """The persons of a clip, the one who moves most first; empty if no frame has a body.

    In this order: bodies all of whose joints lie in the camera's own place (zeros) are left out; tracks that broke are
    joined; those are removed, but never the last, that are too short (published: 11 frames or fewer), too wide or vary
    too little or too much; the rest take the persons' places. ``notes`` counts everything that was done.
    """
    bodies = []
    for track in tracks:
        seen = track.joints.any(axis=(1, 2))
        if not seen.all():
            notes["body left out: all joints are zero"] += int((~seen).sum())
        if seen.any():
            bodies.append(Track(*(part[seen] for part in track)))
    bodies = _mend(bodies, notes)
    if len(bodies) < 2:  # as in most clips
        return bodies
    bodies.sort(key=lambda body: -_motion(body))
    checks: dict[str, Callable[[Track], bool]] = {
        f"in fewer than {MIN_FRAMES} frames": lambda body: len(body.frames) < MIN_FRAMES,
        f"wider than {SPREAD_RATIO:g} of its height in most frames": _is_wide,
        f"varies by less than {MOTION[0]:g} or more than {MOTION[1]:g} m²": _is_still_or_wild,
    }
    for reason, fails in checks.items():
        # Somebody must have been there: if all fail, the one who moves most stays.
        kept = [body for body in bodies if not fails(body)] or bodies[:1]
        if len(kept) < len(bodies):
            notes[f"body removed: {reason}"] += len(bodies) - len(kept)
        bodies = kept
    return _seat(bodies, notes)


def _mend(tracks: Sequence[Track], notes: Counter[str]) -> list[Track]:
    """Join the tracks into which a person broke when the sensor gave them a new id: each goes on the nearest of those
    that ended near it in time and space (of the means of their joints).
    """
    mended: list[Track] = []
    for track in sorted(tracks, key=lambda track: track.frames[0]):
        start, apart = track.joints[0].mean(0, np.float64), {}
        for place, one in enumerate(mended):
            if 0 < track.frames[0] - one.frames[-1] <= JOIN_GAP:
                apart[place] = float(np.linalg.norm(start - one.joints[-1].mean(0, np.float64)))
        if min(apart.values(), default=np.inf) <= JOIN_DISTANCE:
            place = min(apart, key=apart.__getitem__)
            mended[place] = _joined([mended[place], track])
            notes["track joined: goes on one that broke off nearby"] += 1
        else:
            mended.append(track)
    return mended


def _seat(bodies: Sequence[Track], notes: Counter[str]) -> list[Track]:
    """Give the bodies, first is strongest, a person's place each; :data:`MAX_PERSONS` at most. Each takes the first
    place that is free all the while between its first and last frame: a person who comes back after longer than
    :func:`_mend` looks for, or elsewhere, goes on in the same place.
    """
    seated: list[list[Track]] = []
    for body in bodies:
        first, last = body.frames[0], body.frames[-1]
        free = [
            all(last < other.frames[0] or other.frames[-1] < first for other in place) for place in seated
        ]
        if any(free):
            seated[free.index(True)].append(body)
            notes["track joined: fills a person's place before or after it was seen"] += 1
        elif len(seated) < MAX_PERSONS:
            seated.append([body])
        else:
            notes[f"body removed: beyond {MAX_PERSONS} persons at a time"] += 1
    return [_joined(place) for place in seated]


def _joined(parts: Sequence[Track]) -> Track:
    """Tracks that don't overlap as one."""
    ordered = sorted(parts, key=lambda track: track.frames[0])
    return Track(*map(np.concatenate, zip(*ordered, strict=True)))


def _motion(body: Track) -> float:
    """How much a body moves, times the number of frames in which it is seen."""
    return float(motion(body.joints[None], np.ones((1, len(body.frames)), bool))[0]) * len(body.frames)


def _is_wide(body: Track) -> bool:
    width, height = (np.ptp(body.joints[..., axis].astype(np.float64), axis=1) for axis in (0, 1))
    return bool((width > SPREAD_RATIO * height).mean() >= SPREAD_SHARE)


def _is_still_or_wild(body: Track) -> bool:
    """By the variance of positions over all joints and frames together, summed over x, y, z; in m²."""
    # One row a coordinate: along rows of three numpy is five times as slow.
    variance = body.joints.reshape(-1, 3).T.astype(np.float64, order="C").var(1).sum()
    return bool(not MOTION[0] <= variance <= MOTION[1])
