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
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

# All that `hhmnet train` imports, so that the time of the imports is that of a training.
import hhmnet.commands.train  # noqa: F401
from hhmnet.benchmarks.measuring import process_mib
from hhmnet.benchmarks.steps import Stepper
from hhmnet.commands.configuration import ConfigError, read_config
from hhmnet.config import TrainConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.dataset import ClipDataset, EpochSampler, RawBatch, make_loader
from hhmnet.data.protocols import ProtocolError, get_protocol
from hhmnet.data.transform import DataConfig, prepare
from hhmnet.store import Store, StoreError
from hhmnet.training.engine import Trainer, TrainingError

Figures = dict[str, dict[str, float]]

BATCH = 64
WARM_UP_STEPS = 3


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
    sampler = EpochSampler(len(rows), BATCH, seed=0, drop_last=True)
    batch: RawBatch = next(iter(make_loader(ClipDataset(store, rows, persons=2), sampler)))
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
    optim = replace(config.optim, epochs=steps + WARM_UP_STEPS)
    run = replace(config.run, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(replace(config, fold=None, optim=optim, run=run), store, Path(out))
        parts = Stepper(trainer).parts(steps=steps)
    ms = {"loading": parts["data"], "prepare()": parts["preparation"], "whole step": sum(parts.values())}
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
