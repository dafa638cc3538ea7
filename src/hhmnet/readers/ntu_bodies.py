"""From the bodies that a Kinect saw to the persons of a clip: tracks, what is removed, who comes first.

A Kinect takes chairs and jackets for bodies, and gives a person a new id after losing sight of them. The rules that
remove bodies, and their thresholds, are those of the preprocessing that the authors of SGN published (P. Zhang et al.,
Semantics-Guided Neural Networks for Efficient Skeleton-Based Human Action Recognition, CVPR 2020) and that CTR-GCN and
others use. That has a motion rule too, but doesn't call it; here it is called, with a lower bound of our own. Also
our own: tracks that broke are joined before anything is removed, every body keeps the frames it was seen in, and a
clip never loses its last body.

No rule looks at the action, not even at whether it takes two persons: a clip to be recognised doesn't say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hhmnet.readers.ntu_format import SkeletonFile

MIN_FRAMES = 12
"""A body seen in fewer frames is removed."""
SPREAD_RATIO, SPREAD_SHARE = 0.8, 0.69754
"""A body is removed that is wider (x) than so many times its height (y) in this share of its frames or more."""
MOTION = (0.05, 2.0)
"""A body is removed whose joints' positions vary by less or more, in m²."""
MAX_PERSONS = 2
"""Who moves most is kept."""
JOIN_GAP, JOIN_DISTANCE = 30, 0.5
"""A body is the same person as another if it appears at most so many frames after that one was lost, within so many
metres."""


class Track(NamedTuple):
    """One body over time.

    Attributes:
        frames: the frames it is seen in, ``(F,)`` int64, strictly increasing.
        rows: its rows in the file's arrays, ``(F,)`` int64.
        joints: its positions, ``(F, 25, 3)`` float32 in metres.
    """

    frames: np.ndarray
    rows: np.ndarray
    joints: np.ndarray


def persons(file: SkeletonFile, notes: Counter[str]) -> list[Track]:
    """The persons of a clip, the one who moves most first; empty if no frame has a body.

    In this order: tracks by id; those that broke are joined (:func:`mend`); those are removed, but never the last,
    that are too short (published: 11 frames or fewer), too wide (:func:`wide_share`) or vary too little or too much
    (:func:`variance`); the rest take the persons' places (:func:`seat`). ``notes`` counts everything that was done.
    """
    bodies = mend(tracks(file, notes), notes)
    if len(bodies) < 2:  # as in most clips
        return bodies
    bodies.sort(key=lambda body: (-motion(body, file.frames), body.frames[0], body.rows[0]))
    low, high = MOTION
    checks: dict[str, Callable[[Track], bool]] = {
        f"in fewer than {MIN_FRAMES} frames": lambda body: len(body.frames) < MIN_FRAMES,
        f"wider than {SPREAD_RATIO:g} of its height in most frames": lambda body: (
            wide_share(body) >= SPREAD_SHARE
        ),
        f"varies by less than {low:g} or more than {high:g} m²": lambda body: (
            not low <= variance(body) <= high
        ),
    }
    for reason, fails in checks.items():
        # Somebody must have been there: if all fail, the one who moves most stays.
        kept = [body for body in bodies if not fails(body)] or bodies[:1]
        if len(kept) < len(bodies):
            notes[f"body removed: {reason}"] += len(bodies) - len(kept)
        bodies = kept
    return seat(bodies, notes)


def tracks(file: SkeletonFile, notes: Counter[str]) -> list[Track]:
    """The bodies of a file, put together by id, in the order in which the ids appear.

    A body all of whose joints lie in the camera's own place (zeros) is none.
    """
    seen = file.joints.any(axis=(1, 2))
    if not seen.all():
        notes["body left out: all joints are zero"] += int((~seen).sum())
    found = []
    for body in dict.fromkeys(file.ids[seen].tolist()):
        rows = np.flatnonzero(seen & (file.ids == np.uint64(body)))
        found.append(Track(file.frame[rows], rows, file.joints[rows]))
    return found


def mend(bodies: Sequence[Track], notes: Counter[str]) -> list[Track]:
    """Join the tracks into which a person broke when the sensor gave them a new id.

    A track goes on the earlier one that ended near it in time and space (of the means of their joints); on the nearest,
    if there are several.
    """
    mended: list[Track] = []
    for track in sorted(bodies, key=lambda track: track.frames[0]):
        start = track.joints[0].mean(0, np.float64)
        apart = {
            float(np.linalg.norm(start - earlier.joints[-1].mean(0, np.float64))): place
            for place, earlier in reversed([*enumerate(mended)])
            if 0 < track.frames[0] - earlier.frames[-1] <= JOIN_GAP
        }
        nearest = min(apart, default=np.inf)
        if nearest > JOIN_DISTANCE:
            mended.append(track)
        else:
            mended[apart[nearest]] = _joined([mended[apart[nearest]], track])
            notes["track joined: goes on one that broke off nearby"] += 1
    return mended


def _joined(parts: Sequence[Track]) -> Track:
    """Tracks that don't overlap as one."""
    ordered = sorted(parts, key=lambda track: track.frames[0])
    return Track(*map(np.concatenate, zip(*ordered, strict=True)))


def wide_share(body: Track) -> float:
    """The share of its frames in which a body is too wide for a person."""
    width, height = (np.ptp(body.joints[..., axis].astype(np.float64), axis=1) for axis in (0, 1))
    return float((width > SPREAD_RATIO * height).mean())


def variance(body: Track) -> float:
    """The variance of a body's joints' positions over all joints and frames together, summed over x, y, z; in m².

    It has the body's own size in it as well as the way it goes. Of the published lower bound, 0.089925, persons who
    stand still and partly hidden come too near: adults have 0.12 to 0.23.
    """
    # One row a coordinate: along rows of three numpy is five times as slow.
    return float(body.joints.reshape(-1, 3).T.astype(np.float64, order="C").var(1).sum())


def motion(body: Track, frames: int) -> float:
    """How much a body moves in a clip of so many frames, in m²: what persons are ordered by.

    The variance of its joints over time, summed over joints and coordinates, times the share of the clip's frames
    in which it is seen.
    """
    return float(body.joints.var(0, dtype=np.float64).sum()) * len(body.frames) / frames


def seat(bodies: Sequence[Track], notes: Counter[str]) -> list[Track]:
    """Give the bodies, first is strongest, a person's place each; :data:`MAX_PERSONS` at most.

    Each takes the first place that is free all the while between its first and last frame: a person who comes back
    after longer than :func:`mend` looks for, or elsewhere, goes on in the same place. If there is no such place, a new
    one is made; if there may be no more, the body is left out. So the first person is the one who moves most.
    """
    seated: list[list[Track]] = []
    for body in bodies:
        place = next((place for place in seated if all(_are_apart(body, other) for other in place)), None)
        if place is not None:
            place.append(body)
            notes["track joined: fills a person's place before or after it was seen"] += 1
        elif len(seated) < MAX_PERSONS:
            seated.append([body])
        else:
            notes[f"body removed: beyond {MAX_PERSONS} persons at a time"] += 1
    return [_joined(place) for place in seated]


def _are_apart(one: Track, other: Track) -> bool:
    """Whether one track ends before the other begins."""
    return bool(one.frames[-1] < other.frames[0] or other.frames[-1] < one.frames[0])
