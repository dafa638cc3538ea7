"""``hhmnet ensemble``: score files of the same clips → one answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.commands.evaluate import METRICS_FILE, SCORES_FILE
from hhmnet.commands.terminal import Parser, console, print_json, table
from hhmnet.evaluation.ensemble import (
    EnsembleError,
    align,
    check_weights,
    choose_weights,
    disagreements,
    fuse,
    subsets,
)
from hhmnet.evaluation.metrics import brief, evaluate
from hhmnet.evaluation.report import accuracy
from hhmnet.evaluation.scores import Scores
from hhmnet.files import write_json

LARGEST_TABLE = 6
"""With more score files than that, only the single ones and the whole are shown."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    members = align(_members(options.scores))
    if not (next(iter(members.values())).labels >= 0).any():
        raise EnsembleError(f"{options.scores[0]}: no clip has a label, so there is nothing to measure")
    weights, rule = _weights(members, options.weights, options.validation)
    parts = subsets(members, weights.tolist()) if len(members) <= LARGEST_TABLE else {}
    joined = fuse(members, weights)
    document = evaluate(joined) | {
        "weights": dict(zip(members, weights.tolist(), strict=True)),
        "members": {name: brief(scores) for name, scores in members.items()},
        "subsets": {name: brief(scores) for name, scores in parts.items()},
        "disagreements": disagreements(members) if len(members) > 1 else {},
        "weights_from": rule,
    }
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    joined.save(out / SCORES_FILE)
    write_json(out / METRICS_FILE, document)
    if options.json:
        print_json(document)
    else:
        _show(document)
    console().print(f"{out} holds {METRICS_FILE} and {SCORES_FILE}")
    return 0


def _parser() -> Parser:
    about = "Join score files that `hhmnet evaluate` wrote, by a weighted sum of logits."
    parser = Parser("hhmnet ensemble", about)
    add = parser.add_argument
    add("scores", nargs="+", type=Path, metavar="SCORES", help="score files, or folders that hold one")
    either = parser.add_mutually_exclusive_group().add_argument
    weights = "weight of each score file (default: all alike)"
    either("--weights", nargs="+", type=float, metavar="W", help=weights)
    held = "score files of held-out training clips, in the same order, on which the weights are chosen"
    either("--validation", nargs="+", type=Path, metavar="SCORES", help=held)
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_shared("json")
    return parser


def _members(files: Sequence[Path]) -> dict[str, Scores]:
    """Score files by names as short as tell them apart; raises EnsembleError where one is given twice."""
    files = [file / SCORES_FILE if file.is_dir() else file for file in files]
    shared = os.path.commonpath([file.absolute().parent for file in files]) if len(files) > 1 else ""
    members = {}
    for file in files:
        name = os.path.relpath(file.absolute(), shared) if shared else str(file)
        name = name.removesuffix(f"{os.sep}{SCORES_FILE}").removesuffix(".parquet")
        name = name.removeprefix("scores-")  # a stream's, beside its model's
        if name in members:
            raise EnsembleError("a score file is given twice")
        members[name] = Scores.load(file)
    return members


def _weights(
    members: dict[str, Scores], given: Sequence[float] | None, validation: Sequence[Path] | None
) -> tuple[np.ndarray, str]:
    """Weights that sum to 1, and where they are from."""
    if not validation:
        weights = check_weights(given or (1.0,) * len(members), len(members))
        return weights, "given" if given else "all alike"
    if len(validation) != len(members):
        raise EnsembleError(
            f"--validation has {len(validation)} score files, there are {len(members)} to join"
        )
    held = align(_members(validation))
    measured, chosen = next(iter(members.values())), next(iter(held.values()))
    if chosen.class_names != measured.class_names:
        raise EnsembleError(f"{validation[0]} has other classes than the scores to join")
    both = np.intersect1d(chosen.sample_ids, measured.sample_ids)
    if len(both):
        raise EnsembleError(
            f"{len(both)} clips are in --validation and among those to be measured, such as {both[0]}; "
            "weights must be chosen on other clips"
        )
    return choose_weights(held), f"{len(chosen.labels)} validation clips"


def _show(document: dict[str, Any]) -> None:
    """The metrics for the terminal."""
    title = f"{document['n']} clips, weights: {document['weights_from']}"
    view = table(title, "scores", ">weight", ">top-1 %", "95 %")
    for name, figures in document["members"].items():
        view.add_row(name, f"{document['weights'][name]:.2f}", *accuracy(figures))
    view.add_section()
    for name, figures in document["subsets"].items():
        view.add_row(name, "", *accuracy(figures))
    view.add_section()
    view.add_row("all", "", *accuracy(document), style="bold")
    log = console(stderr=False)
    log.print(view)
    if document["disagreements"]:
        counts = ", ".join(f"{names} {number}" for names, number in document["disagreements"].items())
        log.print(f"clips answered differently: {counts}")
