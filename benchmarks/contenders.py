"""The models that ``peers.py`` times: ST&ST, and CTR-GCN (Chen et al., ICCV 2021).

CTR-GCN's licence is non-commercial, so nothing of it is here: it is imported from a checkout of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from hhmnet.benchmarks.measuring import Contender
from hhmnet.config import TrainConfig
from hhmnet.models.stst import STST
from hhmnet.skeleton import get_layout
from hhmnet.training.optim import make_optimizer

OURS, PEER = "ST&ST", "CTR-GCN"
PHASES = ("train", "inference")


class UserError(Exception):
    """Something the caller can put right; the message says what and how."""


@dataclass(frozen=True)
class Dataset:
    """One data set's clips, and the names under which either side knows it.

    Attributes:
        layout: our skeleton layout.
        recipe: CTR-GCN's published recipe, relative to its checkout.
        persons: persons per clip, M.
        classes: number of actions.
        batch: clips per step unless told otherwise.
    """

    layout: str
    recipe: str
    persons: int
    classes: int
    batch: int


DATASETS = {
    "nw-ucla": Dataset("kinect20", "config/ucla/default.yaml", persons=1, classes=10, batch=16),
    "ntu60": Dataset("ntu25", "config/nturgbd-cross-subject/default.yaml", persons=2, classes=60, batch=8),
}


@dataclass(frozen=True)
class Settings:
    """All that a measurement depends on, as given on the command line."""

    dataset: str
    batch: int
    device: str
    threads: int
    rounds: int
    seconds: float
    config: str | None
    frames: int | None
    ctrgcn: str | None
    ctrgcn_frames: int | None


def step_of(contender: Contender, phase: str) -> Callable[[], None]:
    """One step of a phase."""
    return contender.train if phase == "train" else contender.infer


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules of ``folder`` be imported, and leave sys.path as it was (CTR-GCN's graphs append to it)."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _read_recipe(path: str | None) -> TrainConfig:
    """A training recipe of ours; the defaults without a file."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainConfig)
    try:
        fields = parser.parse_path(path) if path else parser.get_defaults()
        return TrainConfig(**vars(parser.instantiate_classes(fields)))
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"--config {path}: {' '.join(str(error).split())}") from None


def _read_published_recipe(checkout: Path, recipe: str) -> tuple[dict[str, Any], int]:
    """CTR-GCN's arguments in its own recipe, and the frames that recipe makes clips of."""
    path = checkout / recipe
    if not path.is_file() or not (checkout / "model/ctrgcn.py").is_file():
        raise UserError(
            f"--ctrgcn {checkout}: model/ctrgcn.py and {recipe} are not both there; run "
            "'git clone https://github.com/Uason-Chen/CTR-GCN' and give the folder it makes"
        )
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return fields["model_args"], int(fields["train_feeder_args"]["window_size"])
    except KeyError as error:
        raise UserError(f"{path}: the field {error} is missing; restore the published recipe") from None


def build(name: str, settings: Settings) -> Contender:
    """One contender on its device; its weights and clips come from a fixed seed.

    Ours is trained with the optimizer that `hhmnet train` makes, CTR-GCN with the one that its own program makes, both
    without gradient clipping or averaged weights. Learning rates are tiny, so that random clips cannot blow a model up.

    Raises:
        UserError: our recipe cannot be read, or ``settings.ctrgcn`` is no checkout of CTR-GCN.
    """
    torch.manual_seed(0)
    data, device = DATASETS[settings.dataset], torch.device(settings.device)
    layout = get_layout(data.layout)
    model: nn.Module
    optimizer: torch.optim.Optimizer
    if name == OURS:
        ours = _read_recipe(settings.config)
        arguments, frames = asdict(ours.model), settings.frames or ours.data.frames
        model = STST(ours.model, layout, data.classes).to(device)
        optimizer = make_optimizer(model, replace(ours.optim, lr=1e-5))
    else:
        checkout = Path(settings.ctrgcn or "")
        arguments, window = _read_published_recipe(checkout, data.recipe)
        frames = settings.ctrgcn_frames or window
        with _importable(checkout):  # also while it is built: the model imports its graph by name
            model = import_module("model.ctrgcn").Model(**arguments).to(device)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=1e-5, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
    shape = (settings.batch, layout.dims, frames, layout.num_joints, data.persons)
    inputs = [torch.randn(shape, device=device)]
    if name == OURS and data.persons > 1:  # as in training, where a mask says who is there; here everybody is
        inputs.append(torch.ones(settings.batch, frames, data.persons, dtype=torch.bool, device=device))
    labels = torch.randint(data.classes, (settings.batch,), device=device)
    return Contender(model, optimizer, tuple(inputs), labels, arguments)
