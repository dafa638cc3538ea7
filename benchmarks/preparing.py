"""Measure `hhmnet prepare` at full size: files per second, in all and per core, and memory, as files grow in number.

``README.md`` beside this file says how to read the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from preparing_files import NAMES, repeat_files
from rich.console import Console
from rich.table import Table

from hhmnet.commands.terminal import Parser, UsageError, console, table
from hhmnet.files import replacing
from hhmnet.readers import Reader, SourceError, get_reader
from hhmnet.store import SAMPLES_FILE
from hhmnet.training.logs import environment

SAMPLING_SECONDS = 0.1
MIB = 2**20


class BenchmarkError(ValueError):
    """A measurement that can't be made; the message says what to change."""


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
    with tempfile.TemporaryFile() as shown, tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            [*command, "--jobs", str(jobs), "--json"], stdout=shown, stderr=told, start_new_session=True
        )
        memory = Memory(process.pid)
        while process.poll() is None:
            memory.look()
            time.sleep(SAMPLING_SECONDS)
        seconds, after = time.perf_counter() - began, os.times()
        if process.returncode:
            told.seek(0)
            raise BenchmarkError(f"hhmnet prepare failed: {told.read().decode(errors='replace').strip()}")
        shown.seek(0)
        document = json.load(shown)
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
        "store_mib": samples.stat().st_size / MIB,
        "sha256": _digest(samples),
    }


def _digest(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


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


def parse(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = Parser("preparing.py", "Measure `hhmnet prepare` on many files, made by repeating a few.")
    add = parser.add_argument
    add("--reader", choices=NAMES, required=True, help="format of the files")
    add("--source", type=Path, required=True, metavar="DIR", help="folder of the files to repeat")
    add(
        "--files",
        type=int,
        nargs="+",
        default=[1000, 4000, 11400],
        metavar="N",
        help="how many (1000 4000 11400)",
    )
    add("--jobs", type=int, nargs="+", default=[1, 2], metavar="N", help="numbers of jobs (1 2)")
    add(
        "--folder",
        type=Path,
        metavar="DIR",
        help="where the temporary files go; they need twice the store's size",
    )
    add("--json", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args(words)
    for field in ("files", "jobs"):
        if min(getattr(options, field)) < 1:
            parser.error(f"--{field}: give numbers above 0")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}; make it first")
    if not Path("/proc/self/status").exists():
        parser.error("memory is read from /proc, which this system lacks")
    return options


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    log = console()
    try:
        options = parse(sys.argv[1:] if words is None else words)
        reader = get_reader(options.reader, options.source)
        report: dict[str, Any] = {"reader": reader.name}
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        report["environment"] = environment(torch.device("cpu")) | {"load_before": load}
        if load > 0.5:
            log.print(
                "The machine was busy in the last minute: seconds may come out too long; per core is safer."
            )
        report["sizes"] = measure_sizes(reader, options, log)
        console(stderr=False).print(sizes_table(report))
        if options.json:
            with replacing(options.json) as file:
                file.write((json.dumps(report, indent=1) + "\n").encode())
    except (BenchmarkError, SourceError, UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
