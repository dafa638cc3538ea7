"""The way from raw files to a store: in parallel, and going on after an interruption."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hhmnet.arrow import regroup
from hhmnet.files import locked, remedy, remove_leftovers
from hhmnet.prepare.cluster import EngineError, read_in_cluster
from hhmnet.prepare.parts import (
    PARTS_FOLDER,
    REJECTED_FILE,
    Chunk,
    Parts,
    PrepareError,
    PrepareReport,
    cut,
    fingerprint_work,
    package_version,
    printable,
    write_rejected,
)
from hhmnet.prepare.workers import in_workers
from hhmnet.readers import Reader
from hhmnet.store import StoreError, write_batches

ENGINES = ("local", "ray")
_COUNTED = ("subject", "camera", "setup")


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
        jobs: number of processes, see :func:`~hhmnet.prepare.workers.in_workers`; 1 stays in this one, None
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
        done = resumed = sum(len(chunk.items) for chunk in chunks if chunk.number in finished)
        progress(done, len(items))
        if finished:
            tell(f"going on: {done:,} of {len(items):,} items were read by an earlier call")

        def on_items(count: int) -> None:
            nonlocal done
            done += count
            progress(done, len(items))

        try:
            todo = [chunk for chunk in chunks if chunk.number not in finished]
            _read(reader, parts, todo, jobs, engine, on_items)
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
    make = partial(parts.make, reader)
    workers = min(jobs or cores(), len(chunks))
    if workers > 1:
        in_workers(make, chunks, workers, on_items)
        return
    for chunk in chunks:
        make(chunk, lambda: on_items(1))


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _merge(reader: Reader, parts: Parts, chunks: Sequence[Chunk], out: Path, strict: bool) -> PrepareReport:
    """Finished parts → one store and its report; only names are kept of what has been seen."""
    report, twice = _survey(reader, parts, chunks)
    listed = out / REJECTED_FILE
    if not report.accepted or (strict and report.rejected):
        write_rejected(listed, report.rejected)
        raise PrepareError(
            f"no store was made: {len(report.rejected)} of {len(report.rejected) + report.accepted} files in "
            f"{reader.source} can't be used; {listed} says why"
        )
    write_batches(
        out,
        regroup(_records(parts, chunks, twice)),
        layout=reader.layout,
        class_names=reader.class_names,
        protocol=reader.protocol,
        # Only what is the same on every machine, so that the store's bytes are too.
        provenance={
            "reader": reader.name,
            "source": reader.source.resolve().name,
            "options": reader.options,
            "hhmnet": package_version(),
            "counts": {"files": sum(len(chunk.items) for chunk in chunks)},
            "notes": dict(sorted(report.notes.items())),
        },
    )
    write_rejected(listed, report.rejected)
    return report


def _survey(
    reader: Reader, parts: Parts, chunks: Sequence[Chunk]
) -> tuple[PrepareReport, dict[int, set[int]]]:
    """The report, and by chunk the samples whose ids were there before: of two with one id the first counts."""
    report = PrepareReport()
    first: dict[str, str] = {}
    twice: dict[int, set[int]] = {}
    for chunk in chunks:
        summary = parts.summary(chunk.number)
        rejected = dict(summary.rejected)
        usable = [place for place in range(len(chunk.items)) if place not in rejected]
        records = parts.records(chunk.number, ("sample_id", "label", "length", *_COUNTED))
        rows = (row for record in records for row in record.to_pylist())
        for number, (place, row) in enumerate(zip(usable, rows, strict=True)):
            item, sample_id = chunk.items[place], row["sample_id"]
            if sample_id in first:
                reason = f"sample id {sample_id!r} is taken by {first[sample_id]}"
                rejected[place] = printable(item, None, reason)
                twice.setdefault(chunk.number, set()).add(number)
                continue
            first[sample_id] = item
            _count(report, row, reader.class_names)
            report.notes.update(summary.notes.get(place, {}))
        report.rejected += [rejected[place] for place in sorted(rejected)]
    return report, twice


def _count(report: PrepareReport, row: dict[str, Any], class_names: Sequence[str]) -> None:
    report.accepted += 1
    report.frames += row["length"]
    report.counts["class"][class_names[row["label"]] if row["label"] >= 0 else ""] += 1
    for key in _COUNTED:
        report.counts[key][row[key]] += 1


def _records(parts: Parts, chunks: Sequence[Chunk], twice: dict[int, set[int]]) -> Iterator[pa.RecordBatch]:
    """All samples but those in ``twice``."""
    for chunk in chunks:
        left_out, first = twice.get(chunk.number, set()), 0
        for record in parts.records(chunk.number):
            rows = range(first, first + record.num_rows)
            first += record.num_rows
            if left_out.isdisjoint(rows):
                yield record
            else:
                yield record.take(pa.array(np.flatnonzero([row not in left_out for row in rows])))


def _leave(parts: Parts, chunks: Sequence[Chunk], tell: Callable[[str], None]) -> None:
    """Keep the finished parts for the next call, and say so."""
    kept = sum(len(chunk.items) for chunk in chunks if parts.file(chunk.number, ".json").exists())
    if not kept:
        parts.remove()
        return
    total = sum(len(chunk.items) for chunk in chunks)
    tell(f"{kept:,} of {total:,} items are read and kept in {parts.folder}; the same call goes on from there")


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make the store's folder; it goes again if it is new and nothing comes of it."""
    created = not out.exists()
    if (name := str(out).encode(errors="backslashreplace").decode()) != str(out):
        raise StoreError(f"{name}: the name isn't UTF-8; Arrow opens no such file, so name another folder")
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
