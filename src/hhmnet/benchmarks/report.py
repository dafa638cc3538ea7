"""One recipe measured: speed beside ST-GCN, parts and kinds of a training step, memory, share of the machine's peak."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from hhmnet.benchmarks.made_data import make_trainer, write_made_store
from hhmnet.benchmarks.measuring import (
    Contender,
    gpu_mib,
    has_bfloat16,
    matmul_turns,
    now_resident_mib,
    ratios,
    resident_mib,
    spread,
    take_turns,
    turns_of,
)
from hhmnet.benchmarks.operators import Recorder
from hhmnet.benchmarks.st_gcn import STGCN
from hhmnet.benchmarks.steps import Stepper, count_flops
from hhmnet.config import TrainConfig
from hhmnet.data.dataset import RawBatch
from hhmnet.data.transform import prepare
from hhmnet.store import Store
from hhmnet.training.engine import Trainer

PHASES = ("training", "inference")

BATCHES = 16
"""That a made store holds: an epoch long enough for a loader's start not to be felt."""

MEMORY_BOUND = ("normalise", "activate", "copy", "arithmetic", "optimise")
"""Kinds of operators that wait for memory, not for arithmetic units."""

Told = Callable[[int, dict[str, float]], None]


def measure(
    config: TrainConfig,
    store: Path | None,
    *,
    seconds: float,
    rounds: int,
    told: Told = lambda number, figures: None,
) -> dict[str, Any]:
    """Measure a recipe.

    Args:
        config: the recipe; its fold is left aside. See :func:`~hhmnet.benchmarks.made_data.make_trainer` for phase 2.
        store: real clips; made ones of the protocol's shape without it.
        seconds: of a turn.
        rounds: turns of everyone.
        told: see :func:`~hhmnet.benchmarks.measuring.take_turns`.

    Returns:
        ``about`` (what was measured), ``parameters`` and ``reference_parameters``, ``matmul_gflops`` by precision and,
        for ``training`` and ``inference``, ``samples_per_second``, ``reference_samples_per_second``, ``ratio``,
        ``gflop_per_sample``, ``share_of_matmul``, ``kinds``, ``limit`` and ``peak_memory_mib``; for training
        ``parts_ms`` too. What was measured by rounds is a :func:`~hhmnet.benchmarks.measuring.spread`.

    Raises:
        ShapeError: there is no store, and nobody knows the protocol's clips.
        TrainingError, PhaseError: the recipe can't be trained here.
    """
    config = _endless(config)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        opened = Store(store) if store else write_made_store(folder / "store", config, BATCHES)
        memory = peak_memory(config, opened.path)
        trainer = make_trainer(config, opened, folder)
        return _measure(trainer, memory, seconds, rounds, told)


def _endless(config: TrainConfig) -> TrainConfig:
    """The recipe without an end, and with steps so small that noise can't blow a model up."""
    optim = dataclasses.replace(config.optim, epochs=10**9, lr=1e-7, min_lr=0.0)
    run = dataclasses.replace(config.run, checkpoint_every=10**9)
    return dataclasses.replace(config, fold=None, optim=optim, run=run)


def _measure(
    trainer: Trainer, memory: dict[str, Any], seconds: float, rounds: int, told: Told
) -> dict[str, Any]:
    config, device = trainer.config, trainer.device
    batch, size = first_batch(trainer), trainer.config.optim.batch_size
    stepper, infer, reference = Stepper(trainer), inference(trainer, batch), make_reference(trainer, batch)
    stepper.run()
    precisions = {"float32": torch.float32}
    if has_bfloat16(device):
        precisions["bfloat16"] = torch.bfloat16
    contenders = {
        "training": lambda: stepper.clips_per_second(seconds),
        "inference": turns_of(infer, seconds, device, size),
        "ST-GCN training": turns_of(reference.train, seconds, device, size),
        "ST-GCN inference": turns_of(reference.infer, seconds, device, size),
    } | {name: matmul_turns(device, dtype, min(seconds, 1.0)) for name, dtype in precisions.items()}
    found = take_turns(contenders, rounds, told)
    peaks = found.get(config.run.precision, found["float32"])
    flops = {"training": stepper.flops() / size, "inference": count_flops(infer) / size}
    parts = stepper.parts(seconds)
    kinds = {"training": stepper.kinds(2), "inference": inference_kinds(infer, device)}
    report: dict[str, Any] = {
        "about": about(trainer),
        "parameters": sum(weight.numel() for weight in trainer.network.parameters()),
        "reference_parameters": reference.parameters,
        "matmul_gflops": {name: spread([value / 1e9 for value in found[name]]) for name in precisions},
    }
    for phase in PHASES:
        ours, theirs = found[phase], found[f"ST-GCN {phase}"]
        # Inference is in float32 whatever training is in, as in `hhmnet evaluate`.
        against = peaks if phase == "training" else found["float32"]
        report[phase] = {
            "samples_per_second": spread(ours),
            "reference_samples_per_second": spread(theirs),
            "ratio": ratios(ours, theirs),
            "gflop_per_sample": flops[phase] / 1e9,
            "share_of_matmul": ratios([flops[phase] * value for value in ours], against),
            "kinds": kinds[phase],
            "limit": limit(kinds[phase], parts if phase == "training" else {}),
            "peak_memory_mib": memory[phase],
        }
    report["training"]["parts_ms"] = parts
    return report


