"""What a recipe costs: its trainer's own steps on the clock, on made clips, in turns with ST-GCN's.

In phase 2 the crops are made up too, and the network of skeletons has fresh weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from hhmnet.benchmarks.st_gcn import STGCN
from hhmnet.config import TrainConfig
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.dataset import make_loader
from hhmnet.data.protocols import get_protocol
from hhmnet.data.roi import ClipCrops, empty_crops
from hhmnet.data.transform import prepare
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.sample import Sample
from hhmnet.skeleton import LAYOUTS
from hhmnet.store import Store, write_store
from hhmnet.training.engine import Trainer
from hhmnet.training.phases import VideoPhase

CPU = torch.device("cpu")
PHASES = ("training", "inference")
WARM_UP = {"cuda": 7, "cpu": 2}
"""Calls before the clock starts, on a GPU enough for a CUDA graph to be recorded."""
BATCHES = 16
"""That a made store holds: an epoch long enough for a loader's start not to be felt."""


class ShapeError(ValueError):
    """A recipe of which nobody knows how large its data is."""


class Shape(NamedTuple):
    """What a data set's clips are like: skeleton, number of actions, a usual clip's frames, number to train on."""

    layout: str
    classes: int
    frames: int
    train: int


SHAPES = {
    "nw_ucla_cross_view": Shape("kinect20", 10, 40, 1020),
    "ntu60_xsub": Shape("ntu25", 60, 90, 40_091),
    "ntu60_xview": Shape("ntu25", 60, 90, 37_646),
    "ntu120_xsub": Shape("ntu25", 120, 90, 63_026),
    "ntu120_xset": Shape("ntu25", 120, 90, 54_468),
    "utd_mhad": Shape("kinect20", 27, 68, 431),
    "msr_action3d": Shape("kinect20", 20, 39, 291),
    "kinder_gator": Shape("kinect20", 47, 155, 1_159),
    "tennis": Shape("kinect20", 7, 56, 195),
}
"""By protocol. Counts are those of the published splits; the tennis clips have none, these are folds 0 and 1."""


def shapes_of(config: TrainConfig) -> dict[str, Shape]:
    """The shapes of a recipe's data, one for each of its protocols; raises ShapeError where one isn't known."""
    names = config.protocol.split("+")
    if lacking := [name for name in names if name not in SHAPES]:
        raise ShapeError(
            f"how large the data of protocol '{lacking[0]}' is isn't known; give --data STORE, or one of the "
            f"protocols {', '.join(SHAPES)}"
        )
    return {name: SHAPES[name] for name in names}


def made_stores(config: TrainConfig, folder: Path, batches: int = BATCHES) -> list[Store]:
    """So many batches of noise in the shape of each data set of a recipe, everybody present: the worst case.

    Raises ShapeError; see :func:`shapes_of`.
    """
    random, stores = np.random.default_rng(0), []
    for name, shape in shapes_of(config).items():
        protocol, layout = get_protocol(name), LAYOUTS[shape.layout]
        fields: dict[str, Any] = {protocol.axis: sorted(protocol.train)[0] if protocol.train else "1"}
        size = (config.data.persons, shape.frames, layout.num_joints, layout.dims)
        clips = (
            Sample(
                sample_id=f"made {number}",
                label=number % shape.classes,
                joints=random.standard_normal(size, np.float32),
                present=np.ones(size[:2], bool),
                frame_index=np.arange(shape.frames, dtype=np.int32),
                **fields,
            )
            for number in range(batches * config.optim.batch_size)
        )
        write_store(
            folder / name,
            clips,
            layout=layout,
            class_names=[f"class {number}" for number in range(shape.classes)],
            protocol=name,
            provenance={"made": True},
        )
        stores.append(Store(folder / name))
    return stores


class MadeCrops(CropCache):
    """Crops that are grey all over, without a video and without a file."""

    def get(self, store: Store, i: int, video_folder: Path | None) -> ClipCrops:
        """Those of one clip; making them costs about what reading them from memory costs."""
        crops = empty_crops(self.config, int(store.lengths[i]))
        crops.parts[:], crops.scene[:] = 128, 128
        crops.part_mask[:], crops.scene_mask[:] = True, True
        return crops


def make_trainer(config: TrainConfig, stores: Sequence[Store], folder: Path) -> Trainer:
    """A trainer of the recipe on real or made clips, whose videos aren't needed.

    In phase 2 the recipe's ``model``, ``data`` and ``fusion`` say what the network of skeletons is like, which gets
    fresh weights in ``folder``, whatever ``phase1`` says.
    """
    if config.looks_at_video:
        store = stores[0]
        split = config.protocol or store.protocol
        spec = ModelSpec(
            config.model, config.data, store.layout, store.class_names, split, None, config.fusion
        )
        ActionModel(spec.build(), spec).save_pretrained(folder / "phase1")
        config = replace(config, phase1=str(folder / "phase1"))
    trainer = Trainer(config, stores, folder, videos=folder)
    if isinstance(trainer.phase, VideoPhase):
        trainer.phase.cache = MadeCrops(config=config.roi)
        trainer.dataset = trainer.phase.dataset(trainer.rows)
    return trainer


def train_steps(trainer: Trainer) -> Iterator[None]:
    """Take a trainer's steps one by one, without an end; its clips come from its own loader."""
    loader = make_loader(trainer.dataset, trainer.sampler, trainer.config.run.workers)
    while True:
        for batch in loader:
            trainer.network.train()
            trainer.train_step(batch.to(trainer.device))
            trainer.step += 1
            yield


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
    contenders: Mapping[str, Callable[[], float]], rounds: int, log: Console
) -> dict[str, list[float]]:
    """Every contender's figure in every round, shown as they come; a machine whose speed drifts drifts for all."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, turn in contenders.items():
            found[name].append(turn())
        now = ", ".join(f"{name} {values[-1]:.3g}" for name, values in found.items())
        log.print(f"round {number}/{rounds}: {now} samples/s")
    return found


def spread(values: list[float]) -> dict[str, Any]:
    """Median, extremes and the values themselves."""
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": values}


def ratios(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Spread of the ratio, taken within each round."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def measure(config: TrainConfig, seconds: float, rounds: int, log: Console) -> dict[str, Any]:
    """Measure a recipe on made clips of its protocol's shape, beside ST-GCN on the joints of the same clips.

    ST-GCN's clips are prepared once; it is always in float32, and never compiled. The recipe's fold is left aside.

    Returns:
        ``about`` (what two reports must have in common for their ratios to be compared), ``parameters`` and
        ``reference_parameters``; for ``training`` and ``inference`` ``samples_per_second``,
        ``reference_samples_per_second`` and ``ratio``, a :func:`spread` each.

    Raises ShapeError where nobody knows the protocol's clips, TrainingError or PhaseError where it can't be trained.
    """
    # Without an end, and with steps so small that noise can't blow a model up.
    optim = replace(config.optim, epochs=10**9, lr=1e-7, min_lr=0.0)
    config = replace(config, fold=None, optim=optim)
    with tempfile.TemporaryDirectory() as name:
        trainer = make_trainer(config, made_stores(config, Path(name)), Path(name))
        store, device, size = trainer.store, trainer.device, config.optim.batch_size
        batch = trainer.dataset.__getitems__([i % len(trainer.rows) for i in range(size)]).to(device)
        x = prepare(batch.clips, store.layout, replace(config.data, stream="joint"))[0].contiguous()
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
        found = take_turns(
            {name: turns_of(step, seconds, device, size) for name, step in steps.items()}, rounds, log
        )
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
