"""Raw files → store: on all cores or a cluster, resumably, with bytes that depend on neither."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa

import hhmnet
from hhmnet.arrow import regroup
from hhmnet.files import locked, made, remove_leftovers, replacing
from hhmnet.prepare.parts import REJECTED_FILE, Parts, Rejected, cut, fingerprint_work, rejected
from hhmnet.prepare.workers import EngineError, WorkerLost, in_cluster, in_workers
from hhmnet.readers import Reader, printable
from hhmnet.readers.recorded import LISTED
from hhmnet.store import StoreError, write_store

__all__ = ["ENGINES", "EngineError", "PrepareError", "PrepareReport", "Rejected", "WorkerLost", "prepare"]
ENGINES = ("local", "ray")


class PrepareError(ValueError):
    """A data set of which no store could be made, and the items in the way."""

    def __init__(self, message: str, rejected: list[Rejected]) -> None:
        super().__init__(message)
        self.rejected = rejected


@dataclass
class PrepareReport:
    """What came of preparing a data set.

    Attributes:
        accepted, frames: number of samples in the store, and of their frames.
        rejected, in_part: the items left out; those whose video is missing, or damaged so that a part or all of it is.
        counts: number of samples per ``"class"``, ``"subject"``, ``"camera"`` and ``"setup"``.
        notes: what the reader did to the data of these samples, and how often.
        resumed: number of items that an earlier, interrupted call had read.
    """

    accepted: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    in_part: list[Rejected] = field(default_factory=list)
    frames: int = 0
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {key: Counter() for key in ("class", "subject", "camera", "setup")}
    )
    notes: Counter[str] = field(default_factory=Counter)
    resumed: int = 0


def prepare(
    reader: Reader,
    out: Path,
    *,
    jobs: int | None = 1,
    engine: str = "local",
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> PrepareReport:
    """Read all raw files into a store, and list those that can't be used in its ``rejected.csv``.

    A bad file costs only itself: the rest goes on. Of two items with one sample id the first counts. The bytes of
    the store don't depend on ``jobs``, ``engine`` or interruptions. What is read lies in ``out/.parts`` until the
    store is complete; if this call is interrupted, however hard, the same call goes on from there.

    Args:
        out: the store's folder; an older store there is replaced only if all goes well.
        jobs: number of processes; 1 stays in this one, None is one a core. With Ray, the number of tasks at a time.
        engine: ``"local"``, or ``"ray"`` for a cluster; see :mod:`hhmnet.prepare.workers`.
        progress: called with (items done, items in all), from time to time.
        tell: called with what the user should know meanwhile, in one line.

    Raises PrepareError: no item is usable; ``rejected.csv``, which is written all the same, says why. SourceError: the
    source folder has no such files. StoreError, OSError: ``out`` can't be written. LockedError: another call is at work
    there. WorkerLost, EngineError: see the two engines.
    """
    if engine not in ENGINES:
        raise EngineError(f"unknown engine '{engine}'; known: {', '.join(ENGINES)}")
    out = Path(out)
    if (name := printable(str(out))) != str(out):
        raise StoreError(f"{name}: the name isn't UTF-8; Arrow opens no such file, so name another folder")
    items = reader.items()
    chunks = cut(items, reader.chunk)
    parts = Parts(out, fingerprint_work(reader, items, reader.chunk))
    with made(out), locked(out, "hhmnet prepare"):
        remove_leftovers(out)
        finished, others = parts.open(reader.source, chunks)
        if others:
            tell(f"{parts.folder}: what an earlier, different call had read there is thrown away")
        done = resumed = sum(len(chunks[number]) for number in finished)
        progress(done, len(items))
        if finished:
            tell(f"going on: {done:,} of {len(items):,} items were read by an earlier call")
        todo = [chunk for chunk in enumerate(chunks) if chunk[0] not in finished]
        try:
            if todo and engine == "ray":
                for (number, chunk), content in in_cluster(reader, todo, jobs):
                    parts.save(number, content)
                    finished.add(number)
                    progress(done := done + len(chunk), len(items))
            else:
                for (number, chunk), _ in in_workers(partial(parts.make, reader), todo, jobs):
                    finished.add(number)
                    progress(done := done + len(chunk), len(items))
            report = _merge(reader, parts, chunks, out)
        except BaseException as error:
            # A worker may have ended a part that wasn't told; and of a source that went away no part is known again.
            finished |= parts.open(reader.source, chunks)[0]
            if finished and not isinstance(error, PrepareError):
                done = sum(len(chunks[number]) for number in finished)
                where = f"kept in {parts.folder}; the same call goes on from there"
                tell(f"{done:,} of {len(items):,} items are read and {where}")
            else:
                parts.remove()
            raise
        parts.remove()
    report.resumed = resumed
    return report


def _merge(reader: Reader, parts: Parts, chunks: Sequence[Sequence[str]], out: Path) -> PrepareReport:
    """Finished parts → one store and its report; only names are kept of what has been seen."""
    report, counted = _survey(reader, parts, chunks)
    files = sum(map(len, chunks))
    if not report.accepted:
        _write_rejected(out / REJECTED_FILE, report.rejected)
        fault = f"{len(report.rejected)} of {files} files in {reader.source} can't be used"
        raise PrepareError(f"no store was made: {fault}; {out / REJECTED_FILE} says why", report.rejected)
    write_store(
        out,
        (),
        batches=regroup(_records(parts, counted)),
        layout=reader.layout,
        class_names=reader.class_names,
        protocol=reader.protocol,
        # Only what is the same on every machine, so that the store's bytes are too.
        provenance={
            "reader": reader.name,
            "source": printable(reader.source.resolve().name),
            "options": reader.options,
            "hhmnet": hhmnet.__version__,
            "counts": {"files": files},
            "notes": dict(sorted(report.notes.items())),
        },
    )
    _write_rejected(out / REJECTED_FILE, [*report.rejected, *report.in_part])
    return report


def _survey(
    reader: Reader, parts: Parts, chunks: Sequence[Sequence[str]]
) -> tuple[PrepareReport, list[list[bool]]]:
    """What became of all items, and which samples of each part count: of two with one id the first."""
    report, first, counted = PrepareReport(), dict[str, str](), []
    for number, items in enumerate(chunks):
        counted.append(list[bool]())
        for item, row in zip(items, parts.outcomes(number), strict=True):
            if "rejected" in row:
                report.rejected.append(Rejected(*row["rejected"]))
                continue
            taken = first.setdefault(row["sample_id"], item)
            counted[-1].append(taken == item)
            if taken != item:
                reason = f"sample id {row['sample_id']!r} is taken by {taken}"
                report.rejected.append(rejected(item, None, reason))
                continue
            report.accepted += 1
            report.frames += row["num_frames"]
            row["class"] = reader.class_names[row["label"]] if row["label"] >= 0 else ""
            for key, counter in report.counts.items():
                counter[row[key]] += 1
            for note, times in row["notes"].items():
                kind = next((kind for kind in LISTED if note.startswith(kind)), None)
                if kind is not None:
                    report.in_part.append(rejected(item, None, note))
                report.notes[kind or note] += times
    return report, counted


def _records(parts: Parts, counted: Sequence[Sequence[bool]]) -> Iterator[pa.RecordBatch]:
    """The samples that count, part by part."""
    for number, flags in enumerate(counted):
        left = iter(flags)
        for record in parts.records(number):
            mask = list(islice(left, record.num_rows))
            yield record if all(mask) else record.filter(pa.array(mask))


def _write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Rejected._fields, *rejected])
    with replacing(path) as file:
        file.write(text.getvalue().encode())
