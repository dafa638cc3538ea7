"""Work shared out among processes of this machine, or the machines of a Ray cluster."""

from __future__ import annotations

import io
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from hhmnet.prepare.parts import read_chunk
from hhmnet.readers import Reader, SourceError

Task = TypeVar("Task")
Result = TypeVar("Result")
Chunk = tuple[int, list[str]]

_work: Callable[[Any], Any]  # what a worker process does with a task; its initializer sets it


class WorkerLost(RuntimeError):
    """A worker process ended before its work was done."""

    exit_code = 1


class EngineError(ValueError):
    """An engine that can't be used here."""


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_workers(
    work: Callable[[Task], Result], tasks: Sequence[Task], jobs: int | None
) -> Iterator[tuple[Task, Result]]:
    """Tasks, and what comes of ``work`` for them in ``jobs`` processes, in the order in which they are finished.

    One job or one task stays in this process; None is a process a core. Processes are started afresh, not forked: a
    fork of a process with threads, such as torch's, can hang. So they import the module of ``work`` and the program's
    main module, whose work must stand under ``if __name__ == "__main__"``. ``work`` goes to each of them once, pickled.
    Raises what a process raised; WorkerLost where one was killed or could not start.
    """
    jobs = min(jobs or cores(), len(tasks))
    if jobs <= 1:
        yield from ((task, work(task)) for task in tasks)
        return
    processes: list[BaseProcess] = []
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (work,)) as pool:
            try:
                with _uninterrupted():
                    futures = {pool.submit(_do, task): task for task in tasks}
                for future in as_completed(futures):
                    yield futures.pop(future), future.result()
            except BaseException:
                processes = list(pool._processes.values())
                for process in processes:
                    process.terminate()
                raise
    except BrokenProcessPool:
        raise _lost(processes) from None


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C from processes started here: the terminal sends it to all, but this one tells them to stop."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # when it is started along with a process, it lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _lost(processes: Iterable[BaseProcess]) -> WorkerLost:
    """Why the pool broke: of the first process that didn't end because of it."""
    asked = -signal.SIGTERM
    code = next((code for one in processes if (code := one.exitcode) and code != asked), asked)
    if code > 0:
        return WorkerLost(f"a worker process ended unasked, with exit code {code}")
    hint = "; the system does that when memory runs out" if code == -signal.SIGKILL else ""
    return WorkerLost(f"a worker process was killed ({signal.Signals(-code).name}){hint}")


def _begin(work: Callable[[Any], Any]) -> None:
    """A worker's beginning: it leaves Ctrl-C to the program, and ends with it, also when that is killed."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _do(task: Any) -> Any:
    return _work(task)


def in_cluster(reader: Reader, chunks: Sequence[Chunk], jobs: int | None) -> Iterator[tuple[Chunk, bytes]]:
    """Chunks, and the content of their parts, read by tasks of a Ray cluster, see :func:`connected`.

    Every node needs hhmnet, and must see the source under the same path. At most ``jobs`` tasks run at a time, or as
    many as the cluster has cores. Raises what reading raised; EngineError where Ray isn't installed or no cluster is
    reached; WorkerLost where a worker process died, and again when it was tried anew.
    """
    with connected(jobs) as ray:
        most = jobs or int(ray.cluster_resources().get("CPU", 1))
        task, shared, waiting = ray.remote(num_cpus=1)(_read), ray.put(reader), iter(chunks)
        running: dict[Any, Chunk] = {}
        try:
            while True:
                for _, chunk in zip(range(most - len(running)), waiting, strict=False):
                    running[task.remote(shared, os.getcwd(), chunk[1])] = chunk
                if not running:
                    return
                (reference, *_), _ = ray.wait(list(running), num_returns=1)
                chunk, content = running.pop(reference), _result(ray, reference)
                del reference  # Ray keeps a result for as long as anybody knows it
                yield chunk, content
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _read(reader: Reader, folder: str, items: list[str]) -> bytes:
    """The task: a part's content."""
    if os.path.isdir(folder):
        os.chdir(folder)  # paths may be relative to where the command was given
    if not reader.source.is_dir():
        fault = "isn't there on every node of the cluster; put it on a shared disk"
        raise SourceError(f"the folder {reader.source} {fault}")
    file = io.BytesIO()
    read_chunk(reader, items, file)
    return file.getvalue()


def _result(ray: Any, reference: Any) -> bytes:
    try:
        return bytes(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RaySystemError):
            fault = f"a node of the cluster can't load the reader ({str(error.cause).splitlines()[0]})"
            remedy = "hhmnet, and the reader's own module if it has one, must be installed on every node"
            raise EngineError(f"{fault}; {remedy}") from None
        raise error.cause from RuntimeError(f"in a task of the cluster:\n\n{error}")
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())
        raise WorkerLost(f"a worker process of the cluster was lost: {reason}") from None


@contextmanager
def connected(jobs: int | None) -> Iterator[Any]:
    """Ray, connected to a cluster: the one that this process is connected to already, else the one that ``RAY_ADDRESS``
    names or that runs on this machine, else a new one on this machine, which is stopped at the end.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers unless told not to
    try:
        import ray
    except ModuleNotFoundError:
        raise EngineError("--engine ray needs Ray; pip install 'hhmnet[ray]' brings it") from None
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            if os.environ.get("RAY_ADDRESS"):
                raise
            ray.init(address="local", num_cpus=jobs, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(f"no Ray cluster can be reached or started: {error}") from None
    finally:
        if is_main:  # Ray takes over SIGTERM, and would end the program without a word
            signal.signal(signal.SIGTERM, before)
    try:
        yield ray
    finally:
        ray.shutdown()
