"""A recognizer that does what the file says, and a server around it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from hhmnet.confidence import softmax
from hhmnet.predict.recognizer import Prediction, best
from hhmnet.predict.sources import Input, InputClip, InputError
from hhmnet.sample import Sample
from hhmnet.serving import Limits
from hhmnet.serving.app import create_app
from hhmnet.skeleton import KINECT20
from hhmnet.video import open_video

CLASSES = ("sit", "stand", "walk")
PREDICT = "/api/v1/predict"
PATIENCE = 1200.0
"""Seconds that a test waits for what happens at once on an idle machine."""
QUICK = Limits(upload_mb=1, video_seconds=3, resolution=640, answer_seconds=PATIENCE, concurrent=2)


class ObedientRecognizer:
    """Predicts ``walk``; a JSON file may order something else, by its field ``do``."""

    clip_seconds = None

    def __init__(self, looks_at_video: bool = True) -> None:
        self.class_names, self.looks_at_video = CLASSES, looks_at_video
        self.sources = SimpleNamespace(layout=KINECT20, read=_read)

    def predict(self, source: Input | InputClip, top: int, modalities: Sequence[str]) -> Prediction:
        clip, has_video = _read(source), "video" in modalities
        probabilities = np.array([0.1, 0.2, 0.7], np.float32)
        return Prediction(
            clip.name,
            "walk",
            best(probabilities, CLASSES, top),
            probabilities,
            tuple(modalities),
            clip.sample,
            {"joint": probabilities} | ({"video": probabilities[::-1].copy()} if has_video else {}),
            float(os.getpid()),  # tells tests which process answered
            np.linspace(0, 2, 20, dtype=np.float32).reshape(5, 4) if has_video else None,
            np.array([1.0, 3.0, 5.0, 7.0]) if has_video else None,
        )

    def check_modalities(self, modalities: Sequence[str]) -> None:
        pass

    def predict_clips(self, clips: Sequence[InputClip], modalities: Sequence[str]) -> list[Prediction]:
        """``sit`` in the first three seconds, then ``walk``; by the frames' own numbers."""
        found = []
        for clip in clips:
            is_early = clip.sample.frame_index[clip.sample.num_frames // 2] < 90
            shares = softmax(np.array([4.0, 0.0, 1.0] if is_early else [1.0, 0.0, 4.0]))
            found.append(Prediction(clip.name, "", (), shares, tuple(modalities), clip.sample))
        return found


def _read(source: Input | InputClip) -> InputClip:
    if isinstance(source, InputClip):
        return source
    content: dict[str, Any] = {}
    if source.path.suffix == ".json":
        content = json.loads(source.path.read_text())
        _obey(source, content)
    sample = made_sample(
        source.path, **{key: content[key] for key in ("frames", "persons") if key in content}
    )
    return InputClip(source.name, sample, source.path if sample.video else None)


def _obey(source: Input, content: Any) -> None:
    order = content.get("do")
    if order == "sleep":
        time.sleep(content["seconds"])
    elif order == "crash":
        os.abort()
    elif order == "fault":
        raise RuntimeError(f"secret {source.path}")
    elif order == "refuse":
        raise InputError(f"{source.path}: has no bodies, see {source.path.parent}/other")
    elif order == "gorge":
        np.ones(10**11)
    elif order == "neighbours":
        names = sorted(path.name for path in source.path.parent.iterdir())
        raise InputError(f"{source.path.name} among {names}")


def made_sample(path: Path, frames: int = 8, persons: int = 1) -> Sample:
    """Persons who are there all the time, but the second one in the second half alone; none if ``persons`` is 0."""
    video = path.suffix not in (".json", ".csv", ".npz", ".npy", ".skeleton")
    if video:
        with open_video(path) as opened:
            frames = len(opened)
    count = max(persons, 1)
    joints = np.random.default_rng(0).normal(size=(count, frames, 20, 3)).astype(np.float32)
    numbers = np.arange(frames, dtype=np.int32)
    present = np.ones((count, frames), bool)
    present[1:2, : frames // 2] = False
    if not persons:
        present[:] = False
    joints[~present] = 0
    confidence = np.ones((count, frames, 20), np.float32)
    confidence[:, :, 3] = 0
    confidence[~present] = 0
    return Sample(
        "clip",
        -1,
        joints,
        present,
        numbers,
        pixels=np.full((count, frames, 20, 2), 12.34, np.float32) if video else None,
        confidence=confidence,
        video="clip.mp4" if video else None,
        video_frames=numbers if video else None,
    )


@contextmanager
def serving(
    limits: Limits = QUICK, recognizer: Any = ObedientRecognizer, **more: Any
) -> Iterator[TestClient]:
    """A client of a running server, without the page."""
    app = create_app(recognizer, limits, hosts=None, page=False, **more)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def order(what: str, **more: Any) -> dict[str, Any]:
    """A form whose file orders something."""
    return {"file": ("order.json", json.dumps({"do": what, **more}).encode())}


def left_over(client: TestClient) -> list[str]:
    """What lies in the server's private folder."""
    return sorted(path.name for path in client.app.state.folder.rglob("*"))  # type: ignore[attr-defined]


@contextmanager
def listening(
    limits: Limits = QUICK, page: bool = False, recognizer: Any = ObedientRecognizer, **more: Any
) -> Iterator[tuple[int, Path, Any]]:
    """Port, private folder and workers of a server that is reached over sockets."""
    import uvicorn

    app = create_app(recognizer, limits, page=page, **more)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        try:
            until(lambda: server.started)
            yield place.getsockname()[1], app.state.folder, app.state.workers
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def until(true: Callable[[], Any]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
