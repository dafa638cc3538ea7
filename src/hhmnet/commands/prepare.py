"""``hhmnet prepare``: raw files → store."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hhmnet.commands.terminal import Parser, console, counting, print_json, table
from hhmnet.data.protocols import PROTOCOLS
from hhmnet.readers import READERS, PrepareError, PrepareReport, Rejected, get_reader, prepare
from hhmnet.readers.base import REJECTED_FILE
from hhmnet.store import Store

SHOWN_REJECTED = 20


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    log = console()
    report = prepare_store(options.reader, options.source, options.out, strict=options.strict, log=log)
    store = Store(options.out)
    if options.json:
        print_json(_document(store, report))
    else:
        console(stderr=False).print(splits_table(store, f"{options.out}: {report.accepted} clips"))
        show_rejected(log, report.rejected, options.out)
    return 0


def _parser() -> Parser:
    known = ", ".join(f"{name} ({reader.title})" for name, reader in READERS.items())
    parser = Parser("hhmnet prepare", "Turn the raw files of a data set into a store.")
    parser.add_argument("reader", metavar="READER", help=f"format of the raw files: {known}")
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="folder of the raw files")
    parser.add_argument("--out", type=Path, required=True, metavar="STORE", help="folder of the store")
    parser.add_argument("--strict", action="store_true", help="make no store if any file can't be used")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON on standard output")
    return parser


def prepare_store(
    reader: str, source: Path, out: Path, *, strict: bool = False, log: Console
) -> PrepareReport:
    """:func:`hhmnet.readers.prepare` with a progress bar; shows the files in the way if no store is made."""
    try:
        with counting(log, "reading") as progress:
            return prepare(get_reader(reader, source), out, strict=strict, progress=progress)
    except PrepareError:
        show_rejected(log, _read_rejected(out / REJECTED_FILE), out)
        raise


def split_indices(store: Store) -> dict[str, np.ndarray]:
    """Positions of the training and test clips under the store's protocol; empty if it names none."""
    protocol = PROTOCOLS.get(store.protocol)
    return {} if protocol is None else {part: protocol.indices(store, part) for part in ("train", "test")}


def splits_table(store: Store, title: str) -> Any:
    """One line a split: clips, classes, subjects, cameras, frames."""
    view = table(title, "split", ">clips", ">classes", ">subjects", "cameras", ">frames")
    for name, rows in {**split_indices(store), "all": np.arange(len(store))}.items():
        cameras = ", ".join(sorted(set(store.cameras[rows].tolist()) - {""}))
        subjects = set(store.subjects[rows].tolist()) - {""}
        classes = set(store.labels[rows].tolist()) - {-1}
        figures = (len(rows), len(classes), len(subjects), cameras, int(store.lengths[rows].sum()))
        view.add_row(name, *(f"{figure:,}" if isinstance(figure, int) else figure for figure in figures))
    return view


def show_rejected(log: Console, rejected: list[Rejected], out: Path) -> None:
    """The first rejected files as a table, and where all of them are listed."""
    if not rejected:
        return
    view = table(f"{len(rejected)} files left out", "file", ">line", "reason")
    for file, line, reason in rejected[:SHOWN_REJECTED]:
        view.add_row(file, "" if line is None else str(line), reason)
    log.print(view)
    more = "" if len(rejected) <= SHOWN_REJECTED else f"the first {SHOWN_REJECTED} are shown; "
    log.print(f"{more}all of them are in {out / REJECTED_FILE}", soft_wrap=True)


def _read_rejected(file: Path) -> list[Rejected]:
    with open(file, encoding="utf-8", newline="") as handle:
        rows = list(csv.reader(handle))[1:]
    return [Rejected(name, int(line) if line else None, reason) for name, line, reason in rows]


def _document(store: Store, report: PrepareReport) -> dict[str, Any]:
    return {
        "store": str(store.path),
        "protocol": store.protocol,
        "layout": store.layout.name,
        "accepted": report.accepted,
        "frames": report.frames,
        "splits": {name: len(rows) for name, rows in split_indices(store).items()},
        "counts": {key: dict(counter) for key, counter in report.counts.items()},
        "rejected": [row._asdict() for row in report.rejected],
    }
