"""Work shared out among processes of this machine, such as the chunks of a data set to read."""

from __future__ import annotations

import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any, NamedTuple, TypeVar, cast

TELL_SECONDS = 0.1
"""A worker tells that often how many items it has done."""

Task = TypeVar("Task")
Result = TypeVar("Result")
Work = Callable[[Task, Callable[[], None]], Result]
"""What a worker does with a task; it calls the function it is given after each item of the task."""


class WorkerLost(RuntimeError):
    """A worker process ended before its work was done."""


class _Done(NamedTuple):
    """A worker has finished a task."""

    result: Any


class _Failed(NamedTuple):
    """A worker has raised something, and ended."""

    error: Exception
    trace: str


def in_workers(
    work: Work[Task, Result], tasks: Iterable[Task], jobs: int, on_items: Callable[[int], None]
) -> list[Result]:
    """Do tasks in several processes.

    They are started afresh, not forked: a fork of a process with threads, such as torch's, can hang. So they import
    the module of ``work`` and the program's main module, whose work must stand under ``if __name__ == "__main__"``.

    Args:
        work: what is done with a task; it goes to each process once, pickled.
        tasks: what it is done with.
        jobs: number of processes.
        on_items: called with how many more items are done.

    Returns:
        What came of the tasks, in the order in which they were finished.

    Raises:
        WorkerLost: a process was killed or could not start.
        Exception: what a process raised.
    """
    waiting = iter(tasks)
    workers: dict[Connection, BaseProcess] = {}
    results: list[Result] = []
    try:
        for _, task in zip(range(jobs), waiting, strict=False):
            connection, process = _start(work)
            workers[connection] = process
            _send(connection, process, task)
        busy = dict(workers)
        while busy:
            for ready in wait(list(busy)):
                connection = cast(Connection, ready)
                message = _receive(connection, busy[connection])
                if isinstance(message, int):
                    on_items(message)
                    continue
                results.append(message.result)
                if (following := next(waiting, None)) is not None:
                    _send(connection, busy[connection], following)
                else:
                    del busy[connection]
    except BaseException:
        for process in workers.values():
            process.terminate()
        raise
    finally:
        for connection, process in workers.items():
            connection.close()  # a worker that waits for more ends by this
            process.join()
    return results


def _start(work: Work[Any, Any]) -> tuple[Connection, BaseProcess]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    try:
        with _uninterrupted():
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()  # so that its other end, when it dies, is the last
    return ours, process


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


def _send(connection: Connection, process: BaseProcess, task: Any) -> None:
    try:
        connection.send(task)
    except OSError:
        raise _lost(process) from None


def _receive(connection: Connection, process: BaseProcess) -> int | _Done:
    """How many more items a worker has done, or what came of a finished task; raises what it raised."""
    try:
        message = connection.recv()
    except (EOFError, OSError):
        raise _lost(process) from None
    if isinstance(message, _Failed):
        raise message.error from RuntimeError(f"in a worker process:\n\n{message.trace}")
    assert isinstance(message, (int, _Done))
    return message


def _lost(process: BaseProcess) -> WorkerLost:
    process.join(timeout=5)
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = "; the system does that when memory runs out" if name == "SIGKILL" else ""
        return WorkerLost(f"a worker process was killed ({name}){hint}")
    return WorkerLost(f"a worker process ended unasked, with exit code {code}")


def _serve(connection: Connection, work: Work[Any, Any]) -> None:
    """A worker's life: tasks come in; numbers of items go out, then what came of the task, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The other end closes when the program is done with this worker, and also when it is killed.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = connection.recv()
            teller = _Teller(connection)
            try:
                result = work(task, teller.on_item)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                connection.send(_Failed(_portable(error), traceback.format_exc()))
                return
            teller.tell()
            connection.send(_Done(result))


class _Teller:
    """Tells the number of items done, but not one by one: small items would drown the program in messages."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._count, self._told = 0, monotonic()

    def on_item(self) -> None:
        self._count += 1
        if monotonic() - self._told >= TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        self._connection.send(self._count)
        self._count, self._told = 0, monotonic()


def _portable(error: Exception) -> Exception:
    """``error`` if it survives the way to another process, else its text."""
    try:
        pickle.loads(pickle.dumps(error))  # our own object, made a line above; nothing that came from a file
    except Exception:  # whatever an exception's own code raises, its text gets through
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
