"""What ``loading.py`` measures in fresh processes: ``first-batch`` and ``step``. Prints one JSON document.

A process of its own starts with empty caches and with nobody else's peak of memory. The figures are grouped by
unit: ``{"ms": {"loading": 1.5, ...}, "%": {...}}``.
"""

from __future__ import annotations

import argparse
import json
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

# All that `hhmnet train` imports, so that the time of the imports is that of a training.
import hhmnet.commands.train  # noqa: F401
from hhmnet.commands.configuration import ConfigError, read_config
from hhmnet.config import TrainConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.dataset import ClipDataset, EpochSampler, RawBatch, make_loader
from hhmnet.data.protocols import ProtocolError, get_protocol
from hhmnet.data.transform import DataConfig, prepare
from hhmnet.store import Store, StoreError
from hhmnet.training import engine, phases
from hhmnet.training.engine import Hooks, Trainer, TrainingError

Figures = dict[str, dict[str, float]]

BATCH = 64
WARM_UP_STEPS = 3


def _memory(field: str) -> float | None:
    """A field of this process's memory status, in MiB; None where the system has no /proc.

    getrusage won't do: a child's peak starts at its parent's.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def first_batch(folder: Path, started: float) -> Figures:
    """Every stage from ``started`` (seconds, by ``time.time``) to the first prepared batch of 64, and memory.

    The way is that of a training: the protocol's training clips in a random order, two persons a clip,
    augmentation switched on. Only the network and what comes behind it are left out.
    """
    resident = _memory("VmRSS")
    marks = {"interpreter and imports": time.time()}
    store = Store(folder)
    marks["opening the store"] = time.time()
    rows = get_protocol(store.protocol).indices(store, "train")
    rows = rows[store.labels[rows] >= 0]
    marks["protocol and labels"] = time.time()
    sampler = EpochSampler(len(rows), BATCH, seed=0, drop_last=True)
    batch: RawBatch = next(iter(make_loader(ClipDataset(store, rows, persons=2), sampler)))
    marks["loader and first batch"] = time.time()
    random = torch.Generator().manual_seed(0)
    prepare(batch.clips, store.layout, DataConfig(persons=2), AugmentConfig(), random)
    marks["prepare()"] = time.time()

    ends = list(marks.values())
    stages = dict(zip(marks, np.diff([started, *ends]).tolist(), strict=True))
    figures = {"s": stages | {"total": ends[-1] - started, "total after imports": ends[-1] - ends[0]}}
    peak = _memory("VmHWM")
    if peak is not None and resident is not None:
        figures["MiB"] = {"peak memory": peak, "of it after imports": peak - resident}
    return figures


class TimedLoader:
    """A loader that notes when it was asked for each batch, and how long the asker waited, in seconds."""

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
    """Leaves the training loop once it has been watched for long enough."""


def training_step(store: Store, config: TrainConfig, steps: int) -> Figures:
    """Medians over ``steps`` steps of loading, prepare() and the whole step, inside the Trainer's own loop.

    A step lasts from asking for its batch to the end of its update; what happens between epochs isn't counted.
    On a GPU the clock waits for the device before it is read, so there the parts can't overlap.
    """
    asked: list[float] = []
    loading: list[float] = []
    preparing: list[float] = []
    whole: list[float] = []

    def on_step(step: int, total: int) -> None:
        wait()
        whole.append(perf_counter() - asked[-1])
        if step == steps + WARM_UP_STEPS:
            raise _Enough

    def timed_prepare(*words: Any, **named: Any) -> Any:
        wait()
        began = perf_counter()
        ready = prepare(*words, **named)
        wait()
        preparing.append(perf_counter() - began)
        return ready

    def timed_loader(*words: Any) -> TimedLoader:
        return TimedLoader(make_loader(*words), asked, loading)

    # An epoch has one step at least, so these epochs are enough; the run leaves no file behind.
    optim = replace(config.optim, epochs=steps + WARM_UP_STEPS)
    run = replace(config.run, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(replace(config, fold=None, optim=optim, run=run), store, Path(out), Hooks(on_step))
        wait = torch.cuda.synchronize if trainer.device.type == "cuda" else lambda: None
        with (
            mock.patch.object(phases, "prepare", timed_prepare),
            mock.patch.object(engine, "make_loader", timed_loader),
            suppress(_Enough),
        ):
            trainer.train()
    times = {"loading": loading, "prepare()": preparing, "whole step": whole}
    ms = {name: 1000 * median(values[WARM_UP_STEPS:]) for name, values in times.items()}
    return {"ms": ms, "%": {"data share": 100 * (ms["loading"] + ms["prepare()"]) / ms["whole step"]}}


def main(words: list[str] | None = None) -> int:
    """Measure, and print the figures as JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probe", choices=("first-batch", "step"))
    parser.add_argument("--data", type=Path, required=True, help="store")
    parser.add_argument("--started", type=float, required=True, help="when the process was started")
    parser.add_argument("--config", type=Path, help="recipe of the training whose steps are measured")
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args(words)
    try:
        if options.probe == "first-batch":
            figures = first_batch(options.data, options.started)
        else:
            figures = training_step(Store(options.data), read_config(options.config), options.steps)
    except (ConfigError, ProtocolError, StoreError, TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