def about(trainer: Trainer) -> dict[str, Any]:
    """What two reports must have in common for their ratios to be compared."""
    config, store = trainer.config, trainer.store
    return {
        "protocol": trainer.protocol.name,
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


def limit(kinds: Mapping[str, float], parts: Mapping[str, float]) -> str:
    """What most of the time goes to: ``multiply``, ``memory``, ``data`` or ``python``.

    Args:
        kinds: shares by kind of operator.
        parts: milliseconds by part of a training step; none for inference, which is measured without loading.
    """
    weights = {
        "multiply": kinds["multiply"],
        "memory": sum(kinds[kind] for kind in MEMORY_BOUND),
        "python": kinds["python"],
    }
    if parts:
        weights["data"] = parts["data"] / sum(parts.values())
        weights["python"] -= weights["data"]  # nothing runs while a step waits for its clips
    return max(weights, key=lambda name: weights[name])


def first_batch(trainer: Trainer) -> RawBatch:
    """A batch of the trainer's clips, on its device."""
    rows = [number % len(trainer.rows) for number in range(trainer.config.optim.batch_size)]
    return trainer.dataset.__getitems__(rows).to(trainer.device)


def inference(trainer: Trainer, batch: RawBatch) -> Callable[[], object]:
    """What answers one batch of clips, preprocessing included, by the model as it stands."""
    model = trainer.result

    @torch.inference_mode()
    def answer() -> object:
        model.eval()
        return model.answer(batch.clips, batch.video)

    return answer


def make_reference(trainer: Trainer, batch: RawBatch) -> Contender:
    """ST-GCN on the joints of the same clips, prepared once: always in float32, and never compiled."""
    store, data = trainer.store, dataclasses.replace(trainer.config.data, stream="joint")
    x, _ = prepare(batch.clips, store.layout, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = STGCN(store.layout, len(store.class_names)).to(trainer.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7, momentum=0.9, nesterov=True, weight_decay=1e-4)
    labels = torch.from_numpy(trainer.labels).to(trainer.device)[batch.index]
    return Contender(model, optimizer, (x.contiguous(),), labels)


def inference_kinds(infer: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Share of the time of two answers by :data:`~hhmnet.benchmarks.operators.KINDS`."""
    recorder = Recorder(device)
    recorder.start()
    infer()
    infer()
    recorder.stop()
    return recorder.shares()


def peak_memory(config: TrainConfig, store: Path) -> dict[str, dict[str, float]]:
    """Peak memory in MiB of inference and of training, each of a few batches, in a process of its own.

    Returns:
        By phase ``resident``, the whole process, ``added``, what came on top of Python and its libraries, and on a GPU
        ``gpu``, what tensors held there.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_memory, config, store, torch.get_num_threads()).result()


def _peak_memory(config: TrainConfig, store: Path, threads: int) -> dict[str, dict[str, float]]:
    torch.set_num_threads(threads)
    before = now_resident_mib()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, Store(store), Path(folder))
        infer, stepper = inference(trainer, first_batch(trainer)), Stepper(trainer)
        # Inference first: it needs less, and a process's peak never falls.
        for phase, work in (("inference", infer), ("training", stepper.run)):
            work()
            peak = resident_mib()
            found[phase] = {"resident": peak, "added": peak - before}
            if (gpu := gpu_mib(trainer.device)) is not None:
                found[phase]["gpu"] = gpu
    return found
