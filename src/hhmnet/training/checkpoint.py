"""Checkpoints: everything a run needs to go on, in one safetensors file, no pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from hhmnet.files import replacing

FILE = "checkpoint.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that can't be used."""


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        seconds: training time so far, over all of the run's slices.
        config: the run's configuration as JSON; a resumed run must have the same.
        figures: loss and accuracy of every step of the epoch that has begun, so that its row of the log covers them
            all.
        epoch_seconds: time that these steps took.
    """

    step: int
    seconds: float
    config: str
    figures: list[list[float]] = field(default_factory=list)
    epoch_seconds: float = 0.0


def save(
    folder: Path, progress: Progress, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Write the checkpoint; until it is whole, the old one stays."""
    states = {name: module.state_dict() for name, module in modules.items()}
    states |= {f"optim.{number}": state for number, state in optimizer.state_dict()["state"].items()}
    tensors = {
        f"{owner}.{name}": value.detach().cpu().contiguous().clone()
        for owner, state in states.items()
        for name, value in state.items()
    }
    with replacing(folder / FILE) as file:
        file.write(serialise(tensors, metadata={"progress": json.dumps(asdict(progress))}))


def read_progress(folder: Path) -> Progress:
    """Where the checkpoint's run stood, without its weights.

    Raises:
        CheckpointError: missing or damaged; one line naming the file.
    """
    with _naming(folder / FILE), safe_open(folder / FILE, "pt") as handle:
        progress = Progress(**json.loads((handle.metadata() or {})["progress"]))
        json.loads(progress.config)
        numbers = [progress.step, progress.seconds, progress.epoch_seconds]
        numbers += [number for loss, accuracy in progress.figures for number in (loss, accuracy)]
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("its progress isn't in numbers")
        return progress


def load(folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> Progress:
    """Restore modules and optimiser in place, as :func:`save` was given them; returns where the run stood.

    Raises:
        CheckpointError: missing, damaged, or of another model; one line naming the file.
    """
    progress = read_progress(folder)
    with _naming(folder / FILE):
        with safe_open(folder / FILE, "pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        for owner, module in modules.items():
            module.load_state_dict(_below(f"{owner}.", tensors))
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optim.", tensors).items():
            number, key = name.split(".", 1)
            like = parameters[int(number)]
            # A fused optimiser walks through memory, so a moment must lie there as its parameter does.
            moment = torch.empty_like(like).copy_(value) if value.ndim else value
            state.setdefault(int(number), {})[key] = moment
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return progress


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong in reading ``file`` into a CheckpointError."""
    if not file.is_file():
        raise CheckpointError(f"{file}: not found; there is nothing to resume")
    wrong = SafetensorError, RuntimeError, OSError, LookupError, ValueError, AttributeError, TypeError
    try:
        yield
    except wrong as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{file}: can't be used ({reason}); remove it to start again") from None


def differing_fields(ours: str, theirs: str) -> list[str]:
    """Names of the configuration fields in which two runs differ, as ``optim.lr``."""

    def walk(a: Any, b: Any, name: str) -> list[str]:
        if isinstance(a, dict) and isinstance(b, dict):
            keys = sorted(a.keys() | b.keys())
            return [n for key in keys for n in walk(a.get(key), b.get(key), f"{name}.{key}" if name else key)]
        return [] if a == b else [name]

    return walk(json.loads(ours), json.loads(theirs), "")
