"""The way from raw files to a store: in parallel, and going on after an interruption."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hhmnet.files import remedy, remove_leftovers
from hhmnet.lock import locked
from hhmnet.prepare.cluster import EngineError, read_in_cluster
from hhmnet.prepare.fingerprint import fingerprint_work
from hhmnet.prepare.merging import Merger
from hhmnet.prepare.parts import PARTS_FOLDER, Chunk, Parts, cut
from hhmnet.prepare.report import REJECTED_FILE, PrepareError, PrepareReport, write_rejected
from hhmnet.prepare.workers import read_here, read_in_workers
from hhmnet.readers import Reader
from hhmnet.store import StoreError

ENGINES = ("local", "ray")


def prepare(
    reader: Reader,
    out: Path,
    *,
    jobs: int | None = 1,
    engine: str = "local",
    strict: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> PrepareReport:
    """Read all raw files into a store, and list those that can't be used in its ``rejected.csv``.

    A bad file costs only itself: the rest goes on. Of two items with one sample id the first counts. The bytes of
    the store don't depend on ``jobs``, ``engine`` or interruptions.

    What is read lies in ``out/.parts`` until the store is complete, so for a while there are two copies of it. If
    this call is interrupted, however hard, the same call goes on from there.

    Args:
        reader: the reader on its source folder.
        out: the store's folder; an older store there is replaced only if all goes well.
        jobs: number of processes, see :func:`~hhmnet.prepare.workers.read_in_workers`; 1 stays in this one, None
            is one a core. With Ray, the number of tasks at a time.
        engine: ``"local"``, or ``"ray"`` for a cluster, see :func:`~hhmnet.prepare.cluster.read_in_cluster`.
        strict: make no store if any item is rejected.
        progress: called with (items done, items in all), from time to time.
        tell: called with what the user should know meanwhile, in one line.

    Raises:
        PrepareError: no item is usable, or one isn't and ``strict`` holds. ``rejected.csv`` is written all the
            same; it says why.
        SourceError: the source folder has no such files.
        StoreError, OSError: ``out`` can't be written.
        LockedError: another process prepares ``out``.
        WorkerLost, EngineError: see the two engines.
    """
    if engine not in ENGINES:
        raise EngineError(f"unknown engine '{engine}'; known: {', '.join(ENGINES)}")
    out = Path(out)
    items = reader.items()
    chunks = cut(items, reader.chunk)
    parts = Parts(out / PARTS_FOLDER, fingerprint_work(reader, items, reader.chunk))
    with _folder(out), locked(out, "hhmnet prepare"):
        remove_leftovers(out)
        finished, others = parts.open(reader.source, chunks)
        if others:
            tell(f"{parts.folder}: what an earlier, different call had read there is thrown away")
        counter = _Counter(chunks, finished, progress)
        if finished:
            tell(f"going on: {counter.done:,} of {counter.total:,} items were read by an earlier call")
        resumed = counter.done
        try:
            todo = [chunk for chunk in chunks if chunk.number not in finished]
            _read(reader, parts, todo, jobs, engine, counter.add)
            report = _merge(reader, parts, chunks, out, strict)
        except PrepareError:
            parts.remove()
            raise
        except BaseException:
            _leave(parts, chunks, tell)
            raise
        parts.remove()
    report.resumed = resumed
    return report


class _Counter:
    """Counts the items that are read."""

    def __init__(
        self, chunks: Sequence[Chunk], finished: set[int], progress: Callable[[int, int], None]
    ) -> None:
        self.total = sum(len(chunk.items) for chunk in chunks)
        self.done = sum(len(chunk.items) for chunk in chunks if chunk.number in finished)
        self._progress = progress
        progress(self.done, self.total)

    def add(self, count: int) -> None:
        self.done += count
        self._progress(self.done, self.total)


def _read(
    reader: Reader,
    parts: Parts,
    chunks: Sequence[Chunk],
    jobs: int | None,
    engine: str,
    on_items: Callable[[int], None],
) -> None:
    if not chunks:
        return
    if engine == "ray":
        read_in_cluster(reader, parts, chunks, jobs, on_items)
        return
    workers = min(jobs or cores(), len(chunks))
    if workers == 1:
        read_here(reader, parts, chunks, on_items)
    else:
        read_in_workers(reader, parts, chunks, workers, on_items)


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _merge(reader: Reader, parts: Parts, chunks: Sequence[Chunk], out: Path, strict: bool) -> PrepareReport:
    merger = Merger(reader, parts, chunks)
    report, listed = merger.report, out / REJECTED_FILE
    if not report.accepted or (strict and report.rejected):
        write_rejected(listed, report.rejected)
        raise PrepareError(
            f"no store was made: {len(report.rejected)} of {len(report.rejected) + report.accepted} files in "
            f"{reader.source} can't be used; {listed} says why"
        )
    merger.write(out)
    write_rejected(listed, report.rejected)
    return report


def _leave(parts: Parts, chunks: Sequence[Chunk], tell: Callable[[str], None]) -> None:
    """Keep the finished parts for the next call, and say so."""
    kept = sum(len(chunk.items) for chunk in chunks if parts.summary_file(chunk.number).exists())
    if not kept:
        parts.remove()
        return
    total = sum(len(chunk.items) for chunk in chunks)
    tell(f"{kept:,} of {total:,} items are read and kept in {parts.folder}; the same call goes on from there")


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make the store's folder; it goes again if it is new and nothing comes of it."""
    created = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"can't make the folder {out}: {error.strerror}{remedy(error)}") from None
    try:
        yield
    finally:
        if created:
            with suppress(OSError):  # it holds something
                out.rmdir()
