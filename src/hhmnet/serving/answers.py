"""What a worker says of one file: the prediction, what the page draws, what is done when; and what is learned from it.

A worker that is asked for classes that clients taught is given all of their examples and fits the head anew, which
takes a tenth of a second.
"""

from __future__ import annotations

import base64
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hhmnet.predict.sources import Input, InputClip, InputError, frame_times
from hhmnet.predict.timeline import Timeline, TimelineConfig, recognise_long
from hhmnet.readers.recorded import VIDEO_SUFFIXES
from hhmnet.serving import Limits, Refused
from hhmnet.serving.schema import RequestOptions, Taught
from hhmnet.skeleton import SkeletonLayout

if TYPE_CHECKING:
    from hhmnet.predict.enroll import Examples
    from hhmnet.predict.recognizer import Prediction, Recognizer

FASTEST = 240
"""Frames a second beyond which a video counts as too long."""
MOST_WINDOWS = 120
"""Windows of one timeline, of all persons together."""

Size = tuple[int, int]
"""Width and height of a video in pixels."""


def respond(recognizer: Recognizer, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The response on the file of a job, as the API's clients get it. Raises Refused: the file lies beyond the limits;
    InputError: it can't be read, or nobody is in it."""
    began, options = time.perf_counter(), RequestOptions(**job["options"])
    if "taught" in job:
        recognizer, _ = taught_recognizer(recognizer, job["taught"])
    clip, size = read_upload(recognizer, job, limits)  # once, as finding the joints takes longest
    prediction = recognizer.predict(clip, top=options.top, modalities=options.modality)
    votes = prediction.votes(recognizer.class_names)
    response = prediction.to_dict() | {"input": job["name"], "votes": votes}
    times, duration = frame_times(clip, TimelineConfig.fps)
    if options.details:
        response["details"] = details(prediction, recognizer.sources.layout, times, size)
    if options.timeline:
        response["timeline"] = None
        if clip.sample.present.any():
            config = TimelineConfig().as_long_as(recognizer.clip_seconds)
            least = (duration - config.window) / (max(MOST_WINDOWS // clip.sample.num_persons, 2) - 1)
            if least > config.stride:
                note = f"the timeline's windows are {least:.2f} s apart, so that the answer comes in time"
                response["notes"].append(note)
                config.stride = least
            found = recognise_long(recognizer, clip, config, options.modality)
            response["timeline"] = _strongest(found, options.top, float(times[0]))
    response["seconds"] = time.perf_counter() - began
    return response


def read_upload(recognizer: Recognizer, job: dict[str, Any], limits: Limits) -> tuple[InputClip, Size | None]:
    """The clip in a job's file, and its size if it is a video; raises as :func:`respond`."""
    path, name, size = Path(job["path"]), job["name"], None
    if path.suffix in VIDEO_SUFFIXES:
        if not limits.videos:
            raise Refused(415, f"'{name}' is a video; this server takes skeleton files alone")
        size = check_video(path, name, limits)
    return recognizer.sources.read(Input(name, path)), size


def check_video(path: Path, name: str, limits: Limits) -> Size:
    """A video's size; raises Refused for one that is too large or long, before a second picture of it is decoded."""
    from hhmnet.video import VideoError, open_video, stored_size

    def checked(size: Size) -> Size:
        if max(size) > limits.resolution:
            found = f"'{name}' has {size[0]} x {size[1]} pixels"
            raise Refused(413, f"{found}; the longer side may have {limits.resolution}")
        return size

    try:
        checked(stored_size(path))
    except VideoError as error:
        raise InputError(f"is no video that can be read, or a damaged one: {error.reason}") from None
    with open_video(path) as video:
        times = video.times
        if times[-1] > limits.video_seconds or len(times) > FASTEST * limits.video_seconds:
            found = f"'{name}' takes {times[-1]:.1f} seconds and {len(times)} frames"
            raise Refused(413, f"{found}; it may take {limits.video_seconds:g} seconds; cut it")
        # As shown: a telephone's picture is stored lying on its side.
        return checked((video.width, video.height))


def details(
    prediction: Prediction, layout: SkeletonLayout, times: np.ndarray, size: Size | None
) -> dict[str, Any]:
    """What the page draws; M persons, T frames, V joints, P parts, K instants.

    ``points``: ``[M][T][V]`` of ``[x, y]`` or null, in pixels of ``size``, y down. ``seconds``: ``[T]``, when each
    frame is shown. ``guidance``: ``[P][K]`` and ``instants``: ``[K]``, in seconds; null without guidance."""
    sample = prediction.sample
    seen = np.repeat(sample.present[..., None], sample.joints.shape[2], 2)
    if size is None:
        points, size = _from_ahead(sample.joints, sample.present, layout)
    elif sample.pixels is None:  # nobody was found
        points, seen = np.zeros((*seen.shape, 2)), np.zeros_like(seen)
    else:
        points = sample.pixels.astype(np.float64)
    if sample.confidence is not None:
        seen = seen & (sample.confidence > 0)
    shown = points.round(1).astype(object)
    shown[~seen] = None
    instants = None
    if prediction.times is not None:
        instants = np.interp(prediction.times, np.arange(len(times)), times).round(3).tolist()
    guidance = prediction.guidance
    return {
        "points": [
            [[None if joint[0] is None else joint for joint in frame] for frame in person]
            for person in shown.tolist()
        ],
        "seconds": times.round(4).tolist(),
        "size": [int(side) for side in size],
        "guidance": None if guidance is None else guidance.round(4).tolist(),
        "instants": instants,
    }


def _from_ahead(joints: np.ndarray, present: np.ndarray, layout: SkeletonLayout) -> tuple[np.ndarray, Size]:
    """Joints as seen from the camera, without perspective, in a picture 480 high that holds the whole clip."""
    flat = joints[..., :2].astype(np.float64) * (-1 if layout.dims == 3 else 1)
    there = flat[present] if present.any() else np.zeros((1, 1, 2))
    low, span = there.min((0, 1)), np.maximum(np.ptp(there, (0, 1)), 1e-6)
    scale = 440 / span[1]
    width = int(np.clip(span[0] * scale + 40, 160, 1600))
    scale = min(scale, (width - 40) / span[0])
    return (flat - low - span / 2) * scale + np.array([width / 2, 240.0]), (width, 480)


def _strongest(timeline: Timeline, top: int, offset: float) -> dict[str, Any]:
    """A timeline in its video's time, with the ``top`` strongest classes and those that segments name."""
    order = np.argsort(-np.nan_to_num(timeline.smoothed).max((0, 1)), kind="stable").tolist()
    named = {segment.label for segment in timeline.segments}
    kept = [one for rank, one in enumerate(order) if rank < top or timeline.class_names[one] in named]
    found = timeline.to_dict(kept, offset)
    return {
        "start": round(offset, 3),
        "end": round(offset + timeline.duration, 3),
        **{field: found[field] for field in ("classes", "frames", "config", "modalities", "persons")},
    }


def learn(recognizer: Recognizer, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """What the recognizer's encoders make of a job's file, as JSON."""
    from hhmnet.predict.enroll import embed, encoders_of, length

    clip, _ = read_upload(recognizer, job, limits)
    if not clip.sample.present.any():
        raise InputError("nobody is found in it")
    (embedding,) = embed(encoders_of(recognizer.engine), [clip.sample])
    return {"embedding": base64.b64encode(embedding.tobytes()).decode(), "frames": length(clip)}


def save(recognizer: Recognizer, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Write a zip file with the folder ``taught``, the model of the taught classes, to a job's path."""
    from hhmnet.predict.enroll import encoders_of, save_examples

    path = Path(job["path"])
    folder, (made, examples) = path.parent / "taught", taught_recognizer(recognizer, job["taught"])
    encoders_of(made.engine).save_pretrained(folder)
    save_examples(examples, folder)
    shutil.make_archive(str(path.with_suffix("")), "zip", path.parent, folder.name)
    return {}


def taught_recognizer(recognizer: Recognizer, taught: Taught) -> tuple[Recognizer, Examples]:
    """A recognizer of the taught classes, which finds joints by the networks that are loaded, and what made it."""
    from hhmnet.predict.enroll import Examples, encoders_of, enrolled
    from hhmnet.predict.recognizer import Recognizer

    model = encoders_of(recognizer.engine)
    clips = [(label, clip) for label, name in enumerate(taught) for clip in taught[name]]
    rows = [np.frombuffer(base64.b64decode(clip["embedding"]), np.float32) for _, clip in clips]
    embeddings = np.stack(rows).reshape(len(rows), len(model.spec.data.streams), -1)
    labels, lengths = np.array([label for label, _ in clips]), np.array([clip["frames"] for _, clip in clips])
    examples = Examples(tuple(taught), labels, embeddings, lengths)
    made = Recognizer(enrolled(model, examples)[0], next(model.parameters()).device)
    made.sources = recognizer.sources
    return made, examples


KINDS = {"predict": respond, "learn": learn, "save": save}
"""What jobs can ask for."""
