"""``hhmnet bench`` and ``hhmnet train --dry-run``: how fast a recipe is here, and what all of it would cost."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hhmnet.benchmarks.measure import (
    PHASES,
    WARM_UP,
    made_stores,
    make_trainer,
    measure,
    shapes_of,
    timed,
    train_steps,
)
from hhmnet.commands.configuration import is_recipe, read_config
from hhmnet.commands.terminal import Parser, UsageError, console, duration, print_json, table, whole
from hhmnet.config import TrainConfig
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store
from hhmnet.training.logs import environment

RECIPE = Path("nw_ucla/skeleton")
TIMED = 5
"""Steps of a dry run that the clock counts."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options, flags = parser.parse_known_args(words)
    config, log = of_phase_1(read_config(options.config, flags, parser.names)), console()
    try:
        report = measure(config, options.seconds, options.rounds, log)
    except torch.OutOfMemoryError:
        raise UsageError(
            f"the GPU's memory can't hold {config.optim.batch_size} clips at once; lower --optim.batch_size"
        ) from None
    report["machine"] = environment(torch.device(report["about"]["device"]))
    report["settings"] = {"seconds": options.seconds, "rounds": options.rounds}
    if options.json:
        print_json(report)
    else:
        _show(report)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "hhmnet bench",
        "Measure how fast a recipe trains and answers on this machine, on made clips and beside a plain ST-GCN. Any "
        "field of the configuration can be given as a flag, such as --run.precision bfloat16; `hhmnet train --help` "
        "lists them.",
        usage="hhmnet bench [--config FILE] [options] [--key value ...]",
    )
    add = parser.add_argument
    add("--config", type=Path, default=RECIPE, metavar="FILE", help=f"recipe (default: {RECIPE})")
    add("--seconds", type=duration, default=2.0, metavar="S", help="length of a turn (2)")
    turns = "turns of each; the table shows their median (5)"
    add("--rounds", type=whole, default=5, metavar="R", help=turns)
    parser.add_shared("json")
    return parser


def _show(report: dict[str, Any]) -> None:
    """The report for people."""
    about = ", ".join(f"{name} {value}" for name, value in report["about"].items())
    view = table(f"{about}, {report['parameters']:,} weights", "", *(f">{phase}" for phase in PHASES))
    keys = "samples_per_second", "reference_samples_per_second", "ratio"
    for name, key in zip(("samples/s", "ST-GCN, samples/s", "ratio"), keys, strict=True):
        cells = ["{median:.3g} ({min:.3g}..{max:.3g})".format(**report[phase][key]) for phase in PHASES]
        view.add_row(name, *cells)
    out = console(stderr=False)
    out.print(view)
    machine = "{device}, {threads} threads, torch {torch}".format(**report["machine"])
    turns = "{rounds} turns of about {seconds:g} s".format(**report["settings"])
    out.print(f"Medians (least..most) of {turns}; {machine}.")


def dry_run(config: TrainConfig, stores: Sequence[Path] | None, log: Console) -> None:
    """Time a few steps of a recipe, on made clips where there are no stores, and say what all of it would take.

    Raises ShapeError where there is no store and the protocol's clips aren't known, and as :func:`of_phase_1`.
    """
    config = of_phase_1(replace(config, fold=None))
    endless, size = replace(config.optim, epochs=10**9), config.optim.batch_size
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        clips = [Store(store) for store in stores or ()] or made_stores(config, made, batches=2)
        trainer = make_trainer(replace(config, optim=endless), clips, made)
        step, device = partial(next, train_steps(trainer)), trainer.device
        timed(step, WARM_UP[device.type], device)
        seconds = timed(step, TIMED, device) / TIMED
    count = len(trainer.rows) if stores else sum(shape.train for shape in shapes_of(config).values())
    steps, rate = config.optim.epochs * max(count // size, 1), size / seconds
    hours = steps * seconds / 3600
    if device.type == "cuda":
        peak = f"{torch.cuda.max_memory_allocated(device) / 2**20:,.0f} MiB on the GPU"
    else:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:,.0f} MiB"
    rows = {
        "weights": f"{sum(parameter.numel() for parameter in trainer.network.parameters()):,}",
        "training clips": f"{count:,}",
        "a step": f"{1000 * seconds:.0f} ms",
        "clips/s": f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}",
        "peak memory": peak,
        f"the whole recipe, {steps:,} steps": f"{hours:.1f} h",
        "on eight such machines or GPUs, at best": f"{hours / 8:.1f} h",
    }
    log.print(table("dry run" + ("" if stores else " on made clips"), "", ">", rows=rows.items()))


def of_phase_1(config: TrainConfig) -> TrainConfig:
    """A recipe to be timed; one of phase 2 with the skeleton network and the preprocessing that its ``phase1`` has.

    That is a trained model's folder, or the recipe that one would be trained by. Raises UsageError where it is missing,
    ConfigError or PretrainedError where it can't be read.
    """
    if not config.looks_at_video:
        return config
    if not config.phase1:
        raise UsageError(
            "to be timed, a recipe of phase 2 has to know the network of skeletons: give --phase1 RUN, or with "
            "--phase1 the recipe that it is trained by, such as --phase1 configs/ntu60/homogeneous.yaml"
        )
    place = Path(config.phase1)
    first = read_config(place) if place.is_file() or is_recipe(place) else from_pretrained(place).spec
    return replace(config, model=first.model, data=first.data, fusion=first.fusion)
