"""What runs in a process of its own: a recognizer that answers jobs until it is told to end, or is ended.

A file from outside is opened here and nowhere else. The process can be killed at any moment; a decoder that crashes
on a hostile file, or takes all memory, takes only this process with it. Jobs and answers are JSON, nothing else.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hhmnet.serving.answers import Answering, answer
from hhmnet.serving.limits import MEGABYTE, Limits, Refused
from hhmnet.skeleton import PARTS

log = logging.getLogger("hhmnet.serving")

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
    from hhmnet.predict.recognizer import Recognizer

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
        return {"answer": answer(recognizer, job, limits)}
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
