"""From probabilities over time to segments: windows, smoothing, hysteresis."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hhmnet.fields import within


@dataclass
class TimelineConfig:
    """How a long recording is cut into windows, and how answers become segments."""

    window: float = 2.0
    """Seconds that an answer looks at. Without it: as long as the clips that the model learned from, if it says so."""
    stride: float = 0.25
    """Seconds from one window to the next."""
    smooth: float = 0.25
    """Standard deviation in seconds of the Gaussian that smooths the probabilities over time; 0 leaves them."""
    enter: float = 0.5
    """A segment begins where a class becomes as probable as this."""
    leave: float = 0.3
    """It ends where the class becomes less probable than this, or another one enters."""
    shortest: float = 0.5
    """Segments of fewer seconds are left out."""
    least: float = 0.5
    """Share of a window in which the person must be seen; else there is no answer."""
    fps: float = 30.0
    """Frames a second of a skeleton file, which doesn't say it itself."""

    def __post_init__(self) -> None:
        within(self, 0.1, 600, "window")
        within(self, 0.01, 600, "stride")
        within(self, 0, 600, "smooth", "shortest")
        within(self, 0, 1, "enter", "leave", "least")
        within(self, 0.1, 1000, "fps")
        if self.leave > self.enter:
            raise ValueError(f"field 'leave' must be at most enter, {self.enter:g}; got {self.leave:g}")

    def as_long_as(self, seconds: float | None) -> TimelineConfig:
        """The same with windows of ``seconds``, or as it is if None."""
        return self if seconds is None else replace(self, window=min(max(seconds, 0.1), 600.0))


class Segment(NamedTuple):
    """A time in which one person does one thing.

    Attributes:
        person: number of the person, from 1.
        label: what is done.
        start: where it begins, in seconds.
        end: where it ends, in seconds.
        first_frame: index of its first frame in the recording.
        last_frame: and of its last.
        probability: mean of the smoothed probability over the segment's windows.
    """

    person: int
    label: str
    start: float
    end: float
    first_frame: int
    last_frame: int
    probability: float


def windows(duration: float, window: float, stride: float) -> tuple[np.ndarray, np.ndarray]:
    """Begins and ends of windows over a recording, ``(W,)`` each, in seconds.

    The last one ends with the recording, or less than a tenth of a stride earlier. A recording that is shorter than a
    window is one window.
    """
    if duration <= window:
        return np.zeros(1), np.array([duration])
    count = math.floor((duration - window) / stride + 1e-9) + 1
    starts = np.arange(count) * stride
    if duration - window - starts[-1] >= stride / 10:
        starts = np.append(starts, duration - window)
    return starts, starts + window


def smooth(probabilities: np.ndarray, times: np.ndarray, deviation: float) -> np.ndarray:
    """Gaussian mean over time of ``probabilities (W, classes)`` at ``times (W,)``; NaN stays and doesn't count."""
    if deviation == 0:
        return probabilities.copy()
    known = ~np.isnan(probabilities).any(1)
    smoothed = np.full_like(probabilities, np.nan)
    for row in np.flatnonzero(known):
        near = np.flatnonzero(known & (np.abs(times - times[row]) <= 4 * deviation))
        weight = np.exp(-0.5 * ((times[near] - times[row]) / deviation) ** 2)
        smoothed[row] = (weight[:, None] * probabilities[near]).sum(0) / weight.sum()
    return smoothed


def merge(probabilities: np.ndarray, enter: float, leave: float) -> list[tuple[int, int, int]]:
    """Runs of windows in which one class holds, by hysteresis: (first window, last window, class).

    A class begins to hold where it is the most probable, and as probable as ``enter``. It holds until it falls below
    ``leave``, another class begins to hold, or a window has no answer. Since ``leave`` lies below ``enter``, an answer
    that wavers between the two doesn't fall to pieces.

    Args:
        probabilities: ``(W, classes)``; NaN where there is no answer.
        enter: from 0 to 1.
        leave: from 0 to ``enter``.
    """
    runs: list[tuple[int, int, int]] = []
    holds: int | None = None
    for window, row in enumerate(probabilities):
        if np.isnan(row).any():
            holds = None
            continue
        best = int(row.argmax())
        if row[best] >= enter:
            if holds != best:
                runs.append((window, window, best))
            holds = best
        elif holds is not None and row[holds] < leave:
            holds = None
        if holds is not None:
            first, _, label = runs[-1]
            runs[-1] = (first, window, label)
    return runs


def to_segments(
    person: int,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
    middles: np.ndarray,
    times: np.ndarray,
    duration: float,
    config: TimelineConfig,
) -> list[Segment]:
    """What one person does, from smoothed probabilities; :func:`merge` says when a class holds.

    A window stands for the time half-way to its neighbours, the first and the last one for the recording's beginning
    and end too. A segment of less than ``config.shortest`` is left out, unless the recording is no longer.

    Args:
        person: the person's number.
        probabilities: ``(W, classes)``; NaN where there is no answer.
        class_names: the classes.
        middles: ``(W,)`` seconds, the windows' middles.
        times: ``(T,)`` seconds, when each frame is.
        duration: of the recording, in seconds.
        config: thresholds.
    """
    between = (middles[1:] + middles[:-1]) / 2
    edges = np.concatenate([[0.0], between, [duration]])
    found = []
    for first, last, label in merge(probabilities, config.enter, config.leave):
        start, end = float(edges[first]), float(edges[last + 1])
        if end - start < config.shortest and end - start < duration:
            continue
        frames = np.flatnonzero((times >= start - 1e-9) & (times < end - 1e-9))
        if len(frames):
            mean = float(probabilities[first : last + 1, label].mean())
            found.append(
                Segment(person, class_names[label], start, end, int(frames[0]), int(frames[-1]), mean)
            )
    return found
