"""``hhmnet prepare``: raw files → store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hhmnet.commands.flags import Flags
from hhmnet.commands.terminal import Parser, console, counting, print_json, table, whole
from hhmnet.data.protocols import Protocol, ProtocolError, get_protocol
from hhmnet.prepare import ENGINES, PrepareError, PrepareReport, Rejected, prepare
from hhmnet.prepare.parts import REJECTED_FILE
from hhmnet.readers import READERS, Reader, reader_class
from hhmnet.readers.labels import split_doubts
from hhmnet.store import Store, write_video_folder

SHOWN_REJECTED = 20


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = _parser(words)
    options, rest = parser.parse_known_args(words)
    kind = reader_class(options.reader)
    reader = kind(options.source, *_flags(options.reader).read(rest, parser.names))
    get_protocol(reader.protocol)  # a name that doesn't exist would else show only after hours
    log = console()
    report = prepare_store(reader, options.out, jobs=options.jobs, engine=options.engine, log=log)
    store = Store(options.out)
    if options.json:
        print_json(
            {
                "store": str(store.path),
                "protocol": store.protocol,
                "layout": store.layout.name,
                "accepted": report.accepted,
                "frames": report.frames,
                "splits": {name: len(rows) for name, rows in split_indices(store).items()},
                "counts": {key: dict(counter) for key, counter in report.counts.items()},
                "notes": dict(sorted(report.notes.items())),
                "resumed": report.resumed,
                "warnings": warnings_of_split(store),
                "rejected": [row._asdict() for row in report.rejected],
            }
        )
        return 0
    out = console(stderr=False)
    out.print(splits_table(store, f"{options.out}: {report.accepted} clips"))
    if report.notes:
        notes = [(note, f"{times:,}") for note, times in sorted(report.notes.items())]
        out.print(table("what was done to the data", "note", ">times", rows=notes))
    show_rejected(log, report.rejected, options.out)
    return 0


def _parser(words: list[str]) -> Parser:
    parser = Parser(
        "hhmnet prepare",
        "Turn the raw files of a data set into a store. A call that was interrupted goes on where it was.",
        lambda: _more_help(words),
        usage="hhmnet prepare READER --source DIR --out STORE [options] [--field value ...]",
    )
    add = parser.add_argument
    add("reader", metavar="READER", help=f"format of the raw files: {', '.join(READERS)}")
    add("--source", type=Path, required=True, metavar="DIR", help="folder of the raw files")
    add("--out", type=Path, required=True, metavar="STORE", help="folder of the store")
    add("--jobs", type=whole, metavar="N", help="files read at the same time (default: one a core)")
    add("--engine", choices=ENGINES, default="local", help="ray: on a Ray cluster whose nodes all see DIR")
    parser.add_shared("json")
    return parser


def _flags(reader: str) -> Flags:
    return Flags(f"hhmnet prepare {reader}", reader_class(reader).config_class)


def _more_help(words: list[str]) -> str:
    """The fields of the reader that is named, or the readers."""
    name = next((word for word in words if word in READERS), None)
    if name is None:
        width = max(map(len, READERS))
        lines = [f"  {name:{width}}  {title}" for name, (_, title) in READERS.items()]
        return "\n".join(["READER is one of these; with its name, --help shows its fields:", "", *lines, ""])
    kind, flags = reader_class(name), _flags(name)
    fields = flags.format_help() if flags.kinds else "It has no fields to choose.\n"
    return f"{name} reads {kind.title}. {kind.citation}\n\n{fields}"


def prepare_store(
    reader: Reader, out: Path, *, jobs: int | None = None, engine: str = "local", log: Console
) -> PrepareReport:
    """:func:`hhmnet.prepare.prepare` as a user watches it; shows the files in the way if no store is made.

    It also notes where the videos are, if there are any.
    """
    understood = reader.describe()
    for line in understood:
        log.print(line)
    try:
        with counting(log, "reading", "files") as progress:
            report = prepare(reader, out, jobs=jobs, engine=engine, progress=progress, tell=log.print)
    except PrepareError as error:
        show_rejected(log, error.rejected, out)
        raise
    write_video_folder(out, reader.video_folder)
    for line in warnings_of_split(Store(out)):
        if line not in understood:
            log.print(line)
    return report


def split_indices(store: Store) -> dict[str, np.ndarray]:
    """Positions of the training and test clips under the store's protocol; empty if that doesn't fit its clips."""
    try:
        protocol = get_protocol(store.protocol)
        return {part: protocol.indices(store, part) for part in ("train", "test")}
    except ProtocolError:
        return {}


def warnings_of_split(store: Store, protocol: Protocol | None = None) -> list[str]:
    """What is odd about the training and test clips under a protocol, the store's own if None; a line each."""
    try:
        found = protocol or get_protocol(store.protocol)
        train, test = (store.labels[found.indices(store, part)].tolist() for part in ("train", "test"))
    except ProtocolError as error:
        return [f"warning: {error}"]
    return split_doubts(store.class_names, train, test)


def splits_table(store: Store, title: str) -> Table:
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
    shown = rejected[:SHOWN_REJECTED]
    rows = [(file, "" if line is None else str(line), reason) for file, line, reason in shown]
    log.print(table(f"{len(rejected)} files left out", "file", ">line", "reason", rows=rows))
    more = "" if len(rejected) <= SHOWN_REJECTED else f"the first {SHOWN_REJECTED} are shown; "
    log.print(f"{more}all of them are in {out / REJECTED_FILE}")
