"""Who is who from frame to frame, and who of them acts: detections → tracks → actors.

Each track predicts its box with a Kalman filter of constant velocity (Bewley et al., Simple Online and Realtime
Tracking, ICIP 2016); detections are assigned to the predictions at the least total cost (Hungarian algorithm), sure
detections first and doubtful ones to the tracks that are left over (Zhang et al., ByteTrack, ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from hhmnet.pose.estimators import iou

SURE, DOUBTFUL = 0.4, 0.2
"""Detections with the first score or more begin tracks and go first; weaker ones only continue tracks, and those below
the second aren't looked at."""
OVERLAP = 0.2
"""A detection continues a track only if its intersection over union with the predicted box is this large."""
DISTANCE = 0.5
"""A sure detection that overlaps no track goes to one whose predicted centre lies within this many of its heights, and
whose height differs by less than half."""
PATIENCE = 30
"""A track that wasn't seen for more than this many frames has ended."""
JOIN_GAP = 60
"""Tracks of one person may lie this many frames apart."""

_POSITION_NOISE, _VELOCITY_NOISE = 1 / 20, 1 / 160
_FULL_MOTION = 1.0
_DOUBLE = 0.4


@dataclass
class Track:
    """One person's way through the video: ``number`` from 1, ascending ``frames``, in each a box ``(4,)`` and score."""

    number: int
    frames: list[int] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def add(self, frame: int, box: np.ndarray, score: float) -> None:
        """Enter a detection."""
        self.frames.append(frame)
        self.boxes.append(np.asarray(box, np.float64))
        self.scores.append(float(score))

    def boxes_at(self, frames: np.ndarray) -> np.ndarray:
        """Boxes ``(n, 4)`` at any ``frames (n,)``: interpolated between detections, held before and after them."""
        known = np.stack(self.boxes)
        return np.stack([np.interp(frames, self.frames, known[:, side]) for side in range(4)], 1)


class Tracker:
    """Joins detections to ``tracks``, frame by frame, in the order of their beginnings."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self._living: list[tuple[Track, Motion]] = []

    def update(self, frame: int, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Enter boxes ``(P, 4)`` with scores ``(P,)`` of one frame; frames may be left out but must ascend.

        Returns the number of the track that each detection belongs to, ``(P,)`` int64; 0 for none.
        """
        self._living = [one for one in self._living if frame - one[0].frames[-1] <= PATIENCE]
        predicted = np.array([motion.predict(frame) for _, motion in self._living]).reshape(-1, 4)
        numbers, free = np.zeros(len(boxes), np.int64), np.arange(len(self._living))
        sure = scores >= SURE
        doubtful = (scores >= DOUBTFUL) & ~sure
        for chosen, costs_of, most in (
            (sure, _overlap_costs, 1 - OVERLAP),
            (sure, _distance_costs, DISTANCE),
            (doubtful, _overlap_costs, 1 - OVERLAP),
        ):
            rest = np.flatnonzero(chosen & (numbers == 0))
            pairs = assign(costs_of(predicted[free], boxes[rest]), most)
            for row, column in pairs:
                (track, motion), place = self._living[free[row]], rest[column]
                motion.correct(boxes[place])
                track.add(frame, boxes[place], scores[place])
                numbers[place] = track.number
            free = np.delete(free, [row for row, _ in pairs])
        for place in np.flatnonzero(sure & (numbers == 0)):
            track = Track(len(self.tracks) + 1)
            track.add(frame, boxes[place], scores[place])
            self.tracks.append(track)
            self._living.append((track, Motion(frame, boxes[place])))
            numbers[place] = track.number
        return numbers


