"""``hhmnet ensemble``: score files of the same clips → one answer, the decision level of the fusion."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.commands.evaluate import METRICS_FILE, SCORES_FILE
from hhmnet.commands.terminal import Parser, console, print_json, table
from hhmnet.evaluation.metrics import brief, evaluate
from hhmnet.evaluation.report import accuracy
from hhmnet.evaluation.scores import Scores
from hhmnet.files import write_json

LARGEST = 6
"""With more score files than that, subsets are too many to show, and a grid in tenths has too many points."""
SHOWN = 5
"""Differences that a message lists."""

Members = Mapping[str, Scores]
"""Scores by the name under which they are shown."""


class EnsembleError(ValueError):
    """Scores that can't be joined, or weights that don't fit them."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    what = "Join score files that `hhmnet evaluate` wrote, by a weighted sum of logits."
    parser = Parser("hhmnet ensemble", what)
    add = parser.add_argument
    add("scores", nargs="+", type=Path, metavar="SCORES", help="score files, or folders that hold one")
    either = parser.add_mutually_exclusive_group().add_argument
    alike = "weight of each score file (default: all alike)"
    either("--weights", nargs="+", type=float, metavar="W", help=alike)
    held = "score files of held-out training clips, in the same order, on which the weights are chosen"
    either("--validation", nargs="+", type=Path, metavar="SCORES", help=held)
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_shared("json")
    options = parser.parse_args(words)
    members = align(_members(options.scores))
    if not (next(iter(members.values())).labels >= 0).any():
        raise EnsembleError(f"{options.scores[0]}: no clip has a label, so there is nothing to measure")
    weights, rule = _weights(members, options.weights, options.validation)
    parts = subsets(members, weights.tolist()) if len(members) <= LARGEST else {}
    joined = fuse(members, weights)
    document = evaluate(joined) | {
        "weights": dict(zip(members, weights.tolist(), strict=True)),
        "members": {name: brief(scores) for name, scores in members.items()},
        "subsets": {name: brief(scores) for name, scores in parts.items()},
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
    console(stderr=False).print(view)


def align(members: Members) -> dict[str, Scores]:
    """The same members with all their rows in the first one's order.

    Raises EnsembleError where clips, labels or class names are others than the first one's; it lists some.
    """
    (first, ours), *_ = members.items()
    aligned = {}
    for name, theirs in members.items():
        rows = {clip: row for row, clip in enumerate(theirs.sample_ids.tolist())}
        if len(rows) < len(theirs.sample_ids):
            raise EnsembleError(f"{name}: a sample_id stands there twice")
        for what, found in _differences(ours, theirs):
            if found:
                more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
                listed = ", ".join(found[:SHOWN])
                raise EnsembleError(f"{first} and {name} have different {what}: {listed}{more}")
        places = [rows[clip] for clip in ours.sample_ids.tolist()]
        aligned[name] = replace(ours, logits=theirs.logits[places])
    return aligned


def _differences(ours: Scores, theirs: Scores) -> Iterator[tuple[str, list[str]]]:
    """What two score files don't have in common; labels are compared where the clips are the same."""
    pairs = enumerate(zip_longest(ours.class_names, theirs.class_names, fillvalue="none"))
    yield "classes", [f"number {i}: '{a}' and '{b}'" for i, (a, b) in pairs if a != b]
    mine, other = (
        dict(zip(each.sample_ids.tolist(), each.labels.tolist(), strict=True)) for each in (ours, theirs)
    )
    yield "clips, of which only one has", sorted(mine.keys() ^ other.keys())
    yield "labels", [f"{clip}: {mine[clip]} and {other[clip]}" for clip in mine if mine[clip] != other[clip]]


def check_weights(weights: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    """Weights that sum to 1, ``(S,)``; raises EnsembleError unless there are ``count``, none of them negative."""
    if len(weights) != count:
        raise EnsembleError(f"there are {len(weights)} weights for {count} score files")
    values = np.asarray(weights, np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise EnsembleError(f"weights must be 0 or more, and not all 0; got {list(weights)}")
    return values / values.sum()


def fuse(members: Members, weights: Sequence[float] | np.ndarray) -> Scores:
    """Weighted sum of raw logits of aligned members."""
    shares = check_weights(weights, len(members)).astype(np.float32)
    first, *_ = every = list(members.values())
    return replace(first, logits=np.einsum("s,snk->nk", shares, np.stack([each.logits for each in every])))


def choose_weights(members: Members) -> np.ndarray:
    """The weights with most clips right, ``(S,)``, from a grid in tenths; of equals those of least cross-entropy.

    Meant for aligned scores of held-out training clips: what is chosen on test clips says nothing about other clips.
    Raises EnsembleError where no clip has a label, or there are too many members for a grid.
    """
    if len(members) > LARGEST:
        raise EnsembleError(f"weights can be chosen for up to {LARGEST} score files, got {len(members)}")
    first, *_ = every = list(members.values())
    known = first.labels >= 0
    if not known.any():
        raise EnsembleError("no validation clip has a label, so no weights can be chosen")
    logits, labels = np.stack([each.logits[known] for each in every]).astype(np.float64), first.labels[known]
    clips = np.arange(len(labels))

    def cost(weights: np.ndarray) -> tuple[int, float, tuple[float, ...]]:
        joined = np.einsum("s,snk->nk", weights, logits)
        wrong = int((joined.argmax(1) != labels).sum())
        entropy = np.logaddexp.reduce(joined, 1) - joined[clips, labels]
        return wrong, float(entropy.mean()), tuple(abs(weights - 1 / len(weights)))

    grid = [tenths for tenths in product(range(11), repeat=len(members)) if sum(tenths) == 10]
    return min((np.array(tenths) / 10 for tenths in grid), key=cost)


def subsets(members: Members, weights: Sequence[float]) -> dict[str, Scores]:
    """Every subset of two members or more, but not all, small ones first, each joined with its members' own weights.

    Subsets whose weights are all zero are left out.
    """
    found = {}
    for size in range(2, len(members)):
        for chosen in combinations(zip(members, weights, strict=True), size):
            own = dict(chosen)
            if any(own.values()):
                found[" + ".join(own)] = fuse({name: members[name] for name in own}, list(own.values()))
    return found
