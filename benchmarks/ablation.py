"""What each part of ST&ST is worth: one part changed at a time, measured on validation folds.

Every run is an ordinary run folder of ``hhmnet train``. ``README.md`` beside this file says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ablation_runs import (
    PARTS,
    ROWS,
    AblationError,
    Run,
    carry_out,
    check_same,
    count_parameters,
    plan,
    read_hits,
    row_config,
)
from ablation_table import DEFAULT, Hits, headings_and_lines, markdown, summary

from hhmnet.commands.configuration import ConfigError, read_config
from hhmnet.commands.evaluate import EvaluationError
from hhmnet.commands.terminal import Parser, UsageError, console, duration, table
from hhmnet.config import TrainConfig
from hhmnet.data.protocols import ProtocolError, get_protocol
from hhmnet.evaluation.scores import ScoresError
from hhmnet.files import replacing
from hhmnet.models.pretrained import PretrainedError
from hhmnet.store import Store, StoreError
from hhmnet.training.logs import ENVIRONMENT_FILE

TAKEN = {*(f"model.{name}" for name in PARTS), "fold", "run.seed"}
MACHINE = ("hhmnet", "commit", "torch", "python", "device", "threads", "cores")
WIDTH = 120  # columns of the printed table where no terminal sets them
MISTAKES = (
    AblationError,
    ConfigError,
    EvaluationError,
    OSError,
    PretrainedError,
    ProtocolError,
    ScoresError,
    StoreError,
    UsageError,
)


def report(runs: Sequence[Run], store: Store, parameters: dict[str, int]) -> dict[str, Any]:
    """The document of ``ablation.json``, from the runs that are finished."""
    finished = [run for run in runs if run.scores.exists()]
    hits: dict[str, Hits] = {
        row: {(run.fold, run.seed): read_hits(run, store) for run in finished if run.row == row}
        for row in parameters
    }
    rows = summary(hits)
    facts = [json.loads((run.folder / ENVIRONMENT_FILE).read_text(encoding="utf-8")) for run in finished]
    for run, fact in zip(finished, facts, strict=True):
        seconds = rows[run.row].setdefault("training_seconds", {})
        seconds[f"fold{run.fold}-seed{run.seed}"] = fact["training_seconds"]
    for row, number in parameters.items():
        rows[row] |= {"settings": PARTS | ROWS[row], "parameters": number}
    machines = {json.dumps({key: fact[key] for key in MACHINE}) for fact in facts}
    recipe = asdict(runs[0].config)
    del recipe["fold"], recipe["run"]["seed"]
    return {
        "store": {"name": store.path.resolve().name, "clips": len(store)},
        "runs": {"finished": len(finished), "planned": len(runs)},
        "environments": [json.loads(machine) for machine in sorted(machines)],
        "recipe": recipe,
        "rows": rows,
    }


def write_report(document: dict[str, Any], out: Path) -> None:
    """Print the table, and write ``ablation.json`` and ``ablation.md``."""
    headings, lines = headings_and_lines(document["rows"])
    done = document["runs"]
    title = f"top-1 % on validation folds, {done['finished']} of {done['planned']} runs"
    view = table(title, headings[0], *(f">{heading}" for heading in headings[1:]))
    for line in lines:
        view.add_row(*line)
    screen = console(stderr=False)
    if not screen.is_terminal:
        screen.width = max(screen.width, WIDTH)
    screen.print(view)
    texts = {"ablation.json": json.dumps(document, indent=1) + "\n", "ablation.md": markdown(headings, lines)}
    for name, text in texts.items():
        with replacing(out / name) as file:
            file.write(text.encode())


def whole(text: str) -> int:
    """A whole number from 0; raises argparse's error otherwise."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def parse(words: list[str]) -> tuple[argparse.Namespace, TrainConfig]:
    """The command line: this command's own options, and the recipe with the flags that change it."""
    parser = Parser(
        "ablation.py",
        "Change one part of ST&ST at a time and measure it on validation folds. Any field of the recipe can "
        "be given as a flag, such as --optim.lr 1e-3. The same call again goes on where it was stopped.",
    )
    add = parser.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="recipe")
    add("--data", type=Path, required=True, metavar="STORE", help="store that `hhmnet prepare` made")
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder of the runs and the table")
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="rows beside the default (all)")
    add("--seeds", nargs="+", type=whole, default=[0], metavar="S", help="seeds (0)")
    add("--folds", nargs="+", type=whole, default=[0, 1], metavar="K", help="validation folds (0 1)")
    add("--epochs", type=whole, metavar="N", help="epochs of every run (the recipe's)")
    add(
        "--jobs",
        type=whole,
        default=1,
        metavar="N",
        help="runs at a time; of several, each has one thread (1)",
    )
    add("--time-limit", type=duration, metavar="TIME", help="checkpoint and stop after 90s, 9m, 1.5h in all")
    add("--table", action="store_true", help="train nothing; table of the runs that are finished")
    options, flags = parser.parse_known_args(words)
    own = [name.removeprefix("--") for name in parser._option_string_actions]
    for flag in flags:
        if flag.startswith("--") and flag.removeprefix("--").partition("=")[0] in TAKEN:
            parser.error(
                f"{flag.partition('=')[0]} is set by the ablation itself; see --rows, --seeds and --folds"
            )
    if options.jobs < 1:
        parser.error("--jobs 0: give a number above 0")
    options.rows = [row for row in ROWS if row == DEFAULT or row in options.rows]
    options.seeds, options.folds = sorted(set(options.seeds)), sorted(set(options.folds))
    epochs = [] if options.epochs is None else [f"--optim.epochs={options.epochs}"]
    return options, read_config(options.config, [*flags, *epochs], own)


def main(words: list[str] | None = None) -> int:
    """Run the ablation; returns the exit code."""
    try:
        options, base = parse(sys.argv[1:] if words is None else words)
        store = Store(options.data)
        protocol = get_protocol(base.protocol or store.protocol)
        for fold in options.folds:
            if not (store.labels[protocol.indices(store, "val", fold)] >= 0).any():
                raise AblationError(f"{store.path}: fold {fold} of {protocol.name} has no labelled clips")
        parameters = {row: count_parameters(row_config(base, row), store) for row in options.rows}
        runs = plan(options, base)
        for run in runs:
            check_same(run)
        if not options.table:
            if options.jobs > 1:
                torch.set_num_threads(1)
            carry_out(runs, store, options.jobs, options.time_limit, console())
        finished = sum(run.scores.exists() for run in runs)
        if finished < len(runs):
            print(
                f"{finished} of {len(runs)} runs are finished; the same call again goes on", file=sys.stderr
            )
        if finished:
            write_report(report(runs, store, parameters), options.out)
    except KeyboardInterrupt:
        print("interrupted; the same call again goes on", file=sys.stderr)
        return 130
    except MISTAKES as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the runs get to checkpoint
    sys.exit(main())
