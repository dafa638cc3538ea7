"""Measure `hhmnet prepare` at full size: files per second, in all and per core, and memory, as files grow in number.

The files are made by repeating a few under other valid names. ``README.md`` beside this file says how to read the
figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

from common import BenchmarkError, add_json, machine, positive, run, write_report
from rich.console import Console
from rich.table import Table

from hhmnet.commands.terminal import Parser, console, table
from hhmnet.readers import Reader, get_reader
from hhmnet.store import SAMPLES_FILE

MUTUAL = frozenset((*range(50, 61), *range(106, 121)))
"""Actions of NTU RGB+D that two persons do together: there, a file with two bodies stays one with two."""


def nw_ucla_names(stem: str) -> Iterator[str]:
    """Names of clips of the same action as ``stem``."""
    action = stem[:3]
    for episode, subject, view in product(range(100), range(1, 100), (1, 2, 3)):
        yield f"{action}_s{subject:02d}_e{episode:02d}_v{view:02d}"


def ntu_names(stem: str, setups: int, subjects: int, actions: int) -> Iterator[str]:
    """Names of clips by as many persons as there are in ``stem``."""
    together = int(stem[-3:]) in MUTUAL
    alike = [action for action in range(1, actions + 1) if (action in MUTUAL) == together]
    for replication, subject, setup, camera, action in product(
        (1, 2), range(1, subjects + 1), range(1, setups + 1), (1, 2, 3), alike
    ):
        yield f"S{setup:03d}C{camera:03d}P{subject:03d}R{replication:03d}A{action:03d}"


NAMES: dict[str, Callable[[str], Iterator[str]]] = {
    "nw_ucla": nw_ucla_names,
    "ntu60": lambda stem: ntu_names(stem, 17, 40, 60),
    "ntu120": lambda stem: ntu_names(stem, 32, 106, 120),
}
"""For each reader, the names that a file's content may stand under."""


