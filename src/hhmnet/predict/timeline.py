"""What is done when in a long recording: windows over it, probabilities over time, and segments."""

from __future__ import annotations

import dataclasses
import math
import time as clock
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hhmnet.confidence import UNKNOWN
from hhmnet.fields import within
from hhmnet.predict.sources import Input, InputClip, InputError, frame_times
from hhmnet.readers.joints import tallness
from hhmnet.sample import MODALITIES, Sample
from hhmnet.video import RecentVideo

if TYPE_CHECKING:
    from hhmnet.predict.recognizer import Recognizer

STILL = 0.15
"""Body lengths a second. In 99.6 and 98.7 % of half-seconds of NW-UCLA's and MSR Action3D's clips (all of them) a
person is faster."""
PAUSE = 0.5
"""Seconds without motion that are a pause; an action may have shorter ones."""
_SPAN = 0.1  # seconds before and after a frame: noise of joints isn't motion
_BATCH = 16


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
    still: float = STILL
    """Body lengths a second. Whoever is slower for half a second does nothing, and no segment goes on there."""
    fps: float = 30.0
    """Frames a second of a skeleton file, which doesn't say it itself."""

    def __post_init__(self) -> None:
        within(self, 0.1, 600, "window")
        within(self, 0.01, 600, "stride")
        within(self, 0, 600, "smooth", "shortest", "still")
        within(self, 0, 1, "enter", "leave", "least")
        within(self, 0.1, 1000, "fps")
        if self.leave > self.enter:
            raise ValueError(f"field 'leave' must be at most enter, {self.enter:g}; got {self.leave:g}")

    def as_long_as(self, seconds: float | None) -> TimelineConfig:
        """The same with windows of ``seconds``, or as it is if None."""
        return self if seconds is None else dataclasses.replace(self, window=min(max(seconds, 0.1), 600.0))


class Segment(NamedTuple):
    """A time, in seconds and in frames of the recording, in which one person does one thing.

    Persons are numbered from 1; the probability is the mean of the smoothed one over the segment's windows.
    """

    person: int
    label: str
    start: float
    end: float
    first_frame: int
    last_frame: int
    probability: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """What is done when in a recording of so many ``frames`` and seconds (``duration``); M persons, W windows.

    Attributes:
        input: the recording, as it was given.
        labels: ``[M][W]``, what the person does in each window; None without an answer, or where nobody moves.
        probabilities: ``(M, W, classes)`` float32 of each window; NaN where the person isn't seen enough.
        smoothed: the same, smoothed over time; NaN too where what is done is unknown or nobody moves.
        segments: of all persons, in order of time.
        modalities: what the answers rest on; they took so many ``seconds``.
        notes: what couldn't be had of the recording.
    """

    input: str
    class_names: tuple[str, ...]
    config: TimelineConfig
    frames: int
    duration: float
    windows: Windows
    labels: list[list[str | None]]
    probabilities: np.ndarray
    smoothed: np.ndarray
    segments: list[Segment]
    modalities: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def of_person(self, person: int) -> list[Segment]:
        """The segments of one person, by number from 1."""
        return [segment for segment in self.segments if segment.person == person]

    def to_dict(self, classes: Sequence[int] | None = None, offset: float = 0.0) -> dict[str, Any]:
        """Plain containers for JSON, of some ``classes`` or all, with ``offset`` seconds before the recording; a window
        without an answer has the probabilities null, a pause its label alone."""
        chosen = list(range(len(self.class_names)) if classes is None else classes)
        persons = []
        for number, labels in enumerate(self.labels):
            windows = [
                {
                    "start": round(float(self.windows.starts[place]) + offset, 3),
                    "end": round(float(self.windows.ends[place]) + offset, 3),
                    "label": label,
                    "probabilities": _rounded(self.probabilities[number, place, chosen]),
                    "smoothed": _rounded(self.smoothed[number, place, chosen]),
                }
                for place, label in enumerate(labels)
            ]
            segments = [
                one._asdict() | {"start": round(one.start + offset, 3), "end": round(one.end + offset, 3)}
                for one in self.of_person(number + 1)
            ]
            persons.append({"person": number + 1, "segments": segments, "windows": windows})
        return {
            "input": self.input,
            "frames": self.frames,
            "duration": round(self.duration, 3),
            "classes": [self.class_names[number] for number in chosen],
            "config": dataclasses.asdict(self.config),
            "modalities": list(self.modalities),
            "seconds": self.seconds,
            "notes": list(self.notes),
            "persons": persons,
        }


def _rounded(row: np.ndarray) -> list[float] | None:
    return None if np.isnan(row).any() else [round(float(value), 5) for value in row]


