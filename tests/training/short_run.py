"""Training runs of a second, of both phases, for the tests of the training loop."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from hhmnet.config import OptimConfig, RuntimeConfig, TrainConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.roi import RoiConfig
from hhmnet.data.transform import DataConfig
from hhmnet.data.video_batch import VideoConfig
from hhmnet.losses import LossConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.sample import Sample
from hhmnet.store import Store, write_video_folder
from hhmnet.training import checkpoint
from hhmnet.training.engine import Hooks, Interrupted, Trainer
from hhmnet.training.logs import EpochLog
from made_crops import made_clip, write_made_store
from made_ragged import OFF

CERTAIN = {"dropout": 0.0, "drop_path": 0.0, "mixup": 0.0, "ema": 0.0, "augment": OFF}
SMALL_MODEL = {"widths": (16, 16), "strides": (1, 2), "head_width": 8}
SIDEWAYS = dataclasses.replace(OFF, crop=0.5, mirror=0.5, jitter=1.0)


def _take(changed: dict[str, Any], kind: type, **usual: Any) -> Any:
    names = [field.name for field in dataclasses.fields(kind) if field.name in changed]
    return kind(**usual | {name: changed.pop(name) for name in names})


def make_config(*, persons: int = 1, fold: int | None = None, **changed: Any) -> TrainConfig:
    """A short run with every source of randomness in use; three epochs of three steps on ``tiny_store``.

    ``changed`` holds fields of any part: ``lr=0.1`` or ``dropout=0.0``.
    """
    random = {"dropout": 0.3, "drop_path": 0.2}
    optim = {"epochs": 3, "batch_size": 6, "lr": 0.01, "warmup_epochs": 1.0, "mixup": 0.4, "ema": 0.9}
    return TrainConfig(
        fold=fold,
        model=_take(changed, STSTConfig, **SMALL_MODEL, **random),
        data=DataConfig(stream=changed.pop("stream", "joint"), frames=8, persons=persons),
        augment=changed.pop("augment", AugmentConfig(mirror=0.5)),
        optim=_take(changed, OptimConfig, **optim),
        run=_take(changed, RuntimeConfig, device="cpu", checkpoint_every=1, validate_every=1),
        **changed,
    )


def make_run(
    folder: Path, config: TrainConfig, stores: Store | Sequence[Store], hooks: Hooks | None = None
) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(config, stores, folder, hooks)


def train_in_slices(
    folder: Path,
    config: TrainConfig,
    store: Store | Sequence[Store],
    stops: list[int],
    on_epoch: Callable[[EpochLog], None] = lambda log: None,
) -> list[int]:
    """Train, stop at a signal in each of these steps, resume in a new trainer; returns the steps it stopped at."""
    reached = []
    for number, stop in enumerate([*stops, -1]):
        # Whatever else draws random numbers meanwhile must not matter.
        torch.manual_seed(1000 + number)
        np.random.seed(number)  # noqa: NPY002

        def on_step(step: int, total: int, stop: int = stop) -> None:
            if step == stop:
                os.kill(os.getpid(), signal.SIGINT if stop % 2 else signal.SIGTERM)

        trainer = make_run(folder, config, store, Hooks(on_step, on_epoch))
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


# Phase 2.


def made_samples() -> list[Sample]:
    """Twelve clips, eight of them for training; the one numbered 3 has no video."""
    samples = [made_clip(number) for number in range(12)]
    samples[3] = made_clip(3, video=None, video_frames=None)
    return samples


def write_video_store(folder: Path, samples: Sequence[Sample]) -> Store:
    """A store that knows where its videos are: ``folder/videos``."""
    store, videos = write_made_store(folder, samples)
    write_video_folder(store.path, videos)
    return Store(store.path)


def write_phase1(folder: Path, store: Store, persons: int = 1, **changed: Any) -> Path:
    """A model of two streams of skeletons that nobody has trained."""
    torch.manual_seed(5)
    fields: dict[str, Any] = {"class_names": store.class_names, "layout": store.layout}
    data = DataConfig(stream="joint+bone", frames=8, persons=persons)
    fields |= {"protocol": "nw_ucla_cross_view", "model": STSTConfig(**SMALL_MODEL), "data": data}
    spec = ModelSpec(**fields | changed)
    ActionModel(spec.build(), spec).save_pretrained(folder)
    return folder


def make_video_config(phase1: Path | str, **changed: Any) -> TrainConfig:
    """Two epochs of two steps on the clips of :func:`made_samples`, with everything random that can be."""
    settings: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 4,
        "mixup": 0.0,
        "augment": SIDEWAYS,
        "phase1": str(phase1),
        "loss": _take(changed, LossConfig, distill=0.5),
        "heterogeneous": _take(changed, HeterogeneousConfig, backbone="small", projection=8),
        "roi": RoiConfig(instants=4, cell=20, scene=36, scene_instants=2),
        "video": VideoConfig(instants=2, cell=16, scene=32),
    }
    return make_config(**settings | changed)
