"""Work shared out among processes of this machine, such as the chunks of a data set to read."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_work: Callable[[Any], Any]
"""What a worker process does with a task; the initializer of the process sets it."""


class WorkerLost(RuntimeError):
    """A worker process ended before its work was done."""


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_workers(
    work: Callable[[Task], Result], tasks: Iterable[Task], jobs: int, on_done: Callable[[Task], None]
) -> list[Result]:
    """Do tasks in several processes.

    They are started afresh, not forked: a fork of a process with threads, such as torch's, can hang. So they import
    the module of ``work`` and the program's main module, whose work must stand under ``if __name__ == "__main__"``.

    Args:
        work: what is done with a task; it goes to each process once, pickled.
        tasks: what it is done with.
        jobs: number of processes.
        on_done: called with every task that is done.

    Returns:
        What came of the tasks, in the order in which they were finished.

    Raises:
        WorkerLost: a process was killed or could not start.
        Exception: what a process raised.
    """
    results: list[Result] = []
    processes: list[BaseProcess] = []
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (work,)) as pool:
            try:
                with _uninterrupted():
                    futures = {pool.submit(_do, task): task for task in tasks}
                for future in as_completed(futures):
                    results.append(future.result())
                    on_done(futures[future])
            except BaseException:
                processes = list(pool._processes.values())
                for process in processes:
                    process.terminate()
                raise
    except BrokenProcessPool:
        raise _lost(processes) from None
    return results


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
    codes = [process.exitcode for process in processes if process.exitcode not in (0, None, -signal.SIGTERM)]
    if codes and codes[0] is not None and codes[0] > 0:
        return WorkerLost(f"a worker process ended unasked, with exit code {codes[0]}")
    name = signal.Signals(-codes[0]).name if codes and codes[0] else "SIGTERM"
    hint = "; the system does that when memory runs out" if name == "SIGKILL" else ""
    return WorkerLost(f"a worker process was killed ({name}){hint}")


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
    try:
        return _work(task)
    except Exception as error:
        try:
            pickle.loads(
                pickle.dumps(error)
            )  # our own object, made a line above; nothing that came from a file
        except Exception:  # whatever an exception's own code raises, its text gets through
            text = f"{type(error).__name__}: {error}"
            raise RuntimeError(text) from RuntimeError("".join(traceback.format_exception(error)))
        raise
