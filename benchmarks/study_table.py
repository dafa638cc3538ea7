"""The arithmetic and the wording of a study's table: paired differences with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DRAWS = 10_000
FUSED = ""
"""Name of the whole model's answer among the streams'."""
EACH = "mean of streams"
"""The streams' own answers taken together: a clip counts once a stream."""

Fold = int | None
"""A validation fold, or None for the test clips, after training on all others."""
Hits = Mapping[tuple[Fold, Any], np.ndarray]
"""By fold and seed: which of the fold's clips were recognised, ``(N,)`` bool, in one order a fold. What stands in the
seed's place is averaged over: it may be a pair of seed and stream as well."""


def run_name(fold: Fold, seed: int) -> str:
    """What the run of a fold and seed is called."""
    return f"{'all' if fold is None else f'fold{fold}'}-seed{seed}"


def fold_name(fold: Fold) -> str:
    """What the clips of a fold are called in the table."""
    return "test" if fold is None else f"fold {fold}"


def top1(hits: Hits) -> tuple[dict[Fold, float], float]:
    """Top-1 in percent: each fold's mean over its seeds, and the mean of those."""
    folds: dict[Fold, list[float]] = {}
    for fold, seed in sorted(hits):
        folds.setdefault(fold, []).append(100 * float(hits[fold, seed].mean()))
    means = {fold: float(np.mean(values)) for fold, values in folds.items()}
    return means, float(np.mean(list(means.values())))


def difference(row: Hits, baseline: Hits, draws: int = DRAWS) -> tuple[float, tuple[float, float]] | None:
    """Mean difference in top-1, in points, over the folds and seeds that both have, and its 95 % interval.

    The interval is a paired bootstrap over clips: a clip that is drawn brings its outcomes under
    both rows and under all seeds. Every fold's clips are drawn among themselves, so that a fold has the same
    weight in every draw.

    Returns:
        None if the two have no fold and seed in common.
    """
    shared = row.keys() & baseline.keys()
    folds = sorted({fold for fold, _ in shared})
    if not folds:
        return None
    random = np.random.default_rng(0)
    mean, drawn = 0.0, np.zeros(draws)
    for fold in folds:
        keys = [key for key in shared if key[0] == fold]
        gain = np.sum([row[key].astype(np.int64) - baseline[key] for key in keys], axis=0)
        points = 100 / (len(gain) * len(keys) * len(folds))
        mean += points * float(gain.sum())
        # Clips of equal gain are alike, so it is enough to draw how many of each kind there are.
        kinds, counts = np.unique(gain, return_counts=True)
        drawn += points * (random.multinomial(len(gain), counts / len(gain), draws) @ kinds)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return mean, (float(low), float(high))


def summary(hits: Mapping[str, Mapping[str, Hits]], against: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """For every row its top-1 by run, by fold and over all, and its difference to its baseline; so for its streams.

    Args:
        hits: by row, those of the whole model (:data:`FUSED`) and, of several streams, of every stream.
        against: by row, the name of its baseline; a baseline's own is itself.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, parts in hits.items():
        others = hits[against[name]]
        compared = against[name] != name
        whole = parts[FUSED]
        rows[name] = outcome(whole, others[FUSED] if compared else {}) | {"against": against[name]}
        rows[name]["runs"] = {
            run_name(*key): _run(whole[key], others[FUSED].get(key)) for key in sorted(whole)
        }
        if len(parts) > 1:
            rows[name]["streams"] = {
                stream: outcome(part, others[stream] if compared else {})
                for stream, part in parts.items()
                if stream != FUSED
            } | {EACH: outcome(_together(parts), _together(others) if compared else {})}
    return rows


def _together(parts: Mapping[str, Hits]) -> Hits:
    return {
        (fold, (seed, stream)): hit
        for stream, part in parts.items()
        if stream != FUSED
        for (fold, seed), hit in part.items()
    }


def outcome(hits: Hits, baseline: Hits) -> dict[str, Any]:
    """Top-1 by fold and their mean, and the difference to a baseline; None where there is none."""
    figures: dict[str, Any] = {"folds": {}, "mean": None, "difference": None}
    if hits:
        folds, figures["mean"] = top1(hits)
        figures["folds"] = {fold_name(fold): share for fold, share in folds.items()}
    if found := difference(hits, baseline):
        figures["difference"] = {"mean": found[0], "interval": list(found[1])}
    return figures


def _run(hit: np.ndarray, baseline: np.ndarray | None) -> dict[str, Any]:
    figures = {"top1": 100 * float(hit.mean()), "clips": len(hit)}
    if baseline is not None:
        figures["difference"] = figures["top1"] - 100 * float(baseline.mean())
    return figures


def headings_and_lines(rows: Mapping[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The table as text: its headings, and one line of cells a row."""
    folds = sorted({fold for figures in rows.values() for fold in figures["folds"]})
    headings = ["row", "weights", *folds, "mean", "difference", "95 % interval"]
    lines = []
    for name, figures in rows.items():
        cells = [name, f"{figures['parameters']:,}"]
        cells += [_percent(figures["folds"].get(fold)) for fold in folds] + [_percent(figures["mean"])]
        if found := figures["difference"]:
            cells += [f"{found['mean']:+.2f}", _interval(found)]
        else:
            cells += ["", ""]
        lines.append([*cells, str(len(figures["runs"]))])
    return [*headings, "runs"], lines


def stream_headings_and_lines(rows: Mapping[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The streams' own answers as text: mean top-1, and in brackets the difference and its interval."""
    names = dict.fromkeys(name for figures in rows.values() for name in figures.get("streams", {}))
    streams = [name for name in names if name != EACH] + [EACH]
    lines = []
    for name, figures in rows.items():
        parts = figures.get("streams", {})
        lines.append([name, *(_cell(parts[stream]) if stream in parts else "" for stream in streams)])
    return ["row", *streams], lines


def _cell(figures: dict[str, Any]) -> str:
    text = _percent(figures["mean"])
    if found := figures["difference"]:
        text += f" ({found['mean']:+.2f}, {_interval(found)})"
    return text


def _interval(difference: dict[str, Any]) -> str:
    low, high = difference["interval"]
    return f"{low:+.2f}..{high:+.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same table in Markdown."""
    rule = ["---", *(["---:"] * (len(headings) - 1))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rule, *lines))
