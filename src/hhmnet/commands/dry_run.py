"""``hhmnet train --dry-run``: what a recipe costs on this machine, on made clips of the data set's full shape.

In phase 2 the crops are made up too, whether or not there is a store; see :mod:`hhmnet.benchmarks.made_data`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from hhmnet.benchmarks.made_data import Shape, make_trainer, shape_of, write_made_store
from hhmnet.benchmarks.measure import Stepper, peak_mib
from hhmnet.commands.configuration import is_recipe, read_config
from hhmnet.commands.terminal import table
from hhmnet.config import TrainConfig
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store

TIMED = 5
"""Steps that the clock counts."""

ENOUGH = 1000
"""Epochs in which there are as many steps as are timed, whatever the size of one."""


class DryRunError(ValueError):
    """A recipe of phase 2 that doesn't say what its phase 1 is like."""


def dry_run(config: TrainConfig, store: Path | None, log: Console) -> dict[str, Any]:
    """Time a few steps of a recipe and say what all of it would take.

    Args:
        config: the recipe; its fold is left aside. In phase 2 ``phase1`` is a trained model's folder, or the recipe
            (a YAML file) that one would be trained by.
        store: real clips; made ones of the data set's shape without it.
        log: where the table goes.

    Returns:
        ``parameters``, ``clips``, ``steps``, ``step_ms``, ``clips_per_second``, ``hours``, ``peak_mib`` and whether
        that is the ``gpu``'s.

    Raises:
        ShapeError: there is no store, and the recipe's protocol isn't one whose data set is known.
        DryRunError, ConfigError, PretrainedError: see :func:`of_phase_1`.
    """
    config = of_phase_1(dataclasses.replace(config, fold=None))
    shape = shape_of(config.protocol) if store is None else None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        opened = Store(store) if store else write_made_store(made / "store", config, batches=2)
        figures = _measure(config, opened, made, shape)
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


def of_phase_1(config: TrainConfig) -> TrainConfig:
    """A recipe to be timed; one of phase 2 with the skeleton network and the preprocessing that its ``phase1`` has.

    Raises:
        DryRunError: a recipe of phase 2 without ``phase1``.
        ConfigError, PretrainedError: ``phase1`` can't be read.
    """
    if not config.looks_at_video:
        return config
    if not config.phase1:
        raise DryRunError(
            "to be timed, a recipe of phase 2 has to know the network of skeletons: give --phase1 RUN, or with "
            "--phase1 the recipe that it is trained by, such as --phase1 configs/ntu60/homogeneous.yaml"
        )
    place = Path(config.phase1)
    recipe = place.is_file() or is_recipe(place)
    first = read_config(place) if recipe else from_pretrained(place).spec
    return dataclasses.replace(config, model=first.model, data=first.data, fusion=first.fusion)


def _measure(config: TrainConfig, store: Store, folder: Path, shape: Shape | None) -> dict[str, Any]:
    long = dataclasses.replace(config.optim, epochs=max(config.optim.epochs, ENOUGH))
    trainer = make_trainer(dataclasses.replace(config, optim=long), store, folder)
    seconds = Stepper(trainer).run(TIMED)
    clips = shape.train if shape else len(trainer.rows)
    steps = config.optim.epochs * max(clips // config.optim.batch_size, 1)
    peak = peak_mib(trainer.device)
    return {
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "clips": clips,
        "steps": steps,
        "step_ms": 1000 * seconds,
        "clips_per_second": config.optim.batch_size / seconds,
        "hours": steps * seconds / 3600,
        "peak_mib": peak.get("gpu", peak["resident"]),
        "gpu": "gpu" in peak,
    }
