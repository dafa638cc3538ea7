"""What is done when in a long recording: windows over it, probabilities over time, segments."""

from __future__ import annotations

import dataclasses
import time as clock
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hhmnet.pose.estimate import KEPT_BYTES
from hhmnet.predict.prediction import softmax
from hhmnet.predict.segments import Segment, TimelineConfig, smooth, to_segments, windows
from hhmnet.predict.sources import Clip, Input, InputError, check_modalities
from hhmnet.sample import MODALITIES, Sample
from hhmnet.video import Video, open_video

if TYPE_CHECKING:
    from hhmnet.predict.recognizer import Recognizer

_BATCH = 16


class PersonTimeline(NamedTuple):
    """What one person does; W windows.

    Attributes:
        person: the person's number, from 1, the most important first.
        probabilities: ``(W, classes)`` float32 of each window; NaN where the person isn't seen enough.
        smoothed: ``(W, classes)``, smoothed over time.
        segments: what came of it, in order of time.
    """

    person: int
    probabilities: np.ndarray
    smoothed: np.ndarray
    segments: list[Segment]


@dataclass(frozen=True, eq=False)
class Timeline:
    """What is done when in a recording; W windows.

    Attributes:
        input: the recording, as it was given.
        class_names: the classes.
        config: windows and segments.
        frames: number of frames.
        duration: seconds.
        starts: ``(W,)`` seconds, where each window begins.
        ends: ``(W,)`` seconds, where it ends.
        persons: a timeline for each person.
        modalities: what the answers rest on.
        seconds: time that it took.
        notes: what couldn't be had of the recording.
    """

    input: str
    class_names: tuple[str, ...]
    config: TimelineConfig
    frames: int
    duration: float
    starts: np.ndarray
    ends: np.ndarray
    persons: list[PersonTimeline]
    modalities: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def segments(self) -> list[Segment]:
        """All persons' segments, in order of time."""
        return sorted(
            (segment for person in self.persons for segment in person.segments),
            key=lambda segment: (segment.start, segment.person),
        )


