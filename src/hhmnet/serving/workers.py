"""Worker processes that predict: started, given a file with a time limit, ended and replaced.

A file from outside is opened in them and nowhere else. A process can be killed at any moment; a decoder that crashes on
a hostile file, or takes all memory, takes only its process with it. Jobs and responses are JSON, nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hhmnet.serving import MEGABYTE, Limits, Refused, busy
from hhmnet.skeleton import PARTS

if TYPE_CHECKING:
    from hhmnet.predict.recognizer import Recognizer

log = logging.getLogger("hhmnet.serving")

Maker = Callable[[], "Recognizer"]
"""Makes the recognizer; called in each worker, so it must be a function that another process can import, such as
``functools.partial(load, "runs/both")``."""
_FAULT = "the server failed on this file; its log says why"


class NotLoaded(ValueError):
    """A recognizer that can't be made; the message says why."""


def load(folder: str, device: str = "auto", videos: bool = True) -> Recognizer:
    """A recognizer with all of its networks in memory, those that find joints in videos included if ``videos``."""
    from hhmnet.predict.recognizer import Recognizer

    recognizer = Recognizer.from_pretrained(folder, device)
    if videos:
        _ = recognizer.sources.estimator  # else the first client would wait for it
    return recognizer


class Workers:
    """Some processes with the same recognizer, which ``make`` makes in each.

    A process is killed when its work takes too long or nobody waits for it any more, and another one takes its place;
    so work that was given up costs nothing further. ``model`` is what a client may know of the model, see
    :class:`hhmnet.serving.schema.Model`; None until it is loaded."""

    def __init__(self, make: Maker, limits: Limits) -> None:
        self._make, self._limits = make, limits
        self._all: set[_Worker] = set()
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._refilling: set[asyncio.Task[None]] = set()
        # The loop's own threads are fewer than the workers may be.
        self._threads = ThreadPoolExecutor(limits.workers, "worker")
        self.model: dict[str, Any] | None = None
        self._runs = False

    def start(self) -> None:
        """Start the processes and wait until each has loaded; raises NotLoaded. Does nothing if they run."""
        if self._runs:
            return
        self._runs = True
        self._all = {_Worker(self._make, self._limits) for _ in range(self._limits.workers)}
        try:
            for worker in self._all:
                self.model = worker.wait_for_model()
                self._idle.put_nowait(worker)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes."""
        self._runs = False
        for worker in self._all:
            worker.kill()
        self._all, self._idle = set(), asyncio.Queue()

    @property
    def ready(self) -> bool:
        """Whether a process is there that has loaded: idle, or at work on another request."""
        return any(worker.loaded and worker.process.is_alive() for worker in self._all)

    async def work(self, job: dict[str, Any]) -> dict[str, Any]:
        """The response to a job: its ``kind``, ``path`` and ``name`` of a file, and what that kind needs. Raises
        Refused: the file can't be answered, or not in time, or the work failed.
        """
        seconds = self._limits.answer_seconds
        end = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                worker = await self._idle.get()
        except TimeoutError:
            raise busy(f"no worker was free within {seconds:g} seconds") from None
        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self._threads, worker.work, job, end - time.monotonic())
        try:
            reply = await asyncio.shield(working)
        except BaseException as error:  # also where the client is gone, and work goes on
            worker.kill()
            await asyncio.gather(working, return_exceptions=True)
            self._all.discard(worker)
            refilling = asyncio.ensure_future(self._refill())
            self._refilling.add(refilling)
            refilling.add_done_callback(self._refilling.discard)
            if isinstance(error, TimeoutError):
                detail = f"'{job['name']}' took longer than {seconds:g} seconds and was given up"
                raise Refused(504, detail) from None
            if isinstance(error, EOFError):
                log.error("a worker ended on a request (exit code %s)", worker.process.exitcode)
                raise Refused(500, _FAULT) from None
            raise
        self._idle.put_nowait(worker)
        if "response" not in reply:
            raise Refused(reply["status"], reply["detail"])
        response: dict[str, Any] = reply["response"]
        return response

    async def _refill(self) -> None:
        """Begin another process in the place of one that has ended."""
        while self._runs:
            worker = _Worker(self._make, self._limits)
            self._all.add(worker)
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, worker.wait_for_model)
                self._idle.put_nowait(worker)
                return
            except NotLoaded as error:
                self._all.discard(worker)
                if self._runs:
                    log.error("a worker can't be replaced: %s", error)
                    await asyncio.sleep(5)


class _Worker:
    """One process and the pipe to it. Its methods block; they are called from threads."""

    def __init__(self, make: Maker, limits: Limits) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(make, limits, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.loaded = False

    def wait_for_model(self) -> dict[str, Any]:
        """What was loaded, as soon as it is; raises NotLoaded."""
        reply = {"failed": "a worker process ended, or hung, while it loaded the model"}
        with suppress(EOFError, TimeoutError):
            reply = self._receive(600)  # the first worker ever may have networks to fetch
        if "failed" in reply:
            self.kill()
            raise NotLoaded(reply["failed"])
        self.loaded = True
        return reply

    def work(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The reply to a job; raises TimeoutError after ``seconds``, or EOFError if the process is gone."""
        try:
            self._pipe.send_bytes(json.dumps(job).encode())
        except OSError:
            raise EOFError from None
        return self._receive(seconds)

    def _receive(self, seconds: float) -> dict[str, Any]:
        try:
            if not self._pipe.poll(max(seconds, 0)):
                raise TimeoutError
            reply: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except ConnectionError:
            raise EOFError from None
        return reply

    def kill(self) -> None:
        """End the process, whatever it is doing, and wait until it is gone."""
        self.process.kill()
        self.process.join()


