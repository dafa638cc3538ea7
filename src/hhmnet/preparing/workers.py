"""Chunks read by processes of this machine."""

from __future__ import annotations

import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import cast

from hhmnet.preparing.parts import Chunk, Parts
from hhmnet.readers.base import Reader

TELL_SECONDS = 0.1
"""A worker tells that often how many items it has read."""


class WorkerLost(RuntimeError):
    """A worker process ended before its work was done."""


def read_here(reader: Reader, parts: Parts, chunks: Sequence[Chunk], on_items: Callable[[int], None]) -> None:
    """Read chunks into parts, in this process; ``on_items`` is called with how many more items are read."""
    for chunk in chunks:
        parts.make(reader, chunk, lambda: on_items(1))


def read_in_workers(
    reader: Reader, parts: Parts, chunks: Sequence[Chunk], jobs: int, on_items: Callable[[int], None]
) -> None:
    """Read chunks into parts, in several processes.

    They are started afresh, not forked: a fork of a process with threads, such as torch's, can hang. So they import
    the reader's module and the program's main module, whose work must stand under ``if __name__ == "__main__"``.

    Args:
        reader: the reader; it goes to each process once, pickled.
        parts: where the parts go.
        chunks: what to read.
        jobs: number of processes.
        on_items: called with how many more items are read.

    Raises:
        WorkerLost: a process was killed or could not start.
        Exception: what a process raised.
    """
    waiting = iter(chunks)
    workers: dict[Connection, BaseProcess] = {}
    try:
        for _, chunk in zip(range(jobs), waiting, strict=False):
            connection, process = _start(reader, parts)
            workers[connection] = process
            _send(connection, process, chunk)
        busy = dict(workers)
        while busy:
            for ready in wait(list(busy)):
                connection = cast(Connection, ready)
                message = _receive(connection, busy[connection])
                if isinstance(message, int):
                    on_items(message)
                elif (following := next(waiting, None)) is not None:
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


def _start(reader: Reader, parts: Parts) -> tuple[Connection, BaseProcess]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, reader, parts), daemon=True)
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


def _send(connection: Connection, process: BaseProcess, chunk: Chunk) -> None:
    try:
        connection.send(chunk)
    except OSError:
        raise _lost(process) from None


def _receive(connection: Connection, process: BaseProcess) -> int | None:
    """How many more items a worker has read, or None when it has finished a chunk; raises what it raised."""
    try:
        message = connection.recv()
    except (EOFError, OSError):
        raise _lost(process) from None
    if isinstance(message, tuple):
        error, trace = message
        raise error from RuntimeError(f"in a worker process:\n\n{trace}")
    assert message is None or isinstance(message, int)
    return message


def _lost(process: BaseProcess) -> WorkerLost:
    process.join(timeout=5)
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = "; the system does that when memory runs out" if name == "SIGKILL" else ""
        return WorkerLost(f"a worker process was killed ({name}){hint}")
    return WorkerLost(f"a worker process ended unasked, with exit code {code}")


def _serve(connection: Connection, reader: Reader, parts: Parts) -> None:
    """A worker's life: chunks come in; numbers of items go out, None after each chunk, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The other end closes when the program is done with this worker, and also when it is killed.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            chunk = connection.recv()
            teller = _Teller(connection)
            try:
                parts.make(reader, chunk, teller.on_item)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                connection.send((_portable(error), traceback.format_exc()))
                return
            teller.tell()
            connection.send(None)


class _Teller:
    """Tells the number of items read, but not one by one: small items would drown the program in messages."""

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
