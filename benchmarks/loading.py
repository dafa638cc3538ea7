"""Time the way from a store to the network: the first batch of a large store, and the data's share of a step.

Every figure is the median over fresh processes, which start with empty caches and with nobody else's peak of memory:
the program calls itself with ``--probe``. ``README.md`` beside this file says how to read the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from common import BenchmarkError, add_json, machine, positive, process_mib, run, write_report

# All that `hhmnet train` imports, so that the time of the imports is that of a training.
import hhmnet.commands.train  # noqa: F401
from hhmnet.benchmarks.measure import spread, wait
from hhmnet.commands.configuration import read_config, write_config
from hhmnet.commands.terminal import Parser, console, counting, table
from hhmnet.config import TrainConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.dataset import ClipDataset, EpochSampler, make_loader
from hhmnet.data.protocols import get_protocol
from hhmnet.data.transform import DataConfig, prepare
from hhmnet.prepare import prepare as prepare_store
from hhmnet.readers import get_reader
from hhmnet.sample import Sample
from hhmnet.skeleton import NTU25
from hhmnet.store import SAMPLES_FILE, Store, write_store
from hhmnet.synthetic import generate
from hhmnet.training.engine import Trainer

WARM_UP = 2  # steps before the clock counts
CLIPS, CLASSES, SUBJECTS, BATCH = 114_000, 120, 106, 64
TEMPLATES, FRAMES = 40, (40, 120)
MEASURES = ("first-batch", "step")
Figures = dict[str, dict[str, float]]
"""By unit and name: ``{"ms": {"loading": 1.5, ...}, "%": {...}}``."""


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
        about = {"sample_id": f"clip{i:06d}", "camera": str(i % 3 + 1), "subject": str(i % SUBJECTS)}
        yield replace(templates[i % TEMPLATES], label=i % CLASSES, **about)


def make_large_store(folder: Path, clips: int) -> None:
    """Write a store of :func:`ntu_like` clips, unless that very store is there already.

    Raises:
        BenchmarkError: another store is there.
    """
    about = {"reader": "loading", "clips": clips}
    if (folder / SAMPLES_FILE).exists():
        if Store(folder).provenance != about:
            raise BenchmarkError(f"--folder {folder}: holds another store; name a new or empty folder")
        return
    with counting(console(), "writing", "clips") as progress:

        def counted() -> Iterator[Sample]:
            for done, sample in enumerate(ntu_like(clips), start=1):
                progress(done, clips)
                yield sample

        names = [f"A{number:03d}" for number in range(1, CLASSES + 1)]
        protocol = "nw_ucla_cross_view"  # goes by camera, and these clips have cameras 1 to 3
        write_store(folder, counted(), layout=NTU25, class_names=names, protocol=protocol, provenance=about)


def first_batch(folder: Path, started: float) -> Figures:
    """Every stage from ``started`` (seconds, by ``time.time``) to the first prepared batch of 64, and memory.

    The way is that of a training: the protocol's training clips in a random order, two persons a clip,
    augmentation switched on. Only the network and what comes behind it are left out.
    """
    resident = process_mib("VmRSS")
    marks = {"interpreter and imports": time.time()}
    store = Store(folder)
    marks["opening the store"] = time.time()
    rows = get_protocol(store.protocol).indices(store, "train")
    rows = rows[store.labels[rows] >= 0]
    marks["protocol and labels"] = time.time()
    sampler = EpochSampler(len(rows), BATCH, seed=0)
    batch = next(iter(make_loader(ClipDataset(store, rows, persons=2), sampler)))
    marks["loader and first batch"] = time.time()
    random = torch.Generator().manual_seed(0)
    prepare(batch.clips, store.layout, DataConfig(persons=2), AugmentConfig(), random)
    marks["prepare()"] = time.time()
    ends = list(marks.values())
    stages = dict(zip(marks, np.diff([started, *ends]).tolist(), strict=True))
    figures = {"s": stages | {"total": ends[-1] - started, "total after imports": ends[-1] - ends[0]}}
    peak = process_mib("VmHWM")
    if peak is not None and resident is not None:
        figures["MiB"] = {"peak memory": peak, "of it after imports": peak - resident}
    return figures


def training_step(store: Store, config: TrainConfig, steps: int) -> Figures:
    """Means over ``steps`` steps of loading, preparation and the whole step, inside the Trainer's own loop.

    On a GPU the clock waits for the device before it is read, so there the parts can't overlap.
    """
    # An epoch has one step at least, so these epochs are enough; the run leaves no file behind.
    optim, run_config = replace(config.optim, epochs=steps + 3), replace(config.run, checkpoint_every=10**9)
    spent, last, made = dict.fromkeys(("loading", "prepare()", "rest"), 0.0), perf_counter(), 0

    def mark(part: str) -> None:
        nonlocal last
        wait(trainer.device)
        now = perf_counter()
        spent[part] += now - last if WARM_UP <= made < WARM_UP + steps else 0.0
        last = now

    def ending(call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def marked(*words: Any) -> Any:
            result = call(*words)
            mark(part)
            return result

        return marked

    def on_step(step: int, total: int) -> None:
        nonlocal made
        mark("rest")
        made += 1

    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(replace(config, fold=None, optim=optim, run=run_config), store, Path(out))
        trainer.hooks.on_step = on_step
        trainer._seed = ending(trainer._seed, "loading")  # type: ignore[method-assign]
        trainer.phase.inputs = ending(trainer.phase.inputs, "prepare()")  # type: ignore[method-assign]
        trainer.train()
    ms = {part: 1000 * value / steps for part, value in spent.items()}
    ms["whole step"] = sum(ms.values())
    del ms["rest"]
    return {"ms": ms, "%": {"data share": 100 * (ms["loading"] + ms["prepare()"]) / ms["whole step"]}}


def fresh(words: list[str], processes: int, cold: Path | None = None) -> dict[str, Any]:
    """Run this program with ``words`` in fresh processes, one after another.

    Args:
        words: ``--probe`` and its options.
        processes: how many.
        cold: a file that each process is to find out of the system's cache.

    Returns:
        By unit and name the :func:`~hhmnet.benchmarks.measure.spread` over the processes.

    Raises:
        BenchmarkError: a process failed.
    """
    found: list[Figures] = []
    for _ in range(processes):
        if cold is not None:
            with open(cold, "rb+") as handle:
                os.fsync(handle.fileno())  # only pages that are on disk can be dropped
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        command = [sys.executable, __file__, *words, "--started", repr(time.time())]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise BenchmarkError("a process that measures failed; its message stands above")
        found.append(json.loads(done.stdout))
    return {
        unit: {name: spread([figures[unit][name] for figures in found]) for name in names}
        for unit, names in found[0].items()
    }


def measure(options: argparse.Namespace, config: TrainConfig, scratch: Path) -> dict[str, Any]:
    """The whole report; without ``--data`` a step is measured on sample clips."""
    report: dict[str, Any] = {"machine": machine()}
    if options.measure != "step":
        store = options.folder or scratch / "store"
        make_large_store(store, options.clips)
        file = store / SAMPLES_FILE
        words = ["--probe", "first-batch", "--data", str(store)]
        report["first_batch"] = {
            "title": f"first batch after start, {options.clips:,} clips ({file.stat().st_size / 2**20:,.0f} MiB, "
            f"file cache {'cold' if options.cold else 'warm'})",
            "figures": fresh(words, options.processes, file if options.cold else None),
        }
    if options.measure != "first-batch":
        data, recipe = options.data or scratch / "sample", scratch / "recipe.yaml"
        if options.data is None:
            generate(scratch / "raw")
            prepare_store(get_reader("nw_ucla", scratch / "raw"), data)
        write_config(config, recipe)
        words = ["--probe", "step", "--data", str(data), "--config", str(recipe)]
        report["training_step"] = {
            "title": f"training step, {options.data.resolve().name if options.data else 'sample clips'}, "
            f"batch {config.optim.batch_size}, {config.data.frames} frames",
            "figures": fresh([*words, "--steps", str(options.steps)], options.processes),
        }
    return report


def main(words: list[str]) -> None:
    """Run the benchmark."""
    parser = Parser(
        "loading.py",
        "Time the first batch of a large store, and the data's share of a training step. Any field of the "
        "recipe can be given as a flag, such as --run.threads 1.",
    )
    add = parser.add_argument
    add("--measure", choices=MEASURES, help="one of the two alone")
    add("--clips", type=positive(int), default=CLIPS, metavar="N", help=f"clips of the large store ({CLIPS})")
    add("--folder", type=Path, metavar="STORE", help="keep the large store there, and use it if it is there")
    add("--cold", action="store_true", help="drop the large store from the file cache before each process")
    add("--config", type=Path, metavar="FILE", help="recipe of the training step (hhmnet's defaults)")
    add("--data", type=Path, metavar="STORE", help="store of the training step (default: sample clips)")
    add("--steps", type=positive(int), default=30, metavar="N", help="training steps a process (30)")
    add("--processes", type=positive(int), default=3, metavar="N", help="fresh processes a figure (3)")
    add("--probe", choices=MEASURES, help=argparse.SUPPRESS)
    add("--started", type=float, help=argparse.SUPPRESS)
    add_json(parser)
    options, flags = parser.parse_known_args(words)
    config = read_config(options.config, flags, [name[2:] for name in parser._option_string_actions])
    if options.probe:
        if options.probe == "first-batch":
            figures = first_batch(options.data, options.started)
        else:
            figures = training_step(Store(options.data), config, options.steps)
        print(json.dumps(figures))
        return
    if options.cold and not hasattr(os, "posix_fadvise"):
        parser.error("--cold needs posix_fadvise, which this system lacks; leave it out")
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(options, config, Path(scratch))
    for part in ("first_batch", "training_step"):
        if part in report:
            view = table(report[part]["title"], "", ">median", ">min..max", "unit")
            for unit, named in report[part]["figures"].items():
                for name, value in named.items():
                    middle, low, high = (f"{value[key]:.4g}" for key in ("median", "min", "max"))
                    view.add_row(name, middle, f"{low}..{high}", unit)
            console(stderr=False).print(view)
    write_report(report, options.json)


if __name__ == "__main__":
    sys.exit(run(main))
