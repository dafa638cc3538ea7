"""Who acts: the persons of a video told from bystanders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hhmnet.pose.base import iou
from hhmnet.pose.tracking import Track, to_center

JOIN_GAP = 60
"""Tracks of one person may lie this many frames apart."""

_FULL_MOTION = 1.0
_DOUBLE = 0.4


class Traits(NamedTuple):
    """What tells an actor from a bystander; all but the motion lie from 0 to 1.

    Attributes:
        presence: share of the frames looked at in which the person was found.
        score: the detector's mean score.
        size: median height of the box, as a share of the picture's.
        centrality: 1 in the middle of the picture, falling to 0.5 at its edge, half way across.
        motion: how far the box's edges move a second, in heights of the box; what all tracks do together is the
            camera's motion and doesn't count.
    """

    presence: float
    score: float
    size: float
    centrality: float
    motion: float

    @property
    def importance(self) -> float:
        """Presence × √score × size × centrality × (1 + motion, at most 2).

        A product, since each of these alone can rule a person out: a spectator may be sharp, central and there all the
        time, but is small; a coach may be large, but stands still. The score counts less than the others, since who is
        nearest is often out of focus.
        """
        moving = 1 + min(self.motion, _FULL_MOTION)
        return self.presence * self.score**0.5 * self.size * self.centrality * moving


def choose_actors(
    tracks: Sequence[Track], frames: Sequence[int], size: tuple[int, int], rate: float, persons: int
) -> list[tuple[Track, Traits]]:
    """The tracks of those who act, the most important first.

    Pieces of one person's way are joined first, see :func:`join`.

    Args:
        tracks: all tracks of the video.
        frames: the frames in which persons were looked for.
        size: width and height of the picture.
        rate: frames a second.
        persons: how many to choose at the most.
    """
    pieces = _ranked(tracks, frames, size, rate)
    left, wholes = [track for track, _ in pieces], []
    while left:
        whole, left = join(left[0], left[1:])
        wholes.append(whole)
    chosen: list[tuple[Track, Traits]] = []
    for track, traits in _ranked(wholes, frames, size, rate):
        if len(chosen) < persons and not any(is_double(track, other) for other, _ in chosen):
            chosen.append((track, traits))
    return chosen


def _ranked(
    tracks: Sequence[Track], frames: Sequence[int], size: tuple[int, int], rate: float
) -> list[tuple[Track, Traits]]:
    """Tracks and their traits, the most important first."""
    rated = rate_tracks(tracks, frames, size, rate)
    return sorted(zip(tracks, rated, strict=True), key=lambda pair: -pair[1].importance)


def is_double(track: Track, other: Track) -> bool:
    """Whether a track is a second one of the same person: it lies on the other in most of the frames they share."""
    shared = sorted(set(track.frames) & set(other.frames))
    if not shared:
        return False
    frames = np.asarray(shared)
    overlaps = [
        iou(a[None], b[None])[0, 0]
        for a, b in zip(track.boxes_at(frames), other.boxes_at(frames), strict=True)
    ]
    return float(np.median(overlaps)) > _DOUBLE


def rate_tracks(
    tracks: Sequence[Track], frames: Sequence[int], size: tuple[int, int], rate: float
) -> list[Traits]:
    """Traits of every track; the arguments are those of :func:`choose_actors`."""
    width, height = size
    camera = _camera_motion(tracks)
    rated = []
    for track in tracks:
        boxes = to_center(np.stack(track.boxes))
        tall = max(float(np.median(boxes[:, 3])), 1.0)
        off_center = abs(float(np.median(boxes[:, 0])) / width - 0.5) * 2
        rated.append(
            Traits(
                presence=min(len(track.frames) / len(frames), 1.0),
                score=float(np.mean(track.scores)),
                size=min(tall / height, 1.0),
                centrality=1 - off_center / 2,
                motion=_motion(track, camera) / tall * rate,
            )
        )
    return rated


def join(track: Track, others: Sequence[Track]) -> tuple[Track, list[Track]]:
    """A track with all pieces of the same person before and after it, and the tracks that are left.

    Another track is a piece of it if the two have no frame in common, the gap between them is at most 60 frames, and
    across the gap the box stays nearly as tall (within a third) and moves no more than a height, or half a height for
    each half of a second of 15 frames, whichever is more.
    """
    left = list(others)
    while True:
        pieces = [(gap, other) for other in left if (gap := _gap(track, other)) is not None]
        if not pieces:
            return track, left
        piece = min(pieces, key=lambda pair: (pair[0], pair[1].number))[1]
        first, second = sorted((track, piece), key=lambda one: one.frames[0])
        track = Track(
            track.number,
            first.frames + second.frames,
            first.boxes + second.boxes,
            first.scores + second.scores,
        )
        left = [other for other in left if other is not piece]


def _gap(track: Track, other: Track) -> int | None:
    """Frames between two tracks of one person; None if they aren't of one."""
    first, second = sorted((track, other), key=lambda one: one.frames[0])
    gap = second.frames[0] - first.frames[-1]
    if not 0 < gap <= JOIN_GAP:
        return None
    a, b = to_center(first.boxes[-1]), to_center(second.boxes[0])
    tall = max(float(a[3]), float(b[3]), 1.0)
    apart = float(np.linalg.norm(a[:2] - b[:2])) / tall
    alike = min(float(a[3]), float(b[3])) / tall > 2 / 3
    return gap if alike and apart <= max(1.0, gap / 30) else None


def _camera_motion(tracks: Sequence[Track]) -> dict[tuple[int, int], np.ndarray]:
    """Shift (2,) of the picture between two frames in which persons were found, by the median of all tracks."""
    shifts: dict[tuple[int, int], list[np.ndarray]] = {}
    for track in tracks:
        centers = to_center(np.stack(track.boxes))[:, :2]
        for start, end, shift in zip(track.frames, track.frames[1:], np.diff(centers, axis=0), strict=False):
            shifts.setdefault((start, end), []).append(shift)
    # Of two tracks, who moves and who stands can't be told.
    return {span: np.median(found, axis=0) for span, found in shifts.items() if len(found) > 2}


def _motion(track: Track, camera: dict[tuple[int, int], np.ndarray]) -> float:
    """Median way of a box's edges in pixels a frame, without the camera's."""
    ways = []
    spans = list(zip(track.frames, track.frames[1:], strict=False))
    for (start, end), shift in zip(spans, np.diff(np.stack(track.boxes), axis=0), strict=True):
        own = shift - np.tile(camera.get((start, end), np.zeros(2)), 2)
        ways.append(float(np.abs(own).mean()) / (end - start))
    return float(np.median(ways)) if ways else 0.0
