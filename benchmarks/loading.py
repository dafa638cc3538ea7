"""Time the way from a store to the network: the first batch of a large store, and the data's share of a step.

Every figure comes from fresh processes, since caches and memory of an older one would flatter it.
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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hhmnet.commands.configuration import ConfigError, read_config, write_config
from hhmnet.commands.terminal import Parser, UsageError, console, counting, table
from hhmnet.config import TrainConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.dataset import ClipDataset, EpochSampler, RawBatch, make_loader
from hhmnet.data.protocols import ProtocolError, get_protocol
from hhmnet.data.transform import DataConfig, prepare
from hhmnet.files import replacing
from hhmnet.readers import get_reader
from hhmnet.readers import prepare as prepare_store
from hhmnet.sample import Sample
from hhmnet.skeleton import NTU25
from hhmnet.store import SAMPLES_FILE, Store, StoreError, write_store
from hhmnet.synthetic import generate
from hhmnet.training import engine
from hhmnet.training.engine import Hooks, Trainer, TrainingError
from hhmnet.training.logs import environment

CLIPS, BATCH, CLASSES = 114_000, 64, 120
TEMPLATES, FRAMES = 40, (40, 120)
WARM_UP_STEPS = 3
STAGES = ("interpreter and imports", "opening the store", "protocol and index", "first batch", "prepare()")
MIB = 2**20


class BenchmarkError(ValueError):
    """A measurement that can't be made here; the message says what to change."""


def ntu_like(clips: int) -> Iterator[Sample]:
    """Clips of NTU RGB+D's shape: 25 joints, 40 to 120 frames, two persons in one of five, cameras 1 to 3.

    A few made clips return under new names, so any number of them takes the memory of those few.
    """
    rng = np.random.default_rng(0)
    templates = []
    for number in range(TEMPLATES):
        frames, persons = int(rng.integers(FRAMES[0], FRAMES[1] + 1)), 1 + (number % 5 == 4)
        steps = rng.normal(0, 0.01, (persons, frames, NTU25.num_joints, 3)).astype(np.float32)
        present, index = np.ones((persons, frames), bool), np.arange(frames, dtype=np.int32)
        templates.append(Sample("template", 0, steps.cumsum(1), present, index))
    for i in range(clips):
        place = {"label": i % CLASSES, "camera": str(i % 3 + 1), "subject": str(i % 106)}
        yield replace(templates[i * 7 % TEMPLATES], sample_id=f"clip{i:06d}", **place)


def make_store(folder: Path, clips: int, log: Console) -> None:
    """Write the store of :func:`ntu_like` clips, unless that very store is there already."""
    about = {"reader": "benchmarks/loading.py", "clips": clips}
    if (folder / SAMPLES_FILE).exists():
        if Store(folder).provenance != about:
            raise BenchmarkError(f"--folder {folder}: holds another store; name a new or empty folder")
        return
    with counting(log, "writing clips") as show:

        def shown() -> Iterator[Sample]:
            for done, sample in enumerate(ntu_like(clips), start=1):
                show(done, clips)
                yield sample

        names = [f"A{number:03d}" for number in range(1, CLASSES + 1)]
        protocol = "nw_ucla_cross_view"
        write_store(folder, shown(), layout=NTU25, class_names=names, protocol=protocol, provenance=about)


def forget_pages(file: Path) -> None:
    """Ask the system to drop a file's pages from its cache, so that the next reader finds it cold."""
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())  # only pages that are on disk can go
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(field: str) -> float:
    """A field of this process's memory status, in MiB; getrusage would start at the parent's peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def first_batch(folder: Path, started: float) -> dict[str, float]:
    """Seconds of every stage from ``started`` (by ``time.time``) to the first prepared batch; memory in MiB."""
    marks, resident = [started, time.time()], _memory("VmRSS")
    store = Store(folder)
    marks.append(time.time())
    rows = get_protocol(store.protocol).indices(store, "train")
    rows = rows[store.labels[rows] >= 0]
    marks.append(time.time())
    sampler = EpochSampler(len(rows), BATCH, seed=0, drop_last=True)
    batch: RawBatch = next(iter(make_loader(ClipDataset(store, rows, persons=2), sampler)))
    marks.append(time.time())
    random = torch.Generator().manual_seed(0)
    prepare(batch.clips, store.layout, DataConfig(persons=2), AugmentConfig(), random)
    marks.append(time.time())
    figures = dict(zip(STAGES, np.diff(marks).tolist(), strict=True))
    totals = {"total": marks[-1] - marks[0], "total after imports": marks[-1] - marks[1]}
    peak = _memory("VmHWM")
    return figures | totals | {"peak memory": peak, "peak memory after imports": peak - resident}


class TimedLoader:
    """A loader that notes when it was asked for a batch, and how long the asker waited."""

    def __init__(self, loader: Iterable[RawBatch], asked: list[float], waited: list[float]) -> None:
        self.loader, self.asked, self.waited = loader, asked, waited

    def __iter__(self) -> Iterator[RawBatch]:
        batches = iter(self.loader)
        while True:
            began = perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self.asked.append(began)
            self.waited.append(perf_counter() - began)
            yield batch


class _Enough(Exception):
    """Raised out of the training loop once it has been watched long enough."""


def training_step(store: Store, config: TrainConfig, steps: int, out: Path) -> dict[str, float]:
    """Median milliseconds of loading, prepare() and the whole step, taken inside the Trainer's own loop."""
    asked, loading, preparing, whole = [list[float]() for _ in range(4)]

    def on_step(step: int, total: int) -> None:
        wait()
        whole.append(perf_counter() - asked[-1])
        if step == steps + WARM_UP_STEPS:
            raise _Enough

    def timed_prepare(*words: Any) -> Any:
        wait()
        began = perf_counter()
        ready = prepare(*words)
        wait()
        preparing.append(perf_counter() - began)
        return ready

    # An epoch has at least one step, so these are enough; a checkpoint would only cost time.
    optim = replace(config.optim, epochs=steps + WARM_UP_STEPS)
    quick = replace(config.run, checkpoint_every=10**9, validate_every=10**9)
    trainer = Trainer(replace(config, fold=None, optim=optim, run=quick), store, out, Hooks(on_step))
    wait = torch.cuda.synchronize if trainer.device.type == "cuda" else lambda: None
    with (
        mock.patch.object(engine, "prepare", timed_prepare),
        mock.patch.object(engine, "make_loader", lambda *w: TimedLoader(make_loader(*w), asked, loading)),
        suppress(_Enough),
    ):
        trainer.train()
    times = {"loading": loading, "prepare()": preparing, "whole step": whole}
    figures = {name: 1000 * median(values[WARM_UP_STEPS:]) for name, values in times.items()}
    share = 100 * (figures["loading"] + figures["prepare()"]) / figures["whole step"]
    return figures | {"data share": share}


