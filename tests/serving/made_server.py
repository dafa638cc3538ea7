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

from hhmnet.inference.prediction import Prediction, best
from hhmnet.inference.sources import Input, InputError
from hhmnet.sample import Sample
from hhmnet.serving.app import create_app
from hhmnet.serving.limits import Limits
from hhmnet.skeleton import KINECT20
from hhmnet.video import open_video

CLASSES = ("sit", "stand", "walk")
PREDICT = "/api/v1/predict"
PATIENCE = 120.0
"""Seconds that a test waits for what happens at once on an idle machine."""
QUICK = Limits(upload_mb=1, video_seconds=3, resolution=640, answer_seconds=20, concurrent=2)


class ObedientRecognizer:
    """Answers ``walk``; a JSON file may order something else, by its field ``do``."""

    def __init__(self, looks_at_video: bool = True) -> None:
        self.class_names, self.looks_at_video = CLASSES, looks_at_video
        self.sources = SimpleNamespace(layout=KINECT20)
        self.served = 0

    def predict(self, source: Input, top: int, modalities: Sequence[str]) -> Prediction:
        self.served += 1
        if source.path.suffix == ".json":
            self._obey(source, json.loads(source.path.read_text()))
        probabilities = np.array([0.1, 0.2, 0.7], np.float32)
        members = {"joint": probabilities, "video": probabilities[::-1].copy()}
        sample = _sample(source.path)
        return Prediction(
            source.name,
            "walk",
            best(probabilities, CLASSES, top),
            probabilities,
            tuple(modalities),
            {name: part for name, part in members.items() if name != "video" or "video" in modalities},
            float(os.getpid()),  # tells tests which process answered
            sample,
            np.linspace(0, 2, 20, dtype=np.float32).reshape(5, 4) if "video" in modalities else None,
            np.array([1.0, 3.0, 5.0, 7.0]) if "video" in modalities else None,
        )

    def _obey(self, source: Input, content: Any) -> None:
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


def _sample(path: Path) -> Sample:
    video = path.suffix not in (".json", ".csv", ".npz", ".npy", ".skeleton")
    count = 8
    if video:
        with open_video(path) as opened:
            count = len(opened)
    joints = np.random.default_rng(0).normal(size=(1, count, 20, 3)).astype(np.float32)
    frames = np.arange(count, dtype=np.int32)
    pixels = np.full((1, count, 20, 2), 12.34, np.float32)
    confidence = np.ones((1, count, 20), np.float32)
    confidence[:, :, 3] = 0
    return Sample(
        "clip",
        -1,
        joints,
        np.ones((1, count), bool),
        frames,
        pixels=pixels if video else None,
        confidence=confidence,
        video="clip.mp4" if video else None,
        video_frames=frames if video else None,
    )


class BrokenRecognizer:
    """Can't be made."""

    def __init__(self) -> None:
        raise InputError("runs/none: there is no model")


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
    api = next(route.app for route in client.app.routes if getattr(route, "path", "") == "/api/v1")  # type: ignore[attr-defined]
    return sorted(path.name for path in api.state.folder.rglob("*"))


@contextmanager
def listening(limits: Limits = QUICK, page: bool = False, **more: Any) -> Iterator[tuple[int, Path, Any]]:
    """Port, private folder and workers of a server that is reached over sockets."""
    import uvicorn

    app = create_app(ObedientRecognizer, limits, page=page, **more)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        try:
            until(lambda: server.started)
            api = next(route.app for route in app.routes if getattr(route, "path", "") == "/api/v1")  # type: ignore[attr-defined]
            yield place.getsockname()[1], api.state.folder, app.state.workers
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def until(true: Callable[[], Any]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
