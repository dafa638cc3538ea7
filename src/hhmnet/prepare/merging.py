"""Finished parts → one store and its report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hhmnet.arrow import regroup
from hhmnet.prepare.fingerprint import package_version
from hhmnet.prepare.parts import Chunk, Parts
from hhmnet.prepare.report import PrepareReport, Rejected, printable
from hhmnet.readers import Reader
from hhmnet.store import write_batches

_COUNTED = ("subject", "camera", "setup")


class Merger:
    """Takes the parts together, in the order of their items.

    Of two samples with one id the first counts. Only names are kept of what has been seen, so memory hardly grows
    with the data.

    Args:
        reader: the reader.
        parts: the finished parts.
        chunks: their items.
    """

    def __init__(self, reader: Reader, parts: Parts, chunks: Sequence[Chunk]) -> None:
        self.reader, self.parts, self.chunks = reader, parts, chunks
        self.report = PrepareReport()
        self._first: dict[str, tuple[int, int]] = {}
        self._twice: dict[int, list[int]] = {}
        for chunk in chunks:
            self._survey(chunk)

    def write(self, out: Path) -> None:
        """Write the store; raises StoreError if it can't be written."""
        write_batches(
            out,
            regroup(self._records()),
            layout=self.reader.layout,
            class_names=self.reader.class_names,
            protocol=self.reader.protocol,
            provenance=self._provenance(),
        )

    def _survey(self, chunk: Chunk) -> None:
        """Enter a part in the report, and mark the samples whose ids were there before."""
        summary = self.parts.summary(chunk.number)
        rejected = dict(summary.rejected)
        usable = [place for place in range(len(chunk.items)) if place not in rejected]
        rows: Iterator[dict[str, Any]] = (
            row
            for record in self.parts.records(chunk.number, ("sample_id", "label", "length", *_COUNTED))
            for row in record.to_pylist()
        )
        for number, (place, row) in enumerate(zip(usable, rows, strict=True)):
            before = self._first.setdefault(row["sample_id"], (chunk.number, place))
            if before != (chunk.number, place):
                rejected[place] = self._taken(chunk.items[place], row["sample_id"], before)
                self._twice.setdefault(chunk.number, []).append(number)
                continue
            self._count(row)
            self.report.notes.update(summary.notes.get(place, {}))
        self.report.rejected += [rejected[place] for place in sorted(rejected)]

    def _taken(self, item: str, sample_id: str, before: tuple[int, int]) -> Rejected:
        number, place = before
        return printable(
            item, None, f"sample id {sample_id!r} is taken by {self.chunks[number].items[place]}"
        )

    def _count(self, row: dict[str, Any]) -> None:
        report, label = self.report, row["label"]
        report.accepted += 1
        report.frames += row["length"]
        report.counts["class"][self.reader.class_names[label] if label >= 0 else ""] += 1
        for key in _COUNTED:
            report.counts[key][row[key]] += 1

    def _records(self) -> Iterator[pa.RecordBatch]:
        for chunk in self.chunks:
            twice = set(self._twice.get(chunk.number, ()))
            first = 0
            for record in self.parts.records(chunk.number):
                rows = range(first, first + record.num_rows)
                first += record.num_rows
                if twice.isdisjoint(rows):
                    yield record
                else:
                    yield record.take(pa.array(np.flatnonzero([row not in twice for row in rows])))

    def _provenance(self) -> dict[str, Any]:
        """Where the store comes from; only what is the same on every machine, so that its bytes are too."""
        return {
            "reader": self.reader.name,
            "source": self.reader.source.resolve().name,
            "options": self.reader.options,
            "hhmnet": package_version(),
            "counts": {"files": sum(len(chunk.items) for chunk in self.chunks)},
            "notes": dict(sorted(self.report.notes.items())),
        }
