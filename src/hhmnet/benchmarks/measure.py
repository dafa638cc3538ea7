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
from torch.nn import functional

from hhmnet.benchmarks.made_data import make_trainer, write_made_store
from hhmnet.benchmarks.st_gcn import STGCN
from hhmnet.config import TrainConfig
from hhmnet.data.dataset import RawBatch, make_loader
from hhmnet.data.transform import prepare
from hhmnet.training.engine import Trainer

CPU = torch.device("cpu")
PHASES = ("training", "inference")
WARM_UP = {"cuda": 7, "cpu": 2}
"""Calls before the clock starts, on a GPU enough for a CUDA graph to be recorded."""
BATCHES = 16
"""That a made store holds: an epoch long enough for a loader's start not to be felt."""

Progress = Callable[[int, dict[str, float]], None]


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
    progress: Progress = lambda number, figures: None,
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
    """Measure a recipe on made clips of its protocol's shape.

    Args:
        config: the recipe; its fold is left aside. See :func:`~hhmnet.benchmarks.made_data.make_trainer` for phase 2.
        seconds: of a turn.
        rounds: turns of everyone.
        log: where each round's figures go.

    Returns:
        ``about`` (what was measured), ``parameters`` and ``reference_parameters``; for ``training`` and ``inference``
        ``samples_per_second``, ``reference_samples_per_second`` and ``ratio``, a :func:`spread` each.

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
        store = write_made_store(Path(name) / "store", config, BATCHES)
        trainer = make_trainer(config, store, Path(name))
        device, size = trainer.device, config.optim.batch_size
        rows = [number % len(trainer.rows) for number in range(size)]
        batch = trainer.dataset.__getitems__(rows).to(device)
        stgcn, train_stgcn, infer_stgcn = reference(trainer, batch)
        steps: dict[str, Callable[[], object]] = {
            "training": partial(next, train_steps(trainer)),
            "inference": inference(trainer, batch),
            "ST-GCN training": train_stgcn,
            "ST-GCN inference": infer_stgcn,
        }
        turns = {name: turns_of(step, seconds, device, size) for name, step in steps.items()}
        found = take_turns(turns, rounds, progress)
    report: dict[str, Any] = {"about": about(trainer)}
    for name, model in (("parameters", trainer.network), ("reference_parameters", stgcn)):
        report[name] = sum(weight.numel() for weight in model.parameters())
    for phase in PHASES:
        ours, theirs = found[phase], found[f"ST-GCN {phase}"]
        report[phase] = {
            "samples_per_second": spread(ours),
            "reference_samples_per_second": spread(theirs),
            "ratio": ratios(ours, theirs),
        }
    return report


def about(trainer: Trainer) -> dict[str, Any]:
    """What two reports must have in common for their ratios to be compared."""
    config, store = trainer.config, trainer.store
    return {
        "protocol": trainer.protocols[0].name,
        "phase": 2 if config.looks_at_video else 1,
        "streams": list(config.data.streams),
        "batch": config.optim.batch_size,
        "frames": config.data.frames,
        "joints": store.layout.num_joints,
        "persons": config.data.persons,
        "classes": len(store.class_names),
        "device": trainer.device.type,
        "precision": config.run.precision,
        "compile": config.run.compile,
        "graph": config.run.graph and trainer.device.type == "cuda",
    }


def inference(trainer: Trainer, batch: RawBatch) -> Callable[[], object]:
    """What answers one batch of clips, preprocessing included, by the model as it stands."""
    model = trainer.result

    @torch.inference_mode()
    def answer() -> object:
        model.eval()
        return model.answer(batch.clips, batch.video)

    return answer


def reference(trainer: Trainer, batch: RawBatch) -> tuple[STGCN, Callable[[], None], Callable[[], object]]:
    """ST-GCN, a step of its training and its forward pass, on the joints of the same clips, prepared once.

    It is always in float32, and never compiled.
    """
    store, data = trainer.store, dataclasses.replace(trainer.config.data, stream="joint")
    x = prepare(batch.clips, store.layout, data)[0].contiguous()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = STGCN(store.layout, len(store.class_names)).to(trainer.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7, momentum=0.9, nesterov=True, weight_decay=1e-4)
    labels = torch.from_numpy(trainer.labels).to(trainer.device)[batch.index]

    def train() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    @torch.inference_mode()
    def infer() -> object:
        return model.eval()(x)

    return model, train, infer
