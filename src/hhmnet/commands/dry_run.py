"""``hhmnet train --dry-run``: what a recipe costs on this machine, on made clips of the data set's full shape.

In phase 2 the crops are made up too, whether or not there is a store; see :mod:`hhmnet.benchmarks.made_data`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from hhmnet.benchmarks.made_data import make_trainer, shape_of, write_made_store
from hhmnet.benchmarks.measure import WARM_UP, peak_mib, timed, train_steps
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


def dry_run(config: TrainConfig, stores: Sequence[Path] | None, log: Console) -> None:
    """Time a few steps of a recipe and say what all of it would take.

    Args:
        config: the recipe; its fold is left aside. In phase 2 ``phase1`` is a trained model's folder, or the recipe
            that one would be trained by.
        stores: real clips; made ones of the data set's shape without them.
        log: where the table goes.

    Raises:
        ShapeError: there is no store, and the recipe's protocol isn't one whose data set is known.
        DryRunError, ConfigError, PretrainedError: see :func:`of_phase_1`.
    """
    config = of_phase_1(replace(config, fold=None))
    shape = None if stores else shape_of(config.protocol)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        clips = [Store(store) for store in stores or ()] or [
            write_made_store(made / "store", config, batches=2)
        ]
        long = replace(config.optim, epochs=max(config.optim.epochs, ENOUGH))
        trainer = make_trainer(replace(config, optim=long), clips, made)
        step = partial(next, train_steps(trainer))
        timed(step, WARM_UP[trainer.device.type], trainer.device)
        seconds = timed(step, TIMED, trainer.device) / TIMED
    count = shape.train if shape else len(trainer.rows)
    steps = config.optim.epochs * max(count // config.optim.batch_size, 1)
    rate, hours = config.optim.batch_size / seconds, steps * seconds / 3600
    peak = peak_mib(trainer.device)
    memory = f"{peak['gpu']:,.0f} MiB on the GPU" if "gpu" in peak else f"{peak['resident']:,.0f} MiB"
    view = table("dry run" + (" on made clips" if shape else ""), "", ">")
    view.add_row("weights", f"{sum(parameter.numel() for parameter in trainer.network.parameters()):,}")
    view.add_row("training clips", f"{count:,}")
    view.add_row("a step", f"{1000 * seconds:.0f} ms")
    view.add_row("clips/s", f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}")
    view.add_row("peak memory", memory)
    view.add_row(f"the whole recipe, {steps:,} steps", f"{hours:.1f} h")
    view.add_row("on eight such machines or GPUs, at best", f"{hours / 8:.1f} h")
    log.print(view)


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
    first = read_config(place) if place.is_file() or is_recipe(place) else from_pretrained(place).spec
    return replace(config, model=first.model, data=first.data, fusion=first.fusion)