def repeat_files(reader: Reader, folder: Path, count: int) -> int:
    """Fill ``folder`` with ``count`` files of the reader's format, each source file as often as any other.

    They are hard links to one copy of each source file where the file system allows it, else copies. A file whose
    text holds its own name, as NW-UCLA's do, is written anew with the other name. Also a table of classes is copied.

    Returns:
        How many names there were, ``count`` or fewer.
    """
    folder.mkdir(parents=True)
    originals = folder.with_name(f"{folder.name}-originals")
    originals.mkdir()
    sources = [reader.source / item for item in reader.items()]
    kept = [Path(shutil.copyfile(source, originals / source.name)) for source in sources]
    for extra in reader.source.glob("classes.json"):
        shutil.copyfile(extra, folder / extra.name)
    taken: set[str] = set()
    names = [_new_names(NAMES[reader.name](source.stem), taken) for source in sources]
    made = 0
    for name_of_each in islice(zip(*names, strict=False), -(-count // len(kept))):
        for original, name in islice(zip(kept, name_of_each, strict=True), count - made):
            _repeat(original, folder / f"{name}{original.suffix}")
            made += 1
    return made


def _new_names(names: Iterator[str], taken: set[str]) -> Iterator[str]:
    for name in names:
        if name not in taken:
            taken.add(name)
            yield name


def _repeat(original: Path, target: Path) -> None:
    if original.suffix == ".json":
        text = original.read_bytes()
        target.write_bytes(re.sub(re.escape(original.stem).encode(), target.stem.encode(), text))
        return
    try:
        os.link(original, target)
    except OSError:
        shutil.copyfile(original, target)


class Memory:
    """Watches the memory of a program and of the processes below it.

    Resident memory is added up over the processes, so pages that they share, such as libraries, count once for each.
    ``own`` counts such a page once in all; it is 0 where the system doesn't tell.

    Args:
        session: id of the session that the processes form.
    """

    def __init__(self, session: int) -> None:
        self._session = session
        self.resident = self.own = 0.0
        self.processes = 0

    def look(self) -> None:
        """Take note of this moment."""
        found = [
            entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._is_member(entry)
        ]
        resident = sum(_kib(entry / "status", "VmRSS:") for entry in found) / 1024
        own = sum(_kib(entry / "smaps_rollup", "Pss:") for entry in found) / 1024
        self.resident, self.own = max(self.resident, resident), max(self.own, own)
        self.processes = max(self.processes, len(found))

    def _is_member(self, entry: Path) -> bool:
        try:
            return int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == self._session
        except OSError:
            return False


def _kib(file: Path, field: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def prepare_once(reader: str, source: Path, out: Path, jobs: int) -> dict[str, Any]:
    """One call of the command, in a process of its own, from its start to its end.

    Raises:
        BenchmarkError: the command failed.
    """
    command = [sys.executable, "-m", "hhmnet", "prepare", reader, "--source", str(source), "--out", str(out)]
    before, began = os.times(), time.perf_counter()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*command, "--jobs", str(jobs), "--json"], stdout=output, stderr=errors, start_new_session=True
        )
        memory = Memory(process.pid)
        while process.poll() is None:
            memory.look()
            time.sleep(0.1)
        seconds, after = time.perf_counter() - began, os.times()
        if process.returncode:
            errors.seek(0)
            raise BenchmarkError(f"hhmnet prepare failed: {errors.read().decode(errors='replace').strip()}")
        output.seek(0)
        document = json.load(output)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    files = document["accepted"] + len(document["rejected"])
    samples = out / SAMPLES_FILE
    return {
        "files": files,
        "jobs": jobs,
        "rejected": len(document["rejected"]),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "files_per_second": files / seconds,
        "files_per_cpu_second": files / cpu,
        "peak_resident_mib": memory.resident,
        "peak_own_mib": memory.own,
        "processes": memory.processes,
        "store_mib": samples.stat().st_size / 2**20,
        "sha256": hashlib.sha256(samples.read_bytes()).hexdigest(),
    }


def measure_sizes(reader: Reader, options: argparse.Namespace, log: Console) -> list[dict[str, Any]]:
    """The command on ever more files, with every number of jobs; the stores of one size must be equal."""
    found = []
    for count in sorted(options.files):
        with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
            source, out = Path(scratch, "raw"), Path(scratch, "store")
            made = repeat_files(reader, source, count)
            if made < count:
                log.print(f"there are valid names for {made:,} files only, not for {count:,}")
            rows = []
            for jobs in options.jobs:
                log.print(f"{made:,} files, {jobs} jobs")
                rows.append(prepare_once(reader.name, source, out, jobs))
                (out / SAMPLES_FILE).unlink()
        if len({row["sha256"] for row in rows}) > 1:
            raise BenchmarkError(f"the stores of {count} files differ with the number of jobs")
        found += rows
    return found


def sizes_table(report: dict[str, Any]) -> Table:
    """The report for the terminal."""
    sizes = table(
        f"hhmnet prepare {report['reader']}",
        *(">files", ">jobs", ">seconds", ">files/s", ">files/s and core", ">peak MiB", ">store MiB"),
    )
    for row in report["sizes"]:
        sizes.add_row(
            f"{row['files']:,}" + (f" ({row['rejected']:,} rejected)" if row["rejected"] else ""),
            str(row["jobs"]),
            f"{row['seconds']:.1f}",
            f"{row['files_per_second']:.0f}",
            f"{row['files_per_cpu_second']:.0f}",
            f"{row['peak_resident_mib']:.0f} ({row['peak_own_mib']:.0f})",
            f"{row['store_mib']:.0f}",
        )
    return sizes


def main(words: list[str]) -> None:
    """Run the benchmark."""
    parser = Parser("preparing.py", "Measure `hhmnet prepare` on many files, made by repeating a few.")
    add = parser.add_argument
    add("--reader", choices=NAMES, required=True, help="format of the files")
    add("--source", type=Path, required=True, metavar="DIR", help="folder of the files to repeat")
    many, count = {"type": positive(int), "nargs": "+", "metavar": "N"}, "how many (1000 4000 11400)"
    add("--files", **many, default=[1000, 4000, 11400], help=count)
    add("--jobs", **many, default=[1, 2], help="numbers of jobs (1 2)")
    where = "where the temporary files go; they need twice the store's size"
    add("--folder", type=Path, metavar="DIR", help=where)
    add_json(parser)
    options = parser.parse_args(words)
    if not Path("/proc/self/status").exists():
        parser.error("memory is read from /proc, which this system lacks")
    reader = get_reader(options.reader, options.source)
    report: dict[str, Any] = {"reader": reader.name, "machine": machine()}
    report["sizes"] = measure_sizes(reader, options, console())
    console(stderr=False).print(sizes_table(report))
    write_report(report, options.json)


if __name__ == "__main__":
    sys.exit(run(main))