def fresh(probe: str, processes: int, words: list[str], cold: Path | None = None) -> dict[str, Any]:
    """Run a probe in fresh processes, one after another; median, extremes and values of every figure."""
    found: list[dict[str, float]] = []
    for _ in range(processes):
        if cold is not None:
            forget_pages(cold)
        command = [sys.executable, __file__, "--probe", probe, *words, "--started", repr(time.time())]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise BenchmarkError(f"the process that measures '{probe}' failed; its message stands above")
        found.append(json.loads(done.stdout))
    values = {name: [figures[name] for figures in found] for name in found[0]}
    return {
        name: {"median": median(v), "min": min(v), "max": max(v), "processes": v} for name, v in values.items()
    }


def measure(options: argparse.Namespace, config: TrainConfig, folder: Path, log: Console) -> dict[str, Any]:
    """The whole report; whatever has to be written meanwhile goes to ``folder``."""
    device = torch.device("cuda" if config.run.device != "cpu" and torch.cuda.is_available() else "cpu")
    report: dict[str, Any] = {"environment": environment(device) | {"load_before": os.getloadavg()[0]}}
    if options.measure != "step":
        place = options.folder or folder / "store"
        make_store(place, options.clips, log)
        size = (place / SAMPLES_FILE).stat().st_size / MIB
        log.print(f"first batch: {options.processes} processes")
        cold = place / SAMPLES_FILE if options.cold else None
        figures = fresh("first-batch", options.processes, ["--data", str(place)], cold)
        about = {"clips": options.clips, "store_mib": size, "batch": BATCH, "cold_cache": options.cold}
        report["first_batch"] = about | {"figures": figures}
    if options.measure != "first-batch":
        data = options.data or folder / "sample"
        if options.data is None:
            generate(folder / "raw")
            prepare_store(get_reader("nw_ucla", folder / "raw"), data)
        write_config(config, folder / "recipe.yaml")
        log.print(f"training step: {options.processes} processes of {options.steps} steps")
        words = ["--data", str(data), "--config", str(folder / "recipe.yaml"), "--steps", str(options.steps)]
        about = {"clips": len(Store(data)), "batch": config.optim.batch_size, "threads": config.run.threads}
        report["training_step"] = about | {"figures": fresh("step", options.processes, words)}
    return report


def show(report: dict[str, Any]) -> Iterator[Table]:
    """The report for the terminal: one table a measurement."""
    device, load = report["environment"]["device"], report["environment"]["load_before"]
    if part := report.get("first_batch"):
        cache = "cold" if part["cold_cache"] else "warm"
        size = f"{part['clips']:,} clips ({part['store_mib']:,.0f} MiB)"
        yield _table(f"first batch of {part['batch']} out of {size}, {cache} file cache", part["figures"])
    if part := report.get("training_step"):
        yield _table(f"training step, batch {part['batch']}, {device}", part["figures"])
    if load > 0.5:
        yield table(f"The machine was busy (load {load:.1f} before): figures are too high.")


def _table(title: str, figures: dict[str, Any]) -> Table:
    view = table(title, "", ">median", ">min..max", "unit")
    for name, value in figures.items():
        step = name in ("loading", "prepare()", "whole step") and "whole step" in figures
        unit = "MiB" if "memory" in name else "%" if "share" in name else "ms" if step else "s"
        digits = 0 if unit == "MiB" else 2
        cells = [f"{value[key]:.{digits}f}" for key in ("median", "min", "max")]
        view.add_row(name, cells[0], f"{cells[1]}..{cells[2]}", unit)
    return view
