"""Time the reading of NTU RGB+D's .skeleton files beside CTR-GCN's published reader, each in one process.

The two take turns round by round, so that a machine whose speed drifts slows both alike; the ratio is taken within each
round. Files per second of the clock are those of an idle machine only; files per second of processor time, that of all
threads together, hold on a busy one too. CTR-GCN's licence is non-commercial, so its reader is imported from a checkout
of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from logging import getLogger
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import pyarrow
from common import BenchmarkError, add_json, machine, positive, run, write_report

from hhmnet.benchmarks.measure import spread
from hhmnet.commands.terminal import Parser, console, table
from hhmnet.readers.ntu import NTU120, NTUConfig

OURS, PEER = "hhmnet", "CTR-GCN"
KINDS = ("clock", "processor")
PEER_FILE = "data/ntu/get_raw_skes_data.py"


def our_reader(source: Path, empty: Path) -> Callable[[str], object]:
    """From a file's name to its sample: text, bodies, persons, checks. ``empty`` is a folder without videos."""
    reader = NTU120(source, NTUConfig(videos=empty))
    return lambda name: reader.read(f"{name}.skeleton", Counter())


def peer_reader(source: Path, checkout: Path) -> Callable[[str], object]:
    """From a file's name to its bodies, by CTR-GCN's first step; what it prints is thrown away.

    Raises:
        BenchmarkError: the checkout has no such reader.
    """
    file = checkout / PEER_FILE
    spec = importlib.util.spec_from_file_location("ctrgcn_reader", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise BenchmarkError(f"--ctrgcn {checkout}: has no {PEER_FILE}; name a checkout of CTR-GCN")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    log = getLogger("ctrgcn_reader")
    log.disabled = True

    def read(name: str) -> object:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            return module.get_raw_bodies_data(str(source), name, {}, log)

    return read


def files_per_second(read: Callable[[str], object], names: list[str], seconds: float) -> dict[str, float]:
    """Files read in a second of the clock and of processor time, all in turn for at least so many seconds."""
    done, start, processor = 0, perf_counter(), process_time()
    while True:
        for name in names:
            read(name)
        done += len(names)
        if (spent := perf_counter() - start) >= seconds:
            return {"clock": done / spent, "processor": done / (process_time() - processor)}


def check_bodies(ours: Callable[[str], Any], peer: Callable[[str], Any], names: list[str]) -> None:
    """Raise BenchmarkError, naming the file, if the peer can't read it or sees other frames."""
    for name in names:
        sample = ours(name)
        try:
            frames = peer(name)["num_frames"]
        except Exception as error:
            raise BenchmarkError(
                f"CTR-GCN's reader can't read {name}: {type(error).__name__}: {error}; leave this file out"
            ) from None
        if frames != sample.num_frames:
            raise BenchmarkError(
                f"CTR-GCN's reader sees {frames} frames in {name}, hhmnet {sample.num_frames}"
            )


def measure(
    readers: dict[str, Callable[[str], object]], names: list[str], rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """By kind of second and by reader the files per second in every round, and the ratios if there are two."""
    for read in readers.values():  # once, so that imports and the file cache are warm
        files_per_second(read, names, 0)
    turns = [
        {name: files_per_second(read, names, seconds) for name, read in readers.items()}
        for _ in range(rounds)
    ]
    figures: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        figures[kind] = {name: spread([turn[name][kind] for turn in turns]) for name in readers}
        if PEER in readers:
            figures[kind]["ratio"] = spread([turn[OURS][kind] / turn[PEER][kind] for turn in turns])
    return figures


def report(options: argparse.Namespace, empty: Path) -> dict[str, Any]:
    """The whole measurement."""
    names = sorted(path.stem for path in options.source.glob("*.skeleton"))
    if not names:
        raise BenchmarkError(f"--source {options.source}: holds no .skeleton files")
    readers = {OURS: our_reader(options.source, empty)}
    if options.ctrgcn:
        readers[PEER] = peer_reader(options.source, options.ctrgcn)
        check_bodies(readers[OURS], readers[PEER], names)
    size = sum((options.source / f"{name}.skeleton").stat().st_size for name in names)
    return {
        "machine": machine() | {"pyarrow": pyarrow.__version__},
        "files": {"number": len(names), "mean_kib": size / len(names) / 1024},
        "files_per_second": measure(readers, names, options.rounds, options.seconds),
    }


def main(words: list[str]) -> None:
    """Run the benchmark."""
    parser = Parser("ntu_reading.py", "Time hhmnet's reader of .skeleton files, and CTR-GCN's beside it.")
    add = parser.add_argument
    add("--source", type=Path, required=True, metavar="DIR", help="folder of .skeleton files")
    add("--ctrgcn", type=Path, metavar="DIR", help="checkout of CTR-GCN; without it hhmnet runs alone")
    add("--rounds", type=positive(int), default=5, metavar="N", help="turns of each reader (5)")
    add("--seconds", type=positive(float), default=3.0, metavar="S", help="length of a turn (3)")
    add_json(parser)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as empty:
        found = report(options, Path(empty))
    files = found["files"]
    title = (
        f"{files['number']} files of {files['mean_kib']:.0f} KiB, one process, {found['machine']['device']}"
    )
    view = table(title, "files/s of", "", ">median", ">min..max")
    for kind, readers in found["files_per_second"].items():
        for name, figures in readers.items():
            extremes = f"{figures['min']:.1f}..{figures['max']:.1f}"
            view.add_row(kind, name, f"{figures['median']:.1f}", extremes)
        view.add_section()
    console(stderr=False).print(view)
    write_report(found, options.json)


if __name__ == "__main__":
    sys.exit(run(main))
