"""Who is who from frame to frame: detections → tracks.

Each track predicts its box with a Kalman filter of constant velocity (Bewley et al., Simple Online and Realtime
Tracking, ICIP 2016); detections are assigned to the predictions at the least total cost (Hungarian algorithm), sure
detections first and doubtful ones to the tracks that are left over (Zhang et al., ByteTrack, ECCV 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from hhmnet.fields import within
from hhmnet.pose.base import iou


@dataclass
class TrackingConfig:
    """How detections become tracks."""

    sure: float = 0.4
    """Detections with this score or more begin tracks and go first; weaker ones only continue tracks."""
    doubtful: float = 0.2
    """Detections below this score are not looked at."""
    overlap: float = 0.2
    """A detection continues a track only if its intersection over union with the predicted box is this large."""
    distance: float = 0.5
    """A track that overlaps no detection takes one whose centre lies within this many box heights of its own and
    whose height differs by less than half."""
    patience: int = 30
    """A track that wasn't seen for more than this many frames has ended."""

    def __post_init__(self) -> None:
        within(self, 0, 1, "sure", "doubtful", "overlap")
        within(self, 0, float("inf"), "distance", "patience")
        if self.doubtful > self.sure:
            raise ValueError(
                f"field 'doubtful' must not be larger than 'sure'; got {self.doubtful} and {self.sure}"
            )


@dataclass
class Track:
    """One person's way through the video.

    Attributes:
        number: the track's name, from 1 in the order of their beginnings.
        frames: indices of the frames in which the person was detected, ascending.
        boxes: the box in each of them, ``(4,)``: left, top, right, bottom.
        scores: the detector's score in each of them.
    """

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
    """Joins detections to tracks, frame by frame.

    Args:
        config: its thresholds.
    """

    def __init__(self, config: TrackingConfig | None = None) -> None:
        self.config = config or TrackingConfig()
        self.tracks: list[Track] = []
        self._living: list[tuple[Track, Motion]] = []

    def update(self, frame: int, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Enter the detections of one frame; frames may be left out but must ascend.

        Args:
            frame: the frame's index.
            boxes: ``(P, 4)``.
            scores: ``(P,)``.

        Returns:
            Number of the track that each detection belongs to, ``(P,)`` int64; 0 for none.
        """
        config = self.config
        self._living = [one for one in self._living if frame - one[0].frames[-1] <= config.patience]
        predicted = [motion.predict(frame) for _, motion in self._living]
        numbers = np.zeros(len(boxes), np.int64)
        free = list(range(len(self._living)))
        sure = np.flatnonzero(scores >= config.sure)
        doubtful = np.flatnonzero((scores >= config.doubtful) & (scores < config.sure))
        for chosen in (sure, doubtful):
            for rule in (self._by_overlap, self._by_distance):
                rest = chosen[numbers[chosen] == 0]
                if rule == self._by_distance and chosen is doubtful:
                    continue
                pairs = rule([predicted[i] for i in free], boxes[rest])
                for row, column in pairs:
                    track, motion = self._living[free[row]]
                    motion.correct(boxes[rest[column]])
                    track.add(frame, boxes[rest[column]], scores[rest[column]])
                    numbers[rest[column]] = track.number
                free = [i for place, i in enumerate(free) if place not in {row for row, _ in pairs}]
        for place in sure[numbers[sure] == 0]:
            numbers[place] = self._begin(frame, boxes[place], float(scores[place]))
        return numbers

    def _begin(self, frame: int, box: np.ndarray, score: float) -> int:
        track = Track(len(self.tracks) + 1)
        track.add(frame, box, score)
        self.tracks.append(track)
        self._living.append((track, Motion(frame, box)))
        return track.number

    def _by_overlap(self, predicted: list[np.ndarray], boxes: np.ndarray) -> list[tuple[int, int]]:
        overlaps = iou(np.array(predicted).reshape(-1, 4), boxes)
        return assign(1 - overlaps, 1 - self.config.overlap)

    def _by_distance(self, predicted: list[np.ndarray], boxes: np.ndarray) -> list[tuple[int, int]]:
        a, b = to_center(np.array(predicted).reshape(-1, 4)), to_center(boxes)
        apart = np.linalg.norm(a[:, None, :2] - b[None, :, :2], axis=-1) / np.maximum(a[:, None, 3], 1)
        alike = np.abs(np.log(np.maximum(a[:, None, 3], 1) / np.maximum(b[None, :, 3], 1))) < np.log(1.5)
        return assign(np.where(alike, apart, np.inf), self.config.distance)


def assign(costs: np.ndarray, most: float) -> list[tuple[int, int]]:
    """Pairs of a row and a column, as many as cost at most ``most`` each, of the least total cost.

    Args:
        costs: ``(N, M)``; infinite where a pair is impossible.
        most: the largest cost of a pair.
    """
    possible = costs <= most
    # A pair that isn't allowed must cost more than any number of allowed ones.
    barrier = (most + 1) * (min(costs.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(possible, costs, barrier))
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if possible[i, j]]


class Motion:
    """A Kalman filter for a box: centre, width and height, each with a constant velocity.

    The four are filtered apart from each other; the uncertainties follow the box's height, as in Wojke et al.,
    Simple Online and Realtime Tracking with a Deep Association Metric, ICIP 2017.

    Args:
        frame: the frame of the first detection.
        box: the box in it.
    """

    POSITION_NOISE = 1 / 20
    VELOCITY_NOISE = 1 / 160

    def __init__(self, frame: int, box: np.ndarray) -> None:
        self._frame = frame
        self._mean = np.stack([to_center(np.asarray(box, np.float64)), np.zeros(4)])
        position, velocity = self._noise(2 * self.POSITION_NOISE), self._noise(10 * self.VELOCITY_NOISE)
        self._covariance = np.array([[position, 0.0], [0.0, velocity]])

    def predict(self, frame: int) -> np.ndarray:
        """The box ``(4,)`` expected at ``frame``."""
        for _ in range(frame - self._frame):
            step = np.array([[1.0, 1.0], [0.0, 1.0]])
            self._mean = step @ self._mean
            noise = np.diag([self._noise(self.POSITION_NOISE), self._noise(self.VELOCITY_NOISE)])
            self._covariance = step @ self._covariance @ step.T + noise
        self._frame = max(frame, self._frame)
        self._mean[0, 2:] = np.maximum(self._mean[0, 2:], 1.0)
        return from_center(self._mean[0])

    def correct(self, box: np.ndarray) -> None:
        """Take in what was seen at the frame that was predicted last."""
        missed = to_center(np.asarray(box, np.float64)) - self._mean[0]
        gain = self._covariance[:, 0] / (self._covariance[0, 0] + self._noise(self.POSITION_NOISE))
        self._mean = self._mean + gain[:, None] * missed
        self._covariance = self._covariance - np.outer(gain, self._covariance[0])

    def _noise(self, share: float) -> float:
        return float((share * self._mean[0, 3]) ** 2)


def to_center(boxes: np.ndarray) -> np.ndarray:
    """Centre x, centre y, width, height ``(..., 4)`` of boxes ``(..., 4)``."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def from_center(boxes: np.ndarray) -> np.ndarray:
    """Inverse of :func:`to_center`."""
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
