"""Time the way from a store to the network: the first batch of a large store, and the data's share of a step.

``README.md`` beside this file says how to read the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hhmnet.commands.configuration import ConfigError, read_config, write_config
from hhmnet.commands.terminal import Parser, UsageError, console, counting, table
from hhmnet.config import TrainConfig
from hhmnet.files import replacing
from hhmnet.prepare import prepare
from hhmnet.readers import get_reader
from hhmnet.sample import Sample
from hhmnet.skeleton import NTU25
from hhmnet.store import SAMPLES_FILE, Store, StoreError, write_store
from hhmnet.synthetic import generate
from hhmnet.training.logs import environment

CLIPS, CLASSES, SUBJECTS = 114_000, 120, 106
TEMPLATES, FRAMES = 40, (40, 120)
MEASURES = ("first-batch", "step")
PROBES = Path(__file__).with_name("loading_probes.py")
MIB = 2**20


class BenchmarkError(ValueError):
    """A measurement that can't be made; the message says what to change."""


def ntu_like(clips: int) -> Iterator[Sample]:
    """Clips of NTU RGB+D's shape: 25 joints, 40 to 120 frames, two persons in one of five, cameras 1 to 3.

    A few made-up clips return under new names, so any number of them takes the memory of those few.
    """
    rng = np.random.default_rng(0)
    templates = []
    for number in range(TEMPLATES):
        frames, persons = int(rng.integers(FRAMES[0], FRAMES[1] + 1)), 1 + (number % 5 == 4)
        joints = rng.normal(0, 0.01, (persons, frames, NTU25.num_joints, 3)).cumsum(1).astype(np.float32)
        present, index = np.ones((persons, frames), bool), np.arange(frames, dtype=np.int32)
        templates.append(Sample("template", 0, joints, present, index))
    for i in range(clips):
        name, camera, subject = f"clip{i:06d}", str(i % 3 + 1), str(i % SUBJECTS)
        yield replace(
            templates[i % TEMPLATES], sample_id=name, label=i % CLASSES, camera=camera, subject=subject
        )


def make_large_store(folder: Path, clips: int, log: Console) -> None:
    """Write a store of :func:`ntu_like` clips, unless that very store is there already.

    Raises:
        BenchmarkError: another store is there.
    """
    about = {"reader": PROBES.stem, "clips": clips}
    if (folder / SAMPLES_FILE).exists():
        if Store(folder).provenance != about:
            raise BenchmarkError(f"--folder {folder}: holds another store; name a new or empty folder")
        return
    with counting(log, "writing", "clips") as progress:

        def counted() -> Iterator[Sample]:
            for done, sample in enumerate(ntu_like(clips), start=1):
                progress(done, clips)
                yield sample

        write_store(
            folder,
            counted(),
            layout=NTU25,
            class_names=[f"A{number:03d}" for number in range(1, CLASSES + 1)],
            protocol="nw_ucla_cross_view",  # goes by camera, and these clips have cameras 1 to 3
            provenance=about,
        )


def forget_pages(file: Path) -> None:
    """Ask the system to drop a file's pages from its cache, so that the next reader finds it cold."""
    with open(file, "rb+") as handle:
        os.fsync(handle.fileno())  # only pages that are on disk can be dropped
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fresh(probe: str, processes: int, words: list[str], cold: Path | None = None) -> dict[str, Any]:
    """Run a probe in fresh processes, one after another.

    Args:
        probe: one of :data:`MEASURES`.
        processes: how many.
        words: the probe's options.
        cold: a file that each process is to find out of the system's cache.

    Returns:
        By unit and name, ``median``, ``min``, ``max`` and the values of all ``processes``.

    Raises:
        BenchmarkError: a process failed.
    """
    found: list[dict[str, dict[str, float]]] = []
    for _ in range(processes):
        if cold is not None:
            forget_pages(cold)
        command = [sys.executable, str(PROBES), probe, *words, "--started", repr(time.time())]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise BenchmarkError(f"the process that measures '{probe}' failed; its message stands above")
        found.append(json.loads(done.stdout))
    return {
        unit: {name: spread([figures[unit][name] for figures in found]) for name in names}
        for unit, names in found[0].items()
    }


def spread(values: list[float]) -> dict[str, Any]:
    """Median, extremes and the values themselves."""
    return {"median": median(values), "min": min(values), "max": max(values), "processes": values}


def measure_first_batch(options: argparse.Namespace, store: Path, log: Console) -> dict[str, Any]:
    """The first batch's part of the report; makes the store where it is missing."""
    make_large_store(store, options.clips, log)
    file = store / SAMPLES_FILE
    log.print(f"first batch: {options.processes} processes")
    figures = fresh("first-batch", options.processes, ["--data", str(store)], file if options.cold else None)
    cache = "cold" if options.cold else "warm"
    size = round(file.stat().st_size / MIB)
    return {"clips": options.clips, "store_mib": size, "file_cache": cache, "figures": figures}