def _overlap_costs(predicted: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return 1 - iou(predicted[:, None], boxes)


def _distance_costs(predicted: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Distance of the centres in heights of the predicted box; infinite where the heights differ by half."""
    a, b = to_center(predicted), to_center(boxes)
    tall = np.maximum(a[:, None, 3], 1)
    apart = np.linalg.norm(a[:, None, :2] - b[None, :, :2], axis=-1) / tall
    alike = np.abs(np.log(tall / np.maximum(b[None, :, 3], 1))) < np.log(1.5)
    return np.where(alike, apart, np.inf)


def assign(costs: np.ndarray, most: float) -> list[tuple[int, int]]:
    """Row and column of as many ``costs (N, M)`` as are at most ``most`` each, at the least total cost."""
    possible = costs <= most
    if not possible.any():
        return []
    rows = np.flatnonzero(possible.any(1))
    columns = costs[rows].argmin(1)
    if len(np.unique(columns)) < len(rows):  # seldom do two want the same
        from scipy.optimize import linear_sum_assignment  # takes half a second

        # A pair that isn't allowed must cost more than any number of allowed ones.
        barrier = (most + 1) * (min(costs.shape) + 1)
        rows, columns = linear_sum_assignment(np.where(possible, costs, barrier))
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if possible[i, j]]


class Motion:
    """A Kalman filter for a box: centre, width and height, each with a constant velocity.

    It begins with the box of the first detection. The four are filtered apart from each other; the uncertainties follow
    the box's height, as in Wojke et al., Simple Online and Realtime Tracking with a Deep Association Metric, ICIP 2017.
    """

    def __init__(self, frame: int, box: np.ndarray) -> None:
        self._frame = frame
        self._mean = np.stack([to_center(np.asarray(box, np.float64)), np.zeros(4)])
        self._covariance = np.diag([self._noise(2 * _POSITION_NOISE), self._noise(10 * _VELOCITY_NOISE)])

    def predict(self, frame: int) -> np.ndarray:
        """The box ``(4,)`` expected at ``frame``."""
        step = np.array([[1.0, 1.0], [0.0, 1.0]])
        for _ in range(frame - self._frame):
            self._mean = step @ self._mean
            noise = np.diag([self._noise(_POSITION_NOISE), self._noise(_VELOCITY_NOISE)])
            self._covariance = step @ self._covariance @ step.T + noise
        self._frame = max(frame, self._frame)
        self._mean[0, 2:] = np.maximum(self._mean[0, 2:], 1.0)
        center, half = self._mean[0, :2], self._mean[0, 2:] / 2
        return np.concatenate([center - half, center + half])

    def correct(self, box: np.ndarray) -> None:
        """Take in what was seen at the frame that was predicted last."""
        missed = to_center(np.asarray(box, np.float64)) - self._mean[0]
        gain = self._covariance[:, 0] / (self._covariance[0, 0] + self._noise(_POSITION_NOISE))
        self._mean = self._mean + gain[:, None] * missed
        self._covariance = self._covariance - np.outer(gain, self._covariance[0])

    def _noise(self, share: float) -> float:
        return float((share * self._mean[0, 3]) ** 2)


def to_center(boxes: np.ndarray) -> np.ndarray:
    """Centre x, centre y, width, height ``(..., 4)`` of boxes ``(..., 4)``."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def choose_actors(
    tracks: Sequence[Track], frames: Sequence[int], size: tuple[int, int], rate: float, persons: int
) -> list[tuple[Track, float]]:
    """At most ``persons`` tracks of those who act with their importance, the most important first.

    Pieces of one person's way are joined first, see :func:`join`; the other arguments are those of :func:`rate_tracks`.
    """
    left, wholes = [track for track, _ in rate_tracks(tracks, frames, size, rate)], []
    while left:
        whole, left = join(left[0], left[1:])
        wholes.append(whole)
    chosen: list[tuple[Track, float]] = []
    for track, importance in rate_tracks(wholes, frames, size, rate):
        if len(chosen) < persons and not any(is_double(track, other) for other, _ in chosen):
            chosen.append((track, importance))
    return chosen


def is_double(track: Track, other: Track) -> bool:
    """Whether a track is a second one of the same person: it lies on the other in most of the frames they share."""
    shared = sorted(set(track.frames) & set(other.frames))
    if not shared:
        return False
    mine, theirs = track.boxes_at(np.array(shared)), other.boxes_at(np.array(shared))
    return float(np.median(iou(mine, theirs))) > _DOUBLE


def rate_tracks(
    tracks: Sequence[Track], frames: Sequence[int], size: tuple[int, int], rate: float
) -> list[tuple[Track, float]]:
    """Tracks with their importance, the most important first.

    Persons were looked for in ``frames`` of a video of ``size`` (width, height) with ``rate`` frames a second.

    Importance is presence (share of those frames) × √(mean score) × size (median height, as a share of the picture's)
    × centrality (1 in the middle, 0.5 at the edges) × (1 + motion, at most 2: how far the box's edges move a second, in
    heights of the box, without what all tracks do together, which is the camera's). A product, since each alone can
    rule a person out: a spectator may be sharp and central, but is small; a coach may be large, but stands still. The
    score counts less, since who is nearest is often out of focus.
    """
    width, height = size
    camera = _camera_motion(tracks)
    rated = []
    for track in tracks:
        boxes = to_center(np.stack(track.boxes))
        tall = max(float(np.median(boxes[:, 3])), 1.0)
        presence = min(len(track.frames) / len(frames), 1.0)
        centrality = 1 - abs(float(np.median(boxes[:, 0])) / width - 0.5)
        moving = 1 + min(_motion(track, camera) / tall * rate, _FULL_MOTION)
        score = float(np.mean(track.scores))
        rated.append((track, presence * score**0.5 * min(tall / height, 1.0) * centrality * moving))
    return sorted(rated, key=lambda pair: -pair[1])


def join(track: Track, others: Sequence[Track]) -> tuple[Track, list[Track]]:
    """A track with all pieces of the same person before and after it, and the tracks that are left.

    Another track is a piece of it if the two have no frame in common, the gap between them is at most 60 frames, and
    across the gap the box stays nearly as tall (within a third) and moves no more than a height, or half a height for
    each half of a second of 15 frames, whichever is more.
    """
    left = list(others)
    while pieces := [(gap, other.number, other) for other in left if (gap := _gap(track, other))]:
        piece = min(pieces, key=lambda one: one[:2])[2]
        first, second = sorted((track, piece), key=lambda one: one.frames[0])
        frames, boxes = first.frames + second.frames, first.boxes + second.boxes
        track = Track(track.number, frames, boxes, first.scores + second.scores)
        left = [other for other in left if other is not piece]
    return track, left


def _gap(track: Track, other: Track) -> int:
    """Frames between two tracks of one person; 0 if they aren't of one."""
    first, second = sorted((track, other), key=lambda one: one.frames[0])
    gap = second.frames[0] - first.frames[-1]
    if not 0 < gap <= JOIN_GAP:
        return 0
    a, b = to_center(first.boxes[-1]), to_center(second.boxes[0])
    tall = max(float(a[3]), float(b[3]), 1.0)
    apart = float(np.linalg.norm(a[:2] - b[:2])) / tall
    alike = min(float(a[3]), float(b[3])) / tall > 2 / 3
    return gap if alike and apart <= max(1.0, gap / 30) else 0


def _camera_motion(tracks: Sequence[Track]) -> dict[tuple[int, int], np.ndarray]:
    """Shift (2,) of the picture between two frames in which persons were found, by the median of all tracks."""
    shifts: dict[tuple[int, int], list[np.ndarray]] = {}
    for track in tracks:
        moves = np.diff(to_center(np.stack(track.boxes))[:, :2], axis=0)
        for span, shift in zip(pairwise(track.frames), moves, strict=True):
            shifts.setdefault(span, []).append(shift)
    # Of two tracks, who moves and who stands can't be told.
    return {span: np.median(found, axis=0) for span, found in shifts.items() if len(found) > 2}


def _motion(track: Track, camera: dict[tuple[int, int], np.ndarray]) -> float:
    """Median way of a box's edges in pixels a frame, without the camera's."""
    ways = []
    for span, shift in zip(pairwise(track.frames), np.diff(np.stack(track.boxes), axis=0), strict=True):
        own = shift - np.tile(camera.get(span, np.zeros(2)), 2)
        ways.append(float(np.abs(own).mean()) / (span[1] - span[0]))
    return float(np.median(ways)) if ways else 0.0
