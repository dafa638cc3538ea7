"""Worker processes that answer, seen from the server: started, asked with a time limit, ended and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from hhmnet.serving.limits import Limits, Refused, busy
from hhmnet.serving.worker import Maker, NotLoaded, work

log = logging.getLogger("hhmnet.serving")

START_SECONDS = 600.0
"""A worker that isn't ready by then never will be; the first one ever may have networks to fetch."""
_PAUSE_SECONDS = 5.0


class _Ended(Exception):
    """A worker's process is gone."""


class _Worker:
    """One process and the pipe to it. Its methods block; they are called from threads."""

    def __init__(self, make: Maker, limits: Limits) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(make, limits, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.loaded = False

    def card(self) -> dict[str, Any]:
        """What was loaded, as soon as it is; raises NotLoaded."""
        try:
            told = self._exchange(self._pipe, START_SECONDS)
        except (_Ended, TimeoutError):
            self.kill()
            raise NotLoaded("a worker process ended, or hung, while it loaded the model") from None
        if "failed" in told:
            self.kill()
            raise NotLoaded(told["failed"])
        self.loaded = True
        model: dict[str, Any] = told["model"]
        return model

    def ask(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The reply to a job, which is told its ``seconds``; raises TimeoutError, or _Ended if the process is gone."""
        try:
            self._pipe.send_bytes(json.dumps(job | {"seconds": seconds}).encode())
        except OSError:
            raise _Ended from None
        return self._exchange(self._pipe, seconds)

    @staticmethod
    def _exchange(pipe: Connection, seconds: float) -> dict[str, Any]:
        try:
            if not pipe.poll(max(seconds, 0)):
                raise TimeoutError
            reply: dict[str, Any] = json.loads(pipe.recv_bytes())
        except (EOFError, ConnectionError):
            raise _Ended from None
        return reply

    def kill(self) -> None:
        """End the process, whatever it is doing, and wait until it is gone."""
        self.process.kill()
        self.process.join()

    def close(self) -> None:
        """End the process and let go of the pipe; nobody may be waiting at it."""
        self.kill()
        self._pipe.close()


class Workers:
    """Some processes with the same recognizer.

    A process is killed when its answer takes too long or nobody waits for it any more, and another one takes its place;
    so work that was given up costs nothing further.

    Args:
        make: makes the recognizer, in each process.
        limits: how many processes, and what a request may take.
    """

    def __init__(self, make: Maker, limits: Limits) -> None:
        self._make, self._limits = make, limits
        self._lock = threading.Lock()
        self._all: set[_Worker] = set()
        self._stopped = True
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        # The loop's own threads are fewer than the workers may be.
        self._threads = ThreadPoolExecutor(limits.workers, "asking")
        self.model: dict[str, Any] | None = None

    def start(self) -> None:
        """Start the processes and wait until each has loaded; raises NotLoaded. Does nothing if they run."""
        if not self._stopped:
            return
        self._stopped = False
        try:
            started = [self._begin() for _ in range(self._limits.workers)]
            for worker in started:
                self.model = worker.card()
        except BaseException:
            self.stop()
            raise
        for worker in started:
            self._idle.put_nowait(worker)

    def stop(self) -> None:
        """End all processes."""
        with self._lock:
            self._stopped = True
            ending, self._all = self._all, set()
        for worker in ending:
            worker.kill()
        self._idle = asyncio.Queue()

    @property
    def ready(self) -> bool:
        """Whether a process is there that has loaded: idle, or at work on another request."""
        with self._lock:
            return any(worker.loaded and worker.process.is_alive() for worker in self._all)

    async def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """The answer to a job.

        Raises:
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
        asking = loop.run_in_executor(self._threads, worker.ask, job, end - time.monotonic())
        try:
            reply = await asyncio.shield(asking)
        except TimeoutError:
            await self._replace(worker)
            raise Refused(
                504, f"'{job['name']}' took longer than {seconds:g} seconds and was given up"
            ) from None
        except _Ended:
            log.error("a worker ended on a request (exit code %s)", worker.process.exitcode)
            await self._replace(worker)
            raise Refused(500, "the server failed on this file; its log says why") from None
        except BaseException:  # the client is gone
            worker.process.kill()
            await asyncio.gather(asking, return_exceptions=True)
            await self._replace(worker)
            raise
        self._idle.put_nowait(worker)
        if "answer" not in reply:
            raise Refused(reply["status"], reply["detail"])
        answer: dict[str, Any] = reply["answer"]
        return answer

    def _begin(self) -> _Worker:
        worker = _Worker(self._make, self._limits)
        with self._lock:
            self._all.add(worker)
        return worker

    async def _replace(self, worker: _Worker) -> None:
        """End a process now, and begin another one without waiting for it."""
        with self._lock:
            self._all.discard(worker)
        worker.kill()
        loop, idle = asyncio.get_running_loop(), self._idle
        threading.Thread(target=self._refill, args=(worker, loop, idle), daemon=True).start()

    def _refill(self, gone: _Worker, loop: asyncio.AbstractEventLoop, idle: asyncio.Queue[_Worker]) -> None:
        gone.close()
        while not self._stopped:
            worker = self._begin()
            try:
                worker.card()
            except NotLoaded as error:
                with self._lock:
                    self._all.discard(worker)
                if not self._stopped:
                    log.error("a worker can't be replaced: %s", error)
                    time.sleep(_PAUSE_SECONDS)
                continue
            if self._stopped:
                worker.close()
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed: the server ends
                    loop.call_soon_threadsafe(idle.put_nowait, worker)
            return
