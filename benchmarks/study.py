"""A study: settings of a recipe that are trained over folds and seeds, scored, and tabled beside a baseline.

``ablation.py`` and ``contrast.py`` are studies. Every run is an ordinary run folder of ``hhmnet train``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study_runs import (
    Row,
    Run,
    StudyError,
    answers,
    carry_out,
    check_same,
    count_parameters,
    plan,
    read_hits,
    true_labels,
)
from study_table import Fold, headings_and_lines, markdown, stream_headings_and_lines, summary

from hhmnet.commands.configuration import ConfigError, read_config
from hhmnet.commands.evaluate import EvaluationError
from hhmnet.commands.terminal import Parser, UsageError, console, duration, table
from hhmnet.config import TrainConfig
from hhmnet.data.protocols import ProtocolError
from hhmnet.evaluation.scores import ScoresError
from hhmnet.files import replacing
from hhmnet.models.pretrained import PretrainedError
from hhmnet.store import Store, StoreError
from hhmnet.training.logs import ENVIRONMENT_FILE

MACHINE = ("hhmnet", "commit", "torch", "python", "device", "threads", "cores")
WIDTH = 200  # columns of the printed table where no terminal sets them
NO_FOLD = "none"
MISTAKES = (
    ConfigError,
    EvaluationError,
    OSError,
    PretrainedError,
    ProtocolError,
    ScoresError,
    StoreError,
    StudyError,
    UsageError,
)


@dataclass(frozen=True)
class Study:
    """What sets one study apart from another.

    Attributes:
        name: of its script and of the two files it writes.
        description: for ``--help``.
        taken: fields of the recipe that it sets itself, beside fold and seed.
        add_options: adds its own options to the command line.
        rows: the rows that the options ask for, baselines before what is compared with them.
        tests: whether ``--folds none`` may train on all training clips and score the test clips.
    """

    name: str
    description: str
    taken: frozenset[str]
    add_options: Callable[[Parser], None]
    rows: Callable[[argparse.Namespace, TrainConfig], list[Row]]
    tests: bool = False


def report(rows: Sequence[Row], runs: Sequence[Run], store: Store) -> dict[str, Any]:
    """The document of the study, from the runs that are finished."""
    finished = [run for run in runs if run.finished]
    hits: dict[str, dict[str, dict[tuple[Fold, int], np.ndarray]]] = {
        row.name: {answer: {} for answer in answers(row.config)} for row in rows
    }
    for run in finished:
        for answer, hit in read_hits(run, store).items():
            hits[run.row][answer][run.fold, run.seed] = hit
    figures = summary(hits, {row.name: row.against for row in rows})
    facts = [json.loads((run.folder / ENVIRONMENT_FILE).read_text(encoding="utf-8")) for run in finished]
    for run, fact in zip(finished, facts, strict=True):
        seconds = figures[run.row].setdefault("training_seconds", {})
        seconds[run.folder.name] = fact["training_seconds"]
    for row in rows:
        figures[row.name] |= {
            "settings": row.settings,
            "parameters": count_parameters(row.config, store),
        }
    machines = {json.dumps({key: fact[key] for key in MACHINE}) for fact in facts}
    recipe = asdict(runs[0].config)
    del recipe["fold"], recipe["run"]["seed"]
    return {
        "store": {"name": store.path.resolve().name, "clips": len(store)},
        "split": runs[0].split,
        "runs": {"finished": len(finished), "planned": len(runs)},
        "environments": [json.loads(machine) for machine in sorted(machines)],
        "recipe": recipe,
        "rows": figures,
    }


def write_report(document: dict[str, Any], name: str, out: Path) -> None:
    """Print the tables, and write ``NAME.json`` and ``NAME.md``."""
    done = document["runs"]
    where = "the test clips" if document["split"] == "test" else "validation folds"
    title = f"top-1 % on {where}, {done['finished']} of {done['planned']} runs"
    tables = {title: headings_and_lines(document["rows"])}
    if any("streams" in figures for figures in document["rows"].values()):
        tables["every stream's own answer (difference, 95 % interval)"] = stream_headings_and_lines(
            document["rows"]
        )
    screen = console(stderr=False)
    if not screen.is_terminal:
        screen.width = max(screen.width, WIDTH)
    for title, (headings, lines) in tables.items():
        view = table(title, headings[0], *(f">{heading}" for heading in headings[1:]))
        for line in lines:
            view.add_row(*line)
        screen.print(view)
    text = "\n".join(markdown(headings, lines) for headings, lines in tables.values())
    texts = {f"{name}.json": json.dumps(document, indent=1) + "\n", f"{name}.md": text}
    for file_name, content in texts.items():
        with replacing(out / file_name) as file:
            file.write(content.encode())


def whole(text: str) -> int:
    """A whole number from 0; raises argparse's error otherwise."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def _fold(text: str) -> Fold:
    return None if text == NO_FOLD else whole(text)


