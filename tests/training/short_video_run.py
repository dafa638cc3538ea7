"""Training runs of phase 2 that take a second, for the tests of the training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from short_run import OFF, make_config

from hhmnet.config import TrainConfig
from hhmnet.data.roi import RoiConfig
from hhmnet.data.transform import DataConfig
from hhmnet.data.video_batch import VideoAugmentConfig, VideoConfig
from hhmnet.losses import LossConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.sample import Sample
from hhmnet.store import Store
from hhmnet.training.engine import Trainer
from hhmnet.training.phases import VideoPhase
from hhmnet.video_folder import write_video_folder
from made_crops import made_clip, write_made_store

PROTOCOL = "nw_ucla_cross_view"
ENCODER = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8)
ROI = RoiConfig(instants=4, cell=20, scene=36, scene_instants=2)
VIDEO = VideoConfig(instants=2, cell=16, scene=32)
STILL = VideoAugmentConfig(
    shift=0.0, zoom=0.0, brightness=0.0, contrast=0.0, saturation=0.0, part_drop=0.0, cell_drop=0.0
)
SIDEWAYS = dataclasses.replace(OFF, crop=0.5, mirror=0.5, jitter=1.0)


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


def write_phase1(folder: Path, store: Store, stream: str = "joint+bone", **changed: Any) -> Path:
    """A model of skeletons that nobody has trained."""
    torch.manual_seed(5)
    fields: dict[str, Any] = {"protocol": PROTOCOL, "class_names": store.class_names, "layout": store.layout}
    persons = changed.pop("persons", 1)
    spec = ModelSpec(
        model=ENCODER, data=DataConfig(stream=stream, frames=8, persons=persons), **fields | changed
    )
    ActionModel(spec.build(), spec).save_pretrained(folder)
    return folder


def make_video_config(phase1: Path | str, **changed: Any) -> TrainConfig:
    """Two epochs of two steps on the clips of :func:`made_samples`, with everything random that can be."""
    heterogeneous: dict[str, Any] = {
        "backbone": "small",
        "projection": 8,
        "modality_dropout": 0.3,
    }
    loss = {"distill": 0.5}
    for name in list(changed):
        if name in LossConfig.__dataclass_fields__:
            loss[name] = changed.pop(name)
        elif name in HeterogeneousConfig.__dataclass_fields__ and name not in ("dropout", "norm"):
            heterogeneous[name] = changed.pop(name)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 4, "mixup": 0.0}
    settings |= {"heterogeneous": HeterogeneousConfig(**heterogeneous), "roi": ROI, "video": VIDEO}
    settings["loss"] = LossConfig(**loss)
    settings |= {"augment": SIDEWAYS, "phase1": str(phase1)}
    return make_config(**settings | changed)


def certain(**changed: Any) -> dict[str, Any]:
    """Settings of a run without any randomness but the order of the clips."""
    return {"augment": OFF, "video_augment": STILL, "modality_dropout": 0.0, "ema": 0.0} | changed


def state(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """All weights and statistics."""
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


def video_phase(trainer: Trainer) -> VideoPhase:
    assert isinstance(trainer.phase, VideoPhase)
    return trainer.phase