class Windows(NamedTuple):
    """W windows over a recording of T frames, in seconds: ``starts``, ``ends`` and ``middles (W,)``; ``edges (W + 1,)``
    between the times that they stand for, half-way between their middles; and when each frame is shown, ``times``."""

    starts: np.ndarray
    ends: np.ndarray
    middles: np.ndarray
    edges: np.ndarray
    times: np.ndarray

    @classmethod
    def over(cls, times: np.ndarray, duration: float, window: float, stride: float) -> Windows:
        """Windows of ``window`` seconds, ``stride`` apart, over frames at ``times (T,)`` from 0 to ``duration``; one
        where it is shorter. The last one ends with the recording, or less than a tenth of a stride earlier."""
        starts = np.arange(math.floor(max(duration - window, 0) / stride + 1e-9) + 1) * stride
        if duration - window - starts[-1] >= stride / 10:
            starts = np.append(starts, duration - window)
        ends = np.minimum(starts + window, duration)
        middles = (starts + ends) / 2
        edges = np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [duration]])
        return cls(starts, ends, middles, edges, times)

    def fastest(self, pace: np.ndarray) -> np.ndarray:
        """The largest of the speeds ``pace (T,)`` about each window's middle, ``(W,)``."""
        starts = np.minimum(self.edges[:-1], self.middles - PAUSE / 2)
        ends = np.maximum(self.edges[1:], self.middles + PAUSE / 2)
        spans = np.searchsorted(self.times, [starts, ends]).T
        return np.array([pace[first:end].max(initial=0.0) for first, end in spans])

    def segment(self, first: int, last: int, moves: np.ndarray) -> tuple[float, float, int, int] | None:
        """From when to when, and in which frames, windows ``first`` to ``last`` hold what begins and ends with motion,
        ``moves (T,)`` bool; None without any."""
        start, end = self.edges[first], self.edges[last + 1]
        inside = np.flatnonzero((self.times >= start - 1e-9) & (self.times < end - 1e-9))
        frames = inside[moves[inside]]
        if not len(frames):
            return None
        if frames[0] > inside[0]:
            start = self.times[frames[0]]
        if frames[-1] < inside[-1]:
            end = self.times[frames[-1] + 1]
        return float(start), float(end), int(frames[0]), int(frames[-1])


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
    ``leave``, another class begins to hold, or a window has no answer: NaN in ``probabilities (W, classes)``.
    """
    runs: list[tuple[int, int, int]] = []
    holds: int | None = None
    for window, row in enumerate(probabilities):
        best = int(row.argmax())
        if np.isnan(row).any() or (row[best] < enter and holds is not None and row[holds] < leave):
            holds = None
        elif row[best] >= enter and holds != best:
            holds = best
            runs.append((window, window, best))
        elif holds is not None:
            runs[-1] = (runs[-1][0], window, holds)
    return runs


def recognise_long(
    recognizer: Recognizer,
    source: str | Path | Input | InputClip,
    config: TimelineConfig | None = None,
    modalities: Sequence[str] = MODALITIES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Timeline:
    """The timeline of a recording; joints are estimated once for all windows.

    Every person has a timeline of their own, in which the others aren't seen: as many persons as
    ``PoseConfig.persons`` says, or as a skeleton file holds. ``source`` and ``modalities`` are as of
    :meth:`Recognizer.predict`; without a ``config`` windows are as long as the clips that the model was trained on;
    ``progress`` is called with (windows done, windows in all). Raises InputError: the recording can't be read, or
    nobody is in it.
    """
    began = clock.perf_counter()
    config = config or TimelineConfig().as_long_as(recognizer.clip_seconds)
    recognizer.check_modalities(modalities)
    clip, names = recognizer.sources.read(source), recognizer.class_names
    sample = clip.sample
    if not sample.present.any():
        raise InputError(f"{clip.name}: {'; '.join(clip.notes) or 'nobody is in it'}")
    times, duration = frame_times(clip, config.fps)
    windows = Windows.over(times - times[0], duration, config.window, config.stride)
    ranges = np.searchsorted(windows.times, [windows.starts, windows.ends]).T
    shape = sample.num_persons, len(ranges), len(names)
    probabilities, smoothed = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    labels, segments, used = list[list[str | None]](), list[Segment](), set[str]()
    looks = recognizer.looks_at_video and "video" in modalities and isinstance(clip.video, Path)
    # Opened once for all windows.
    with RecentVideo(Path(clip.video)) if looks else nullcontext() as video:  # type: ignore[arg-type]
        for person, there in enumerate(sample.present):
            # Where the person is hardly seen there is no answer.
            shares = [there[first:end].mean() if first < end else 0.0 for first, end in ranges]
            numbers = np.flatnonzero(np.array(shares) >= max(config.least, 1e-9))
            known = np.full((len(ranges), 1), np.nan)
            for first in range(0, len(numbers), _BATCH):
                batch = numbers[first : first + _BATCH]
                parts = [sliced(sample, person, slice(*ranges[number])) for number in batch]
                clips = [clip._replace(sample=part, video=video) for part in parts]
                for number, found in zip(batch, recognizer.predict_clips(clips, modalities), strict=True):
                    if found.modalities:
                        probabilities[person, number], known[number] = found.probabilities, found.known
                        used |= {*found.modalities}
                progress(person * shape[1] + first + len(batch), shape[0] * shape[1])
            pace = speeds(sample.joints[person], there, len(times) / duration)
            answers = probabilities[person], known, pace
            shown, smoothed[person], found_segments = of_person(person + 1, windows, *answers, config, names)
            labels.append(shown)
            segments += found_segments
    return Timeline(
        input=clip.name,
        class_names=names,
        config=config,
        frames=sample.num_frames,
        duration=duration,
        windows=windows,
        labels=labels,
        probabilities=probabilities,
        smoothed=smoothed,
        segments=sorted(segments, key=lambda segment: (segment.start, segment.person)),
        modalities=tuple(name for name in MODALITIES if name in used),
        seconds=clock.perf_counter() - began,
        notes=clip.notes,
    )


def of_person(
    person: int,
    windows: Windows,
    rows: np.ndarray,
    known: np.ndarray,
    pace: np.ndarray,
    config: TimelineConfig,
    names: tuple[str, ...],
) -> tuple[list[str | None], np.ndarray, list[Segment]]:
    """One person's labels, smoothed probabilities and segments, as :class:`Timeline` has them.

    ``rows (W, classes)`` are the windows' answers, ``known (W, 1)`` is 1 where they are of known classes and NaN
    without an answer, ``pace (T,)`` speeds.
    """
    moving = windows.fastest(pace) >= config.still
    rested = np.where(moving[:, None], rows, np.nan)
    smoothed = smooth(rested, windows.middles, config.smooth)
    # One window of many may err.
    is_known = np.nan_to_num(smooth(known, windows.middles, config.smooth)[:, 0]) >= 0.5
    runs = merge(smoothed, config.enter, config.leave)
    segments = []
    # What an action begins or ends in looks like none; the window in its middle shows the most of it.
    for first, last, label in [run for run in runs if is_known[(run[0] + run[1]) // 2]]:
        is_known[first : last + 1] = True
        span = windows.segment(first, last, pace >= config.still)
        # A recording that is no longer keeps its only one.
        if span and (span[1] - span[0] >= config.shortest or last + 1 - first == len(rows)):
            mean = float(np.nanmean(smoothed[first : last + 1, label]))
            segments.append(Segment(person, names[label], *span, mean))
    smoothed[~is_known] = np.nan
    labels: list[str | None] = [None] * len(rows)
    for number in np.flatnonzero(~np.isnan(rested).any(1)):
        labels[number] = names[int(rested[number].argmax())] if is_known[number] else UNKNOWN
    return labels, smoothed, segments


def speeds(joints: np.ndarray, present: np.ndarray, rate: float) -> np.ndarray:
    """How fast a person's quickest fifth of ``joints (T, V, C)`` is, in body lengths a second, ``(T,)``; 0 of nobody.

    Where the person is absent, by ``present (T,)`` bool, the frame before counts; ``rate`` is frames a second.
    """
    from scipy.ndimage import uniform_filter1d  # a fifth of a second, for recordings alone

    size = tallness(joints[present])
    if not size:
        return np.zeros(len(joints))
    frames = np.arange(len(joints))
    seen = np.maximum.accumulate(np.where(present, frames, present.argmax()))
    half = max(round(_SPAN * rate), 1)
    steady = uniform_filter1d(joints[seen].astype(np.float64), 2 * half + 1, axis=0, mode="nearest")
    before, after = (frames - half).clip(0), (frames + half).clip(max=len(frames) - 1)
    each = np.linalg.norm(steady[after] - steady[before], axis=2) * rate / (2 * half)
    return np.asarray(np.sort(each, axis=1)[:, -max(each.shape[1] // 5, 1) :].mean(1) / size)


def sliced(sample: Sample, person: int, frames: slice) -> Sample:
    """One person of a sample in some of its frames; pixels and video frames stay what they are."""
    both = {
        name: getattr(sample, name)[person : person + 1, frames]
        for name in ("joints", "present", "pixels", "confidence", "boxes", "interpolated")
        if getattr(sample, name) is not None
    }
    video_frames = None if sample.video_frames is None else sample.video_frames[frames]
    return dataclasses.replace(
        sample, **both, frame_index=sample.frame_index[frames], video_frames=video_frames
    )
