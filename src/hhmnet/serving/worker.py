"""What runs in a process of its own: a recognizer that answers jobs until it is told to end, or is ended.

A file from outside is opened here and nowhere else. The process can be killed at any moment; a decoder that crashes
on a hostile file, or takes all memory, takes only this process with it. Jobs and answers are JSON, nothing else.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hhmnet.inference.prediction import Prediction
from hhmnet.inference.sources import Input, InputError
from hhmnet.readers.pairing import VIDEO_SUFFIXES
from hhmnet.serving.limits import MEGABYTE, Limits, Refused
from hhmnet.skeleton import PARTS, SkeletonLayout

log = logging.getLogger("hhmnet.serving")

FASTEST = 240
"""Frames a second beyond which a video counts as too long."""


class _HasLayout(Protocol):
    @property
    def layout(self) -> SkeletonLayout: ...


class Answering(Protocol):
    """What of :class:`hhmnet.inference.recognizer.Recognizer` is used here."""

    class_names: tuple[str, ...]
    looks_at_video: bool

    @property
    def sources(self) -> _HasLayout:
        """Where the model's joints are told."""

    def predict(self, source: Input, top: int, modalities: Sequence[str]) -> Prediction:
        """The answer on one file."""


Maker = Callable[[], Answering]
"""Makes the recognizer; called in each worker, so it must be a function that another process can import, such as
``functools.partial(load, "runs/both")``."""


class NotLoaded(ValueError):
    """A recognizer that can't be made; the message says why."""


def load(folder: str, device: str = "auto", videos: bool = True) -> Answering:
    """A recognizer with all of its networks in memory, those that find joints in videos included if ``videos``.

    Raises:
        PretrainedError: there is no model in the folder.
        PoseError: the networks that find joints can't be had.
    """
    from hhmnet.inference.recognizer import Recognizer

    recognizer = Recognizer.from_pretrained(folder, device)
    if videos:
        _ = recognizer.sources.estimator  # else the first client would wait for it
    return recognizer


