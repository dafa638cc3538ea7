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
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hhmnet.fields import within
from hhmnet.readers import ReaderConfig
from hhmnet.readers.ntu_format import SkeletonFile


@dataclass
class BodyRules(ReaderConfig):
    """What makes a body a person."""

    min_frames: int = 12
    """A body seen in fewer frames is removed, unless it is the only one."""
    spread_ratio: float = 0.8
    """A body is too wide in a frame where it is wider (x) than this many times its height (y)."""
    spread_share: float = 0.69754
    """A body that is too wide in this share of its frames or more is removed, unless it is the only one."""
    motion_min: float = 0.05
    """A body whose joints' positions vary by less (m²) is removed, unless it is the only one."""
    motion_max: float = 2.0
    """A body whose joints' positions vary by more (m²) is removed, unless it is the only one."""
    max_persons: int = 2
    """How many persons a clip has at the most; those who move most are kept."""
    join_gap: int = 30
    """A body that appears up to so many frames after another was lost may be the same person."""
    join_distance: float = 0.5
    """It is the same person if it appears within so many metres of where the other was lost."""

    def __post_init__(self) -> None:
        within(self, 1, float("inf"), "min_frames", "max_persons")
        within(self, 0, 1e6, "spread_ratio", "motion_min", "motion_max", "join_gap", "join_distance")
        within(self, 0, 1, "spread_share")
        if self.motion_min > self.motion_max:
            raise ValueError(
                f"field 'motion_max' must be at least motion_min, {self.motion_min:g}; got {self.motion_max:g}"
            )


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


def persons(file: SkeletonFile, rules: BodyRules, notes: Counter[str]) -> list[Track]:
    """The persons of a clip, the one who moves most first; empty if no frame has a body.

    In this order: tracks by id; those that broke are joined (:func:`mend`); those are removed, but never the last,
    that are too short (published: 11 frames or fewer), too wide (:func:`wide_share`) or vary too little or too much
    (:func:`variance`); the rest take the persons' places (:func:`seat`). ``notes`` counts everything that was done.
    """
    bodies = mend(tracks(file, notes), rules.join_gap, rules.join_distance, notes)
    if len(bodies) < 2:  # as in most clips
        return bodies
    bodies.sort(key=lambda body: (-motion(body, file.frames), body.frames[0], body.rows[0]))
    low, high = rules.motion_min, rules.motion_max
    checks: dict[str, Callable[[Track], bool]] = {
        f"in fewer than {rules.min_frames} frames": lambda body: len(body.frames) < rules.min_frames,
        f"wider than {rules.spread_ratio:g} of its height in most frames": (
            lambda body: wide_share(body, rules.spread_ratio) >= rules.spread_share
        ),
        f"varies by less than {low:g} or more than {high:g} m²": (
            lambda body: not low <= variance(body) <= high
        ),
    }
    for reason, fails in checks.items():
        # Somebody must have been there: if all fail, the one who moves most stays.
        kept = [body for body in bodies if not fails(body)] or bodies[:1]
        if len(kept) < len(bodies):
            notes[f"body removed: {reason}"] += len(bodies) - len(kept)
        bodies = kept
    return seat(bodies, rules.max_persons, notes)


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


def mend(bodies: Sequence[Track], gap: int, distance: float, notes: Counter[str]) -> list[Track]:
    """Join the tracks into which a person broke when the sensor gave them a new id.

    A track goes on an earlier one that ended at most ``gap`` frames before it begins, if the centres of the two
    bodies (means of their joints) lie at most ``distance`` metres apart there; on the nearest, if there are several.
    """
    mended: list[Track] = []
    for track in sorted(bodies, key=lambda track: track.frames[0]):
        apart = {
            place: np.linalg.norm(
                track.joints[0].mean(0, np.float64) - earlier.joints[-1].mean(0, np.float64)
            )
            for place, earlier in enumerate(mended)
            if 0 < track.frames[0] - earlier.frames[-1] <= gap
        }
        nearest = min(apart, key=apart.__getitem__, default=None)
        if nearest is None or apart[nearest] > distance:
            mended.append(track)
        else:
            mended[nearest] = _joined([mended[nearest], track])
            notes["track joined: goes on one that broke off nearby"] += 1
    return mended


def _joined(parts: Sequence[Track]) -> Track:
    """Tracks that don't overlap as one."""
    ordered = sorted(parts, key=lambda track: track.frames[0])
    return Track(*map(np.concatenate, zip(*ordered, strict=True)))


def wide_share(body: Track, ratio: float) -> float:
    """The share of its frames in which a body is too wide for a person: farther across than ``ratio`` times as high.

    Published: 0.8 times as far in x as in y; gone with 0.69754 of the frames.
    """
    width, height = (np.ptp(body.joints[..., axis].astype(np.float64), axis=1) for axis in (0, 1))
    return float((width > ratio * height).mean())


def variance(body: Track) -> float:
    """The variance of a body's joints' positions over all joints and frames together, summed over x, y, z; in m².

    It has the body's own size in it as well as the way it goes. Little is too small for a body, much is one that jumps
    about (published: above 2). Of the published lower bound, 0.089925, persons who stand still and partly hidden come
    too near: adults have 0.12 to 0.23.
    """
    # One row a coordinate: along rows of three numpy is five times as slow.
    return float(body.joints.reshape(-1, 3).T.astype(np.float64, order="C").var(1).sum())


def motion(body: Track, frames: int) -> float:
    """How much a body moves in a clip of so many frames, in m²: what persons are ordered by.

    The variance of its joints over time, summed over joints and coordinates, times the share of the clip's frames
    in which it is seen.
    """
    return float(body.joints.var(0, dtype=np.float64).sum()) * len(body.frames) / frames


def seat(bodies: Sequence[Track], places: int, notes: Counter[str]) -> list[Track]:
    """Give the bodies, first is strongest, a person's place each; ``places`` at most.

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
        elif len(seated) < places:
            seated.append([body])
        else:
            notes[f"body removed: beyond {places} persons at a time"] += 1
    return [_joined(place) for place in seated]


def _are_apart(one: Track, other: Track) -> bool:
    """Whether one track ends before the other begins."""
    return bool(one.frames[-1] < other.frames[0] or other.frames[-1] < one.frames[0])