class RecentVideo(Video):
    """A video that keeps the last pictures, as many as fit into 256 MiB: windows that overlap share theirs."""

    _recent: dict[int, np.ndarray]
    _next = 0

    def frame(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` uint8 of one frame, only for reading; raises VideoError if it can't be had."""
        if not hasattr(self, "_recent"):
            self._recent = {}
        if index in self._recent:
            return self._recent[index]
        image = super().frame(index)
        most = max(KEPT_BYTES // image.nbytes, 1)
        if 0 < index - self._next < most:  # what is passed now may be wanted by the next window
            for passed in range(self._next, index):
                self._keep(passed, super().frame(passed), most)
        self._next = index + 1
        return self._keep(index, image, most)

    def _keep(self, index: int, image: np.ndarray, most: int) -> np.ndarray:
        self._recent[index] = image
        while len(self._recent) > most:
            del self._recent[min(self._recent)]
        return image


def recognise_long(
    recognizer: Recognizer,
    source: str | Path | Input | Clip,
    config: TimelineConfig | None = None,
    modalities: Sequence[str] = MODALITIES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Timeline:
    """The timeline of a recording. Joints are estimated once for all windows, see :class:`TimelineConfig` for the rest.

    Every person has a timeline of their own, in which the others aren't seen: as many persons as
    ``PoseConfig.persons`` says, or as a skeleton file holds.

    Args:
        recognizer: the model.
        source: a video, a skeleton file, a clip of a store, or a clip that was read already.
        config: windows and segments; if None, windows as long as the clips that the model was trained on.
        modalities: what to go by: ``skeleton``, ``video`` or both.
        progress: called with (windows done, windows in all).

    Raises:
        InputError: the recording can't be read, or nobody is in it.
    """
    began = clock.perf_counter()
    if config is None:
        config = TimelineConfig().as_long_as(recognizer.clip_seconds)
    check_modalities(modalities, recognizer.looks_at_video)
    clip = recognizer.sources.read(source)
    if not clip.sample.present.any():
        raise InputError(f"{clip.name}: {'; '.join(clip.notes) or 'nobody is in it'}")
    with _opened(clip, recognizer.looks_at_video and "video" in modalities) as video:
        times, duration = frame_times(clip, video, config.fps)
        starts, ends = windows(duration, config.window, config.stride)
        ranges = np.searchsorted(times, [starts, ends]).T
        count = clip.sample.num_persons
        found, used = [], np.zeros(len(MODALITIES), bool)
        for person in range(count):
            parts = list(_cut(clip._replace(video=video), person, ranges, config.least))
            rows = np.full((len(ranges), len(recognizer.class_names)), np.nan, np.float32)
            for first in range(0, len(parts), _BATCH):
                batch = parts[first : first + _BATCH]
                used |= _answer(recognizer, batch, modalities, rows)
                progress(person * len(ranges) + min(first + _BATCH, len(parts)), count * len(ranges))
            found.append(rows)
    middles = (starts + ends) / 2
    persons = []
    for number, rows in enumerate(found, 1):
        smoothed = smooth(rows, middles, config.smooth)
        segments = to_segments(number, smoothed, recognizer.class_names, middles, times, duration, config)
        persons.append(PersonTimeline(number, rows, smoothed, segments))
    return Timeline(
        clip.name,
        recognizer.class_names,
        config,
        clip.sample.num_frames,
        duration,
        starts,
        ends,
        persons,
        tuple(name for name, is_used in zip(MODALITIES, used, strict=True) if is_used),
        clock.perf_counter() - began,
        clip.notes,
    )


def _answer(
    recognizer: Recognizer, batch: list[tuple[int, Clip]], modalities: Sequence[str], rows: np.ndarray
) -> np.ndarray:
    """Enter the probabilities of some windows in ``rows (W, classes)``; returns which modalities were used."""
    said = recognizer.ask([part for _, part in batch], modalities)
    there = said.answer.used.cpu().numpy()
    probabilities = softmax(said.answer.logits.float().cpu().numpy())
    rows[[number for number, _ in batch]] = np.where(there.any(1, keepdims=True), probabilities, np.nan)
    return np.asarray(there.any(0))


@contextmanager
def _opened(clip: Clip, wanted: bool) -> Iterator[Video | None]:
    """The clip's video, opened once for all windows; None if it has none or it isn't wanted."""
    if not wanted or not isinstance(clip.video, Path):
        yield None
        return
    with RecentVideo(clip.video) as video:
        yield video


def frame_times(clip: Clip, video: Video | None, fps: float) -> tuple[np.ndarray, float]:
    """When each frame of a clip is, ``(T,)`` in seconds from its first, and how long all of them last.

    Those of its video, where that has a frame for each of the clip's; else ``fps`` a second.
    """
    sample = clip.sample
    if isinstance(clip.video, Path) and sample.video_frames is not None and (sample.video_frames >= 0).all():
        if video is None:
            with open_video(clip.video) as opened:
                seconds, rate = opened.times, opened.fps
        else:
            seconds, rate = video.times, video.fps
        if len(seconds) > sample.video_frames.max() and (np.diff(sample.video_frames) > 0).all():
            times = seconds[sample.video_frames] - seconds[sample.video_frames[0]]
            return times, float(times[-1] + 1 / (rate or fps))
    times = (sample.frame_index - sample.frame_index[0]) / fps
    return times, float(times[-1] + 1 / fps)


def _cut(clip: Clip, person: int, ranges: np.ndarray, least: float) -> Iterator[tuple[int, Clip]]:
    """The windows of one person as clips, with their numbers; without those where the person is hardly seen."""
    for number, (first, end) in enumerate(ranges):
        if first < end and clip.sample.present[person, first:end].mean() >= max(least, 1e-9):
            yield number, clip._replace(sample=sliced(clip.sample, person, slice(first, end)))


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