def work(make: Maker, limits: Limits, pipe: Connection) -> None:
    """Load, say what was loaded, then answer job after job; returns when the other end of ``pipe`` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the server ends this one
    try:
        recognizer = make()
    except Exception as error:
        known = type(error).__module__.startswith("hhmnet.")
        if not known:
            log.exception("the model can't be loaded")
        reason = str(error) if known else f"{type(error).__name__} while loading the model"
        pipe.send_bytes(json.dumps({"failed": reason}).encode())
        return
    pipe.send_bytes(json.dumps({"model": card(recognizer)}).encode())
    _limit_memory(limits)
    while True:
        try:
            job = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send_bytes(json.dumps(_reply(recognizer, job, limits)).encode())


def card(recognizer: Answering) -> dict[str, Any]:
    """What a client may know of the model."""
    layout = recognizer.sources.layout
    return {
        "classes": list(recognizer.class_names),
        "modalities": ["skeleton", "video"] if recognizer.looks_at_video else ["skeleton"],
        "layout": layout.name,
        "joints": list(layout.joints),
        "bones": [list(bone) for bone in layout.edges],
        "parts": list(PARTS),
    }


def _reply(recognizer: Answering, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    path, name = Path(job["path"]), job["name"]
    try:
        return {"answer": _answer(recognizer, path, name, job, limits)}
    except Refused as refused:
        return {"status": refused.status, "detail": refused.detail}
    except MemoryError:
        return {"status": 413, "detail": f"'{name}' takes more memory than this server gives to one request"}
    except Exception as error:
        if isinstance(error, ValueError) and type(error).__module__.startswith("hhmnet."):
            # Messages may begin with the file, which has a name of ours.
            reason = str(getattr(error, "reason", error)).removeprefix(f"{path}: ").removeprefix(f"{name}: ")
            reason = reason.replace(str(path), name).replace(str(path.parent), "")
            return {"status": 422, "detail": f"'{name}': {reason}"}
        if "can't allocate memory" in str(error):
            return {
                "status": 413,
                "detail": f"'{name}' takes more memory than this server gives to one request",
            }
        log.exception("a fault in answering")
        return {"status": 500, "detail": "the server failed on this file; its log says why"}


def _answer(
    recognizer: Answering, path: Path, name: str, job: dict[str, Any], limits: Limits
) -> dict[str, Any]:
    video = None
    if path.suffix in VIDEO_SUFFIXES:
        if not limits.videos:
            raise Refused(415, f"'{name}' is a video; this server takes skeleton files alone")
        video = _look(path, name, limits)
    prediction = recognizer.predict(Input(name, path), top=job["top"], modalities=job["modalities"])
    answer = prediction.to_dict()
    answer["input"] = name
    answer["votes"] = {
        member: recognizer.class_names[int(part.argmax())] for member, part in prediction.members.items()
    }
    if job["details"]:
        answer["details"] = details(prediction, recognizer.sources.layout, video)
    return answer


class _Look:
    """What a video is: its size in pixels and when each of its frames is shown."""

    def __init__(self, size: tuple[int, int], times: np.ndarray) -> None:
        self.size, self.times = size, times


def _look(path: Path, name: str, limits: Limits) -> _Look:
    """Raise Refused for a video that is too large or too long, before more than one picture of it is decoded."""
    import av

    from hhmnet.video import open_video

    try:
        with av.open(str(path)) as container:
            pictures = container.streams.video
            if not pictures:
                raise InputError("has no pictures")
            _check_size((pictures[0].width, pictures[0].height), name, limits)
    except av.FFmpegError:
        raise InputError("is no video that can be read, or a damaged one") from None
    with open_video(path) as video:
        times = video.times
        if times[-1] > limits.video_seconds or len(times) > FASTEST * limits.video_seconds:
            found = f"'{name}' takes {times[-1]:.1f} seconds and {len(times)} frames"
            raise Refused(413, f"{found}; it may take {limits.video_seconds:g} seconds; cut it")
        size = (video.width, video.height)  # as shown: a telephone's picture is stored lying on its side
        _check_size(size, name, limits)
    return _Look(size, times)


def _check_size(size: tuple[int, int], name: str, limits: Limits) -> None:
    if max(size) > limits.resolution:
        found = f"'{name}' has {size[0]} x {size[1]} pixels"
        raise Refused(413, f"{found}; the longer side may have {limits.resolution}")


def details(prediction: Prediction, layout: SkeletonLayout, video: _Look | None) -> dict[str, Any]:
    """What the page draws; M persons, T frames, V joints, P parts, K instants.

    ``points``: ``[M][T][V]`` of ``[x, y]`` or null, in pixels of ``size``, y down. ``seconds``: ``[T]``, when each
    frame is shown. ``guidance``: ``[P][K]`` and ``instants``: ``[K]``, in seconds; null without guidance.
    """
    sample = prediction.sample
    if sample is None:
        return {"points": [], "seconds": [], "size": None, "guidance": None, "instants": None}
    seconds = _seconds(sample.video_frames, sample.num_frames, video)
    seen = np.repeat(sample.present[..., None], sample.joints.shape[2], 2)
    if video is None:
        points, size = _from_ahead(sample.joints, sample.present, layout)
    elif sample.pixels is None:  # nobody was found
        points, size = np.zeros((*seen.shape, 2)), video.size
        seen = np.zeros_like(seen)
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


def _seconds(video_frames: np.ndarray | None, count: int, video: _Look | None) -> np.ndarray:
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


def _limit_memory(limits: Limits) -> None:
    """Let the process take only so much more than it has; a request beyond that fails instead of the machine."""
    if sys.platform != "linux":
        return
    torch = sys.modules.get("torch")
    if (
        torch is not None and torch.cuda.is_initialized()
    ):  # a GPU's address space is far larger than what it takes
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + round(limits.memory_mb * MEGABYTE)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the upload
