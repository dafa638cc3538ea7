"""``hhmnet train --dry-run``: what a recipe costs on this machine, on made clips of the data set's full shape.

In phase 2 the crops are made up too, whether or not there is a store: no video is opened, and what cutting crops out of
videos costs isn't part of the figures. The skeleton network has fresh weights; ``phase1`` names what it is like.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from hhmnet.commands.configuration import read_config
from hhmnet.commands.terminal import table
from hhmnet.config import TrainConfig
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.protocols import Protocol, get_protocol
from hhmnet.data.roi import ClipCrops, RoiConfig, empty_crops, slots
from hhmnet.models.pretrained import ActionModel, ModelSpec, from_pretrained
from hhmnet.sample import Sample
from hhmnet.skeleton import get_layout
from hhmnet.store import Store, write_store
from hhmnet.training.engine import Hooks, Interrupted, Trainer
from hhmnet.training.phases import VideoPhase

WARM_UP, TIMED = {"cuda": 7, "cpu": 2}, 5
"""Steps before the clock starts, on a GPU enough for a CUDA graph to be recorded, and steps that it counts."""


class DryRunError(ValueError):
    """A recipe of which nobody knows how large its data is."""


class Shape(NamedTuple):
    """What the clips of a data set are like.

    Attributes:
        layout: name of their skeleton.
        classes: number of actions.
        frames: of a usual clip.
        train: number of training clips.
    """

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
    "tennis": Shape("kinect20", 7, 56, 195),
}
"""By protocol. Counts are those of the published splits; tests hold NTU's to the published lists. The tennis clips have
no published split: these are folds 0 and 1 of the clips that could be had."""


class _EnoughError(Exception):
    """Enough steps are timed."""


def dry_run(config: TrainConfig, store: Path | None, log: Console) -> dict[str, Any]:
    """Time a few steps of a recipe and say what all of it would take.

    Args:
        config: the recipe; its fold is left aside. In phase 2 ``phase1`` is a trained model's folder, or the recipe
            (a YAML file) that one would be trained by.
        store: real clips; made ones of the data set's shape without it.
        log: where the table goes.

    Returns:
        ``parameters``, ``clips``, ``steps``, ``step_ms``, ``clips_per_second``, ``hours`` and ``peak_mib``.

    Raises:
        DryRunError: there is no store, and the recipe's protocol isn't one whose data set is known; or a recipe of
            phase 2 without ``phase1``.
        ConfigError, PretrainedError: ``phase1`` can't be read.
    """
    config = dataclasses.replace(config, fold=None)
    if config.looks_at_video:
        config = _of_phase_1(config)
    with tempfile.TemporaryDirectory() as folder:
        if store is None:
            shape = _shape(config.protocol)
            protocol = get_protocol(config.protocol)
            store = Path(folder) / "store"
            _make_store(store, protocol, shape, config)
        else:
            shape = None
        figures = _measure(config, Store(store), Path(folder), shape)
    rate = figures["clips_per_second"]
    view = table("dry run" + (" on made clips" if shape else ""), "", ">")
    for name, value in (
        ("weights", f"{figures['parameters']:,}"),
        ("training clips", f"{figures['clips']:,}"),
        ("a step", f"{figures['step_ms']:.0f} ms"),
        ("clips/s", f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"),
        ("peak memory", f"{figures['peak_mib']:,.0f} MiB" + (" on the GPU" if figures["gpu"] else "")),
        (f"the whole recipe, {figures['steps']:,} steps", f"{figures['hours']:.1f} h"),
        ("on eight such machines or GPUs, at best", f"{figures['hours'] / 8:.1f} h"),
    ):
        view.add_row(name, value)
    log.print(view)
    return figures


def _of_phase_1(config: TrainConfig) -> TrainConfig:
    """The recipe, with the skeleton network and the preprocessing that its ``phase1`` has."""
    if not config.phase1:
        raise DryRunError(
            "a dry run of phase 2 has to know the network of skeletons: give --phase1 RUN, or with --phase1 the recipe "
            "that it is trained by, such as --phase1 configs/ntu60/homogeneous.yaml"
        )
    place = Path(config.phase1)
    first = read_config(place) if place.is_file() else from_pretrained(place).spec
    return dataclasses.replace(config, model=first.model, data=first.data, fusion=first.fusion)


def _write_phase_1(config: TrainConfig, store: Store, folder: Path) -> TrainConfig:
    """Put a network of skeletons with fresh weights into a folder; the recipe that begins from there."""
    split = get_protocol(config.protocol or store.protocol)
    spec = ModelSpec(
        config.model, config.data, store.layout, store.class_names, split.name, None, config.fusion
    )
    ActionModel(spec.build(), spec).save_pretrained(folder)
    return dataclasses.replace(config, phase1=str(folder))


class MadeCrops(CropCache):
    """Crops that show noise, without a video and without a file; reading them costs about what it costs from memory."""

    def __init__(self, config: RoiConfig) -> None:
        super().__init__(config=config)
        random = np.random.default_rng(0)
        crops = empty_crops(config)
        self._noise = crops._replace(
            parts=random.integers(0, 256, crops.parts.shape, np.uint8),
            part_mask=np.ones_like(crops.part_mask),
            scene=random.integers(0, 256, crops.scene.shape, np.uint8),
            scene_mask=np.ones_like(crops.scene_mask),
        )

    def fill(self, store: Store, i: int, video_folder: Path | None, places: ClipCrops) -> None:
        """The same noise for every clip, at the instants of its length."""
        frames = int(store.lengths[i])
        times = slots(frames, self.config.instants), slots(frames, self.config.scene_instants)
        for place, array in zip(
            places, self._noise._replace(times=times[0], scene_times=times[1]), strict=True
        ):
            place[...] = array


def _shape(protocol: str) -> Shape:
    if protocol not in SHAPES:
        raise DryRunError(
            f"how large the data of protocol '{protocol}' is isn't known; give --data STORE, "
            f"or one of the protocols {', '.join(SHAPES)}"
        )
    return SHAPES[protocol]


def _make_store(folder: Path, protocol: Protocol, shape: Shape, config: TrainConfig) -> None:
    """Noise in the shape of training clips, two batches of it, everybody present: the worst case."""
    layout = get_layout(shape.layout)
    value = sorted(protocol.train)[0] if protocol.train else "1"
    random = np.random.default_rng(0)
    size = (config.data.persons, shape.frames, layout.num_joints, layout.dims)

    def clips() -> Any:
        for number in range(2 * config.optim.batch_size):
            fields: dict[str, Any] = {protocol.axis: value}
            yield Sample(
                sample_id=f"made {number}",
                label=number % shape.classes,
                joints=random.normal(size=size).astype(np.float32),
                present=np.ones(size[:2], bool),
                frame_index=np.arange(shape.frames, dtype=np.int32),
                **fields,
            )

    names = [f"class {number}" for number in range(shape.classes)]
    write_store(
        folder, clips(), layout=layout, class_names=names, protocol=protocol.name, provenance={"made": True}
    )


def _measure(config: TrainConfig, store: Store, folder: Path, shape: Shape | None) -> dict[str, Any]:
    times: list[float] = []

    def on_step(step: int, total: int) -> None:
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        if len(times) > warm_up + TIMED:
            raise _EnoughError

    if config.looks_at_video:
        config = _write_phase_1(config, store, folder / "phase1")
    # So long that the steps to be timed are there, whatever the size of an epoch.
    enough = dataclasses.replace(config.optim, epochs=max(config.optim.epochs, WARM_UP["cuda"] + TIMED + 1))
    trainer = Trainer(
        dataclasses.replace(config, optim=enough), store, folder, Hooks(on_step=on_step), videos=folder
    )
    if isinstance(trainer.phase, VideoPhase):
        trainer.phase.cache = MadeCrops(config.roi)
        trainer.dataset = trainer.phase.dataset(trainer.rows)
    warm_up = WARM_UP[trainer.device.type]
    try:
        trainer.train()
    except _EnoughError:
        pass
    except Interrupted:  # Ctrl-C or SIGTERM; there is nothing to go on with
        raise KeyboardInterrupt from None
    seconds = float(np.median(np.diff(times)[warm_up:]))
    clips = shape.train if shape else len(trainer.rows)
    steps = config.optim.epochs * max(clips // config.optim.batch_size, 1)
    gpu = trainer.device.type == "cuda"
    return {
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "clips": clips,
        "steps": steps,
        "step_ms": 1000 * seconds,
        "clips_per_second": config.optim.batch_size / seconds,
        "hours": steps * seconds / 3600,
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if gpu else _resident_mib(),
        "gpu": gpu,
    }


def _resident_mib() -> float:
    """Most memory that this process has ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
