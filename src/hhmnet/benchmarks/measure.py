"""What a recipe costs: its trainer's own steps on the clock, in turns with ST-GCN's."""

from __future__ import annotations

import dataclasses
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from hhmnet.benchmarks.made_data import make_trainer, write_made_store
from hhmnet.benchmarks.st_gcn import STGCN
from hhmnet.config import TrainConfig
from hhmnet.data.dataset import make_loader
from hhmnet.data.transform import prepare
from hhmnet.training.engine import Trainer

CPU = torch.device("cpu")
PHASES = ("training", "inference")
WARM_UP = {"cuda": 7, "cpu": 2}
"""Calls before the clock starts, on a GPU enough for a CUDA graph to be recorded."""
BATCHES = 16
"""That a made store holds: an epoch long enough for a loader's start not to be felt."""


def timed(step: Callable[[], object], steps: int = 1, device: torch.device = CPU) -> float:
    """Seconds that ``steps`` calls take, with the device's queue empty before and after."""
    wait(device)
    start = perf_counter()
    for _ in range(steps):
        step()
    wait(device)
    return perf_counter() - start


def wait(device: torch.device) -> None:
    """Return when the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def turns_of(
    step: Callable[[], object], seconds: float, device: torch.device, size: float = 1
) -> Callable[[], float]:
    """A function that repeats ``step`` for about ``seconds`` and returns how much it does per second; warms up first.

    ``size`` is how much one call does, such as the clips of its batch.
    """
    timed(step, WARM_UP[device.type], device)
    count = max(1, round(seconds / timed(step, 1, device)))
    return lambda: size * count / timed(step, count, device)


def take_turns(
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    progress: Callable[[int, dict[str, float]], None] = lambda number, figures: None,
) -> dict[str, list[float]]:
    """Every contender's figure in every round; a machine whose speed drifts drifts for all of them.

    ``progress`` is given each round's number, from 1, and its figures.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, turn in contenders.items():
            found[name].append(turn())
        progress(number, {name: values[-1] for name, values in found.items()})
    return found


def spread(values: list[float]) -> dict[str, Any]:
    """Median, extremes and the values themselves."""
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": values}


def ratios(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Spread of the ratio, taken within each round."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def peak_mib(device: torch.device) -> dict[str, float]:
    """Most memory that this process has ever held, in MiB: ``resident`` and, of tensors on a GPU, ``gpu``."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage starts a child at its parent's peak
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        peak = {"resident": int(fields["VmHWM"].split()[0]) / 1024}
    else:
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = {"resident": usage / 2**20 if sys.platform == "darwin" else usage / 2**10}
    if device.type == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak


def train_steps(trainer: Trainer) -> Iterator[None]:
    """Take a trainer's steps one by one, without an end; its clips come from its own loader."""
    loader = make_loader(trainer.dataset, trainer.sampler, trainer.config.run.workers)
    while True:
        for batch in loader:
            trainer.network.train()
            trainer.train_step(batch.to(trainer.device))
            trainer.step += 1
            yield


def measure(config: TrainConfig, seconds: float, rounds: int, log: Console) -> dict[str, Any]:
    """Measure a recipe on made clips of its protocol's shape, beside ST-GCN on the joints of the same clips.

    ST-GCN's clips are prepared once; it is always in float32, and never compiled.

    Args:
        config: the recipe; its fold is left aside. See :func:`~hhmnet.benchmarks.made_data.make_trainer` for phase 2.
        seconds: of a turn.
        rounds: turns of everyone.
        log: where each round's figures go.

    Returns:
        ``about`` (what two reports must have in common for their ratios to be compared), ``parameters`` and
        ``reference_parameters``; for ``training`` and ``inference`` ``samples_per_second``,
        ``reference_samples_per_second`` and ``ratio``, a :func:`spread` each.

    Raises:
        ShapeError: nobody knows the protocol's clips.
        TrainingError, PhaseError: the recipe can't be trained here.
    """
    # Without an end, and with steps so small that noise can't blow a model up.
    optim = dataclasses.replace(config.optim, epochs=10**9, lr=1e-7, min_lr=0.0)
    config = dataclasses.replace(config, fold=None, optim=optim)

    def progress(number: int, figures: dict[str, float]) -> None:
        now = f"training {figures['training']:.3g}, ST-GCN {figures['ST-GCN training']:.3g} samples/s"
        log.print(f"round {number}/{rounds}: {now}", soft_wrap=True)

    with tempfile.TemporaryDirectory() as name:
        trainer = make_trainer(config, write_made_store(Path(name) / "store", config, BATCHES), Path(name))
        store, device, size = trainer.store, trainer.device, config.optim.batch_size
        batch = trainer.dataset.__getitems__([i % len(trainer.rows) for i in range(size)]).to(device)
        joints = dataclasses.replace(config.data, stream="joint")
        x = prepare(batch.clips, store.layout, joints)[0].contiguous()
        labels = torch.from_numpy(trainer.labels).to(device)[batch.index]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            reference = STGCN(store.layout, len(store.class_names)).to(device)
        steps: dict[str, Callable[[], object]] = {
            "training": partial(next, train_steps(trainer)),
            "inference": _inference(trainer.result, lambda: trainer.result.answer(batch.clips, batch.video)),
            "ST-GCN training": partial(next, _reference_steps(reference, x, labels)),
            "ST-GCN inference": _inference(reference, lambda: reference(x)),
        }
        turns = {name: turns_of(step, seconds, device, size) for name, step in steps.items()}
        found = take_turns(turns, rounds, progress)
    about = {
        "protocol": trainer.protocols[0].name,
        "phase": 2 if config.looks_at_video else 1,
        "streams": list(config.data.streams),
        "batch": size,
        "frames": config.data.frames,
        "joints": store.layout.num_joints,
        "persons": config.data.persons,
        "classes": len(store.class_names),
        "device": device.type,
        "precision": config.run.precision,
        "compile": config.run.compile,
        "graph": config.run.graph and device.type == "cuda",
    }
    report: dict[str, Any] = {"about": about}
    for name, model in (("parameters", trainer.network), ("reference_parameters", reference)):
        report[name] = sum(weight.numel() for weight in model.parameters())
    for phase in PHASES:
        ours, theirs = found[phase], found[f"ST-GCN {phase}"]
        speeds = {"samples_per_second": spread(ours), "reference_samples_per_second": spread(theirs)}
        report[phase] = speeds | {"ratio": ratios(ours, theirs)}
    return report


def _inference(model: torch.nn.Module, forward: Callable[[], object]) -> Callable[[], object]:
    @torch.inference_mode()
    def answer() -> object:
        model.eval()
        return forward()

    return answer


def _reference_steps(model: STGCN, x: Tensor, labels: Tensor) -> Iterator[None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7, momentum=0.9, nesterov=True, weight_decay=1e-4)
    while True:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
        yield