def measure_step(
    options: argparse.Namespace, config: TrainConfig, scratch: Path, log: Console
) -> dict[str, Any]:
    """The training step's part of the report; without ``--data`` it makes a store of sample clips."""
    data, recipe = options.data or scratch / "sample", scratch / "recipe.yaml"
    if options.data is None:
        generate(scratch / "raw")
        prepare(get_reader("nw_ucla", scratch / "raw"), data)
    write_config(config, recipe)
    log.print(f"training step: {options.processes} processes of {options.steps} steps")
    words = ["--data", str(data), "--config", str(recipe), "--steps", str(options.steps)]
    return {
        "store": options.data.resolve().name if options.data else "sample clips",
        "clips": len(Store(data)),
        "batch": config.optim.batch_size,
        "frames": config.data.frames,
        "threads": config.run.threads or torch.get_num_threads(),
        "steps": options.steps,
        "figures": fresh("step", options.processes, words),
    }


def tables(report: dict[str, Any]) -> Iterator[Table]:
    """The report for the terminal: one table a measurement."""
    if part := report.get("first_batch"):
        store = f"{part['clips']:,} clips ({part['store_mib']:,} MiB, file cache {part['file_cache']})"
        yield _table(f"first batch after start, store of {store}", part["figures"])
    if part := report.get("training_step"):
        title = f"training step, batch {part['batch']}, {report['environment']['device']}"
        yield _table(title, part["figures"])


def _table(title: str, figures: dict[str, Any]) -> Table:
    view = table(title, "", ">median", ">min..max", "unit")
    for unit, named in figures.items():
        for name, value in named.items():
            middle, low, high = (f"{value[key]:.4g}" for key in ("median", "min", "max"))
            view.add_row(name, middle, f"{low}..{high}", unit)
        view.add_section()
    return view


def parse(words: list[str]) -> tuple[argparse.Namespace, TrainConfig]:
    """The command line: this command's own options, and the recipe with the flags that change it."""
    parser = Parser(
        "loading.py",
        "Time the first batch of a large store, and the data's share of a training step. Any field of the "
        "recipe can be given as a flag, such as --run.threads 1.",
    )
    add = parser.add_argument
    add("--measure", choices=MEASURES, help="one of the two alone")
    add("--clips", type=int, default=CLIPS, metavar="N", help=f"clips of the large store ({CLIPS})")
    add("--folder", type=Path, metavar="STORE", help="keep the large store there, and use it if it is there")
    add("--cold", action="store_true", help="drop the large store from the file cache before each process")
    add(
        "--config", type=Path, metavar="FILE", help="recipe of the training step (default: hhmnet's defaults)"
    )
    add("--data", type=Path, metavar="STORE", help="store of the training step (default: sample clips)")
    add("--steps", type=int, default=30, metavar="N", help="training steps a process (30)")
    add("--processes", type=int, default=3, metavar="N", help="fresh processes for every figure (3)")
    add("--json", type=Path, metavar="FILE", help="write the report there too")
    options, flags = parser.parse_known_args(words)
    for field in ("clips", "steps", "processes"):
        if getattr(options, field) < 1:
            parser.error(f"--{field} {getattr(options, field)}: give a number above 0")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}; make it first")
    if options.cold and not hasattr(os, "posix_fadvise"):
        parser.error("--cold needs posix_fadvise, which this system lacks; leave it out")
    own = [name.removeprefix("--") for name in parser._option_string_actions]
    return options, read_config(options.config, flags, own)


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    log = console()
    try:
        options, config = parse(sys.argv[1:] if words is None else words)
        device = torch.device("cuda" if config.run.device != "cpu" and torch.cuda.is_available() else "cpu")
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        report: dict[str, Any] = {"environment": environment(device) | {"load_before": load}}
        if load > 0.5:
            log.print(
                f"The machine was busy in the last minute (load {load:.1f}): times may come out too long."
            )
        with tempfile.TemporaryDirectory() as scratch:
            if options.measure != "step":
                store = options.folder or Path(scratch, "store")
                report["first_batch"] = measure_first_batch(options, store, log)
            if options.measure != "first-batch":
                report["training_step"] = measure_step(options, config, Path(scratch), log)
        console(stderr=False).print(*tables(report))
        if options.json:
            with replacing(options.json) as file:
                file.write((json.dumps(report, indent=1) + "\n").encode())
    except (BenchmarkError, ConfigError, StoreError, UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