def _work(make: Maker, limits: Limits, pipe: Connection) -> None:
    """Load, say what was loaded, then reply to job after job; returns when the other end of ``pipe`` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the server ends this one

    def say(reply: dict[str, Any]) -> None:
        pipe.send_bytes(json.dumps(reply).encode())

    try:
        recognizer = make()
    except Exception as error:
        known = type(error).__module__.startswith("hhmnet.")
        if not known:
            log.exception("the model can't be loaded")
        say({"failed": str(error) if known else f"{type(error).__name__} while loading the model"})
        return
    layout = recognizer.sources.layout
    say(
        {
            "classes": list(recognizer.class_names),
            "modalities": ["skeleton", "video"] if recognizer.looks_at_video else ["skeleton"],
            "layout": layout.name,
            "joints": list(layout.joints),
            "bones": [list(bone) for bone in layout.edges],
            "parts": list(PARTS),
        }
    )
    _limit_memory(limits)
    gc.freeze()  # the networks stay, and looking through them for garbage takes a tenth of a second
    with suppress(EOFError):
        while True:
            say(_reply(recognizer, json.loads(pipe.recv_bytes()), limits))


def _reply(recognizer: Recognizer, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
    from hhmnet.serving import answers

    path, name = Path(job["path"]), job["name"]
    try:
        return {"response": answers.KINDS[job["kind"]](recognizer, job, limits)}
    except Refused as refused:
        return {"status": refused.status, "detail": refused.detail}
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            detail = f"'{name}' takes more memory than this server gives to one request"
            return {"status": 413, "detail": detail}
        if isinstance(error, ValueError) and type(error).__module__.startswith("hhmnet."):
            # Messages may begin with the file, which has a name of ours.
            reason = str(getattr(error, "reason", error)).removeprefix(f"{path}: ").removeprefix(f"{name}: ")
            reason = reason.replace(str(path), name).replace(str(path.parent), "")
            return {"status": 422, "detail": f"'{name}': {reason}"}
        log.exception("a fault in predicting")
        return {"status": 500, "detail": _FAULT}


def _limit_memory(limits: Limits) -> None:
    """Let the process take only so much more than it has; a request beyond that fails instead of the machine."""
    torch = sys.modules.get("torch")
    # A GPU's address space is far larger than what it takes.
    if sys.platform != "linux" or (torch is not None and torch.cuda.is_initialized()):
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + round(limits.memory_mb * MEGABYTE)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the upload
