"""The arithmetic and the wording of ``ablation.py``'s table: paired differences with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DEFAULT = "default"
DRAWS = 10_000

Hits = Mapping[tuple[int, int], np.ndarray]
"""By (fold, seed): which of the fold's validation clips were recognised, ``(N,)`` bool, in one order a fold."""


def top1(hits: Hits) -> tuple[dict[int, float], float]:
    """Top-1 in percent: each fold's mean over its seeds, and the mean of those."""
    folds: dict[int, list[float]] = {}
    for (fold, _), hit in sorted(hits.items()):
        folds.setdefault(fold, []).append(100 * float(hit.mean()))
    means = {fold: float(np.mean(values)) for fold, values in folds.items()}
    return means, float(np.mean(list(means.values())))


def difference(row: Hits, default: Hits, draws: int = DRAWS) -> tuple[float, tuple[float, float]] | None:
    """Mean difference in top-1, in points, over the folds and seeds that both have, and its 95 % interval.

    The interval is a paired bootstrap over validation clips: a clip that is drawn brings its outcomes under
    both rows and under all seeds. Every fold's clips are drawn among themselves, so that a fold has the same
    weight in every draw.

    Returns:
        None if the two have no fold and seed in common.
    """
    shared = row.keys() & default.keys()
    folds = sorted({fold for fold, _ in shared})
    if not folds:
        return None
    random = np.random.default_rng(0)
    mean, drawn = 0.0, np.zeros(draws)
    for fold in folds:
        keys = [key for key in shared if key[0] == fold]
        gain = np.sum([row[key].astype(np.int64) - default[key] for key in keys], axis=0)
        points = 100 / (len(gain) * len(keys) * len(folds))
        mean += points * float(gain.sum())
        # Clips of equal gain are alike, so it is enough to draw how many of each kind there are.
        kinds, counts = np.unique(gain, return_counts=True)
        drawn += points * (random.multinomial(len(gain), counts / len(gain), draws) @ kinds)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return mean, (float(low), float(high))


def summary(hits: Mapping[str, Hits]) -> dict[str, dict[str, Any]]:
    """For every row its top-1 by run, by fold and over all, and its difference to the default."""
    rows: dict[str, dict[str, Any]] = {}
    default = hits[DEFAULT]
    for name, outcomes in hits.items():
        figures: dict[str, Any] = {"runs": {}, "folds": {}, "mean": None, "difference": None}
        rows[name] = figures
        if not outcomes:
            continue
        figures["folds"], figures["mean"] = top1(outcomes)
        for key, hit in sorted(outcomes.items()):
            share = {"top1": 100 * float(hit.mean()), "clips": len(hit)}
            if key in default:
                share["difference"] = share["top1"] - 100 * float(default[key].mean())
            figures["runs"][f"fold{key[0]}-seed{key[1]}"] = share
        if name != DEFAULT and (found := difference(outcomes, default)):
            figures["difference"] = {"mean": found[0], "interval": list(found[1])}
    return rows


def headings_and_lines(rows: Mapping[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The table as text: its headings, and one line of cells a row."""
    folds = sorted({fold for figures in rows.values() for fold in figures["folds"]})
    headings = ["row", "weights", *(f"fold {fold}" for fold in folds), "mean", "difference", "95 % interval"]
    lines = []
    for name, figures in rows.items():
        cells = [name, f"{figures['parameters']:,}"]
        cells += [_percent(figures["folds"].get(fold)) for fold in folds] + [_percent(figures["mean"])]
        if found := figures["difference"]:
            low, high = found["interval"]
            cells += [f"{found['mean']:+.2f}", f"{low:+.2f}..{high:+.2f}"]
        else:
            cells += ["", ""]
        lines.append([*cells, str(len(figures["runs"]))])
    return [*headings, "runs"], lines


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same table in Markdown."""
    rule = ["---", *(["---:"] * (len(headings) - 1))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rule, *lines))
