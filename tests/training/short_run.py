"""Training runs of a second, for the tests of the training loop."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from hhmnet.config import OptimConfig, RuntimeConfig, TrainConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.transform import DataConfig
from hhmnet.models.stst import STSTConfig
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.engine import Hooks, Interrupted, Trainer
from hhmnet.training.logs import EpochLog

OFF = AugmentConfig(
    **{field.name: 0.0 for field in dataclasses.fields(AugmentConfig)} | {"crop": 1.0}  # type: ignore[arg-type]
)
EVERYTHING = AugmentConfig(mirror=0.5, limb=0.3)
CERTAIN = {
    "dropout": 0.0,
    "drop_path": 0.0,
    "attention_dropout": 0.0,
    "mixup": 0.0,
    "ema": 0.0,
    "augment": OFF,
}


def make_config(*, persons: int = 1, fold: int | None = None, **changed: Any) -> TrainConfig:
    """A short run with every source of randomness in use; three epochs of three steps on ``tiny_store``.

    ``changed`` holds fields of any part: ``lr=0.1`` or ``dropout=0.0``.
    """
    model: dict[str, Any] = {"widths": (16, 16), "strides": (1, 2), "head_width": 8}
    model |= {"dropout": 0.3, "drop_path": 0.2, "attention_dropout": 0.1}
    optim: dict[str, Any] = {"epochs": 3, "batch_size": 6, "lr": 0.01, "warmup_epochs": 1.0}
    optim |= {"mixup": 0.4, "ema": 0.9}
    run: dict[str, Any] = {"device": "cpu", "checkpoint_every": 1, "validate_every": 1}
    for fields, kind in ((model, STSTConfig), (optim, OptimConfig), (run, RuntimeConfig)):
        fields |= {f.name: changed.pop(f.name) for f in dataclasses.fields(kind) if f.name in changed}
    return TrainConfig(
        fold=fold,
        model=STSTConfig(**model),
        data=DataConfig(frames=8, persons=persons, views=2),
        augment=changed.pop("augment", EVERYTHING),
        optim=OptimConfig(**optim),
        run=RuntimeConfig(**run),
        **changed,
    )


def make_run(folder: Path, config: TrainConfig, store: Store, hooks: Hooks | None = None) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(config, store, folder, hooks)


def train_in_slices(
    folder: Path,
    config: TrainConfig,
    store: Store,
    stops: list[int],
    on_epoch: Callable[[EpochLog], None] = lambda log: None,
) -> list[int]:
    """Train, stop after each of these steps, resume in a new trainer; returns the steps it stopped at."""
    reached = []
    for number, stop in enumerate([*stops, -1]):
        # Whatever else drew random numbers meanwhile must not matter.
        torch.manual_seed(1000 + number)
        np.random.seed(number)  # noqa: NPY002
        trainer = make_run(folder, config, store)

        def ask(step: int, total: int, trainer: Trainer = trainer, stop: int = stop) -> None:
            if step == stop:
                trainer._ask_to_stop(signal.SIGTERM, None)

        trainer.hooks = Hooks(ask, on_epoch)
        if number:
            trainer.resume()
        try:
            trainer.train()
        except Interrupted:
            reached.append(trainer.step)
    return reached


def assert_same_runs(a: Path, b: Path) -> None:
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert (a / "config.json").read_bytes() == (b / "config.json").read_bytes()
    ours, theirs = load_file(a / checkpoint.FILE), load_file(b / checkpoint.FILE)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    assert checkpoint.read_progress(a).step == checkpoint.read_progress(b).step
    assert checkpoint.read_progress(a).config == checkpoint.read_progress(b).config