def parse(study: Study, words: Sequence[str]) -> tuple[argparse.Namespace, TrainConfig]:
    """The command line: this command's own options, and the recipe with the flags that change it."""
    parser = Parser(
        f"{study.name}.py",
        f"{study.description} Any field of the recipe can be given as a flag, such as --optim.lr 1e-3. "
        "The same call again goes on where it was stopped.",
    )
    add = parser.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="recipe")
    add("--data", type=Path, required=True, metavar="STORE", help="store that `hhmnet prepare` made")
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder of the runs and the table")
    study.add_options(parser)
    add("--seeds", nargs="+", type=whole, default=[0], metavar="S", help="seeds (0)")
    test = f"; {NO_FOLD} trains on all training clips and scores the test clips" if study.tests else ""
    kind = _fold if study.tests else whole
    add("--folds", nargs="+", type=kind, default=[0, 1], metavar="K", help=f"validation folds (0 1){test}")
    add("--epochs", type=whole, metavar="N", help="epochs of every run (the recipe's)")
    jobs = "runs at a time; of several, each has one thread (1)"
    add("--jobs", type=whole, default=1, metavar="N", help=jobs)
    add("--time-limit", type=duration, metavar="TIME", help="checkpoint and stop after 90s, 9m, 1.5h in all")
    add("--table", action="store_true", help="train nothing; table of the runs that are finished")
    options, flags = parser.parse_known_args(words)
    own = [name.removeprefix("--") for name in parser._option_string_actions]
    for flag in flags:
        name = flag.removeprefix("--").partition("=")[0]
        if flag.startswith("--") and name in {*study.taken, "fold", "run.seed"}:
            parser.error(f"--{name} is set by the study itself, from its own options")
    if options.jobs < 1:
        parser.error("--jobs 0: give a number above 0")
    if None in options.folds and len(set(options.folds)) > 1:
        parser.error(f"--folds {NO_FOLD} scores the test clips; folds don't go with it")
    options.seeds, options.folds = sorted(set(options.seeds)), sorted(set(options.folds))
    epochs = [] if options.epochs is None else [f"--optim.epochs={options.epochs}"]
    return options, read_config(options.config, [*flags, *epochs], own)


def main(study: Study, words: Sequence[str]) -> int:
    """Run a study; returns the exit code."""
    try:
        options, base = parse(study, words)
        store = Store(options.data)
        rows = study.rows(options, base)
        _check_clips(store, base, options.folds)
        for row in rows:
            count_parameters(row.config, store)
        runs = plan(rows, options.folds, options.seeds, options.out, options.jobs)
        for run in runs:
            check_same(run)
        if not options.table:
            if options.jobs > 1:
                torch.set_num_threads(1)
            carry_out(runs, store, options.jobs, options.time_limit, console())
        finished = sum(run.finished for run in runs)
        if finished < len(runs):
            print(
                f"{finished} of {len(runs)} runs are finished; the same call again goes on", file=sys.stderr
            )
        if finished:
            write_report(report(rows, runs, store), study.name, options.out)
    except KeyboardInterrupt:
        print("interrupted; the same call again goes on", file=sys.stderr)
        return 130
    except MISTAKES as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _check_clips(store: Store, base: TrainConfig, folds: Sequence[Fold]) -> None:
    for fold in folds:
        if not (true_labels(base, store, fold)[1] >= 0).any():
            where = "the test part" if fold is None else f"fold {fold}"
            raise StudyError(
                f"{store.path}: {where} of {base.protocol or store.protocol} has no labelled clips"
            )
