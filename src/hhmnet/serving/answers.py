"""The response on one file: the prediction, what the page draws, and the probabilities over time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hhmnet.predict.prediction import Prediction
from hhmnet.predict.sources import Input, InputClip, InputError
from hhmnet.predict.timeline import Timeline, TimelineConfig, frame_times, recognise_long
from hhmnet.readers.pairing import VIDEO_SUFFIXES
from hhmnet.serving.limits import Limits, Refused
from hhmnet.serving.schema import RequestOptions
from hhmnet.skeleton import SkeletonLayout

if TYPE_CHECKING:
    from hhmnet.predict.recognizer import Recognizer

FASTEST = 240
"""Frames a second beyond which a video counts as too long."""
MOST_WINDOWS = 120
"""Windows of one timeline, of all persons together."""


class VideoFacts(NamedTuple):
    """A video's size in pixels, and when each of its frames is shown, ``(T,)`` in seconds."""

    size: tuple[int, int]
    times: np.ndarray


def respond(recognizer: Recognizer, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The response on the file of a job, as the API's clients get it.

    Raises:
        Refused: the file lies beyond the limits.
        InputError: it can't be read, or nobody is in it.
    """
    began, options = time.perf_counter(), RequestOptions(**job["options"])
    clip, video = read_upload(recognizer, job, limits)  # once, as finding the joints takes longest
    prediction = recognizer.predict(clip, top=options.top, modalities=options.modality)
    response = prediction.to_dict()
    response |= {"input": job["name"], "votes": prediction.votes(recognizer.class_names)}
    if options.details:
        response["details"] = details(prediction, recognizer.sources.layout, video)
    if options.timeline:
        response["timeline"], notes = timeline(recognizer, clip, options, video)
        response["notes"] += notes
    response["seconds"] = time.perf_counter() - began
    return response


def read_upload(
    recognizer: Recognizer, job: dict[str, Any], limits: Limits
) -> tuple[InputClip, VideoFacts | None]:
    """The clip in a job's file, and what is known of its video if it is one; raises as :func:`respond`."""
    path, name, video = Path(job["path"]), job["name"], None
    if path.suffix in VIDEO_SUFFIXES:
        if not limits.videos:
            raise Refused(415, f"'{name}' is a video; this server takes skeleton files alone")
        video = check_video(path, name, limits)
    return recognizer.sources.read(Input(name, path)), video


def check_video(path: Path, name: str, limits: Limits) -> VideoFacts:
    """Raise Refused for a video that is too large or too long, before more than one picture of it is decoded."""
    from hhmnet.video import VideoError, open_video, stored_size

    def check_size(size: tuple[int, int]) -> None:
        if max(size) > limits.resolution:
            found = f"'{name}' has {size[0]} x {size[1]} pixels"
            raise Refused(413, f"{found}; the longer side may have {limits.resolution}")

    try:
        stored = stored_size(path)
    except VideoError as error:
        raise InputError(f"is no video that can be read, or a damaged one: {error.reason}") from None
    check_size(stored)
    with open_video(path) as video:
        times = video.times
        if times[-1] > limits.video_seconds or len(times) > FASTEST * limits.video_seconds:
            found = f"'{name}' takes {times[-1]:.1f} seconds and {len(times)} frames"
            raise Refused(413, f"{found}; it may take {limits.video_seconds:g} seconds; cut it")
        size = (video.width, video.height)  # as shown: a telephone's picture is stored lying on its side
        check_size(size)
    return VideoFacts(size, times)


def details(prediction: Prediction, layout: SkeletonLayout, video: VideoFacts | None) -> dict[str, Any]:
    """What the page draws; M persons, T frames, V joints, P parts, K instants.

    ``points``: ``[M][T][V]`` of ``[x, y]`` or null, in pixels of ``size``, y down. ``seconds``: ``[T]``, when each
    frame is shown. ``guidance``: ``[P][K]`` and ``instants``: ``[K]``, in seconds; null without guidance.
    """
    sample = prediction.sample
    seconds = _seconds(sample.video_frames, sample.num_frames, video)
    seen = np.repeat(sample.present[..., None], sample.joints.shape[2], 2)
    if video is None:
        points, size = _from_ahead(sample.joints, sample.present, layout)
    elif sample.pixels is None:  # nobody was found
        points, size, seen = np.zeros((*seen.shape, 2)), video.size, np.zeros_like(seen)
    else:
        points, size = sample.pixels.astype(np.float64), video.size
    if sample.confidence is not None:
        seen = seen & (sample.confidence > 0)
    instants = None
    if prediction.times is not None:
        frames = np.clip(prediction.times, 0, sample.num_frames - 1)
        instants = np.interp(frames, np.arange(sample.num_frames), seconds).round(3).tolist()
    guidance = prediction.guidance
    return {
        "points": [_listed(*person) for person in zip(points, seen, strict=True)],
        "seconds": seconds.round(4).tolist(),
        "size": [int(side) for side in size],
        "guidance": None if guidance is None else guidance.round(4).tolist(),
        "instants": instants,
    }


def _listed(points: np.ndarray, seen: np.ndarray) -> list[list[list[float] | None]]:
    return [
        [point if is_seen else None for point, is_seen in zip(frame, row, strict=True)]
        for frame, row in zip(points.round(1).tolist(), seen.tolist(), strict=True)
    ]


def _seconds(video_frames: np.ndarray | None, count: int, video: VideoFacts | None) -> np.ndarray:
    """When each frame is shown; thirty a second where nothing is known."""
    if video is None or video_frames is None:
        return np.arange(count) / 30.0
    return np.asarray(video.times[np.clip(video_frames, 0, len(video.times) - 1)])


def _from_ahead(
    joints: np.ndarray, present: np.ndarray, layout: SkeletonLayout
) -> tuple[np.ndarray, tuple[int, int]]:
    """Joints as seen from the camera, without perspective, in a picture 480 high that holds the whole clip."""
    flat = joints[..., :2].astype(np.float64) * (-1 if layout.dims == 3 else 1)
    there = flat[present] if present.any() else np.zeros((1, 1, 2))
    low, span = there.min((0, 1)), np.maximum(np.ptp(there, (0, 1)), 1e-6)
    scale = 440 / span[1]
    width = int(np.clip(span[0] * scale + 40, 160, 1600))
    scale = min(scale, (width - 40) / span[0])
    return (flat - low - span / 2) * scale + np.array([width / 2, 240.0]), (width, 480)


def timeline(
    recognizer: Recognizer, clip: InputClip, options: RequestOptions, video: VideoFacts | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """The timeline of a clip as :meth:`hhmnet.predict.timeline.Timeline.to_dict` writes it, and notes on it.

    Of the probabilities only those of the strongest classes are left, ``options.top`` of them and those that segments
    name. Times are those of the video. None where nobody is in the clip. Windows lie a quarter of a second apart, or
    further where there would be more than :data:`MOST_WINDOWS`.
    """
    if not clip.sample.present.any():
        return None, []
    config, notes = TimelineConfig().as_long_as(recognizer.clip_seconds), []
    _, duration = frame_times(clip, config.fps)
    most = max(MOST_WINDOWS // clip.sample.num_persons, 2)
    least = (duration - config.window) / (most - 1)
    if least > config.stride:
        notes.append(f"the timeline's windows are {least:.2f} s apart, so that the answer comes in time")
        config.stride = least
    found = recognise_long(recognizer, clip, config, options.modality)
    offset = float(_seconds(clip.sample.video_frames, clip.sample.num_frames, video)[0])
    return _strongest(found, options.top, offset), notes


def _strongest(timeline: Timeline, top: int, offset: float) -> dict[str, Any]:
    response = timeline.to_dict()
    peaks = np.nan_to_num(timeline.smoothed).max((0, 1))
    named = {segment.label for segment in timeline.segments}
    order = [int(i) for i in np.argsort(-peaks, kind="stable")]
    kept = [i for rank, i in enumerate(order) if rank < top or timeline.class_names[i] in named]
    for person in response["persons"]:
        for entry in (*person["segments"], *person["windows"]):
            entry["start"], entry["end"] = (round(entry[edge] + offset, 3) for edge in ("start", "end"))
        for window in person["windows"]:
            for field in ("probabilities", "smoothed"):
                window[field] = window[field] and [window[field][i] for i in kept]
    return {
        "start": round(offset, 3),
        "end": round(offset + timeline.duration, 3),
        "classes": [timeline.class_names[i] for i in kept],
        **{field: response[field] for field in ("frames", "config", "modalities", "persons")},
    }
