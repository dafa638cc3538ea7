"""Accuracy figures of a set of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from hhmnet.evaluation.scores import Scores

DRAWS = 10_000
"""Resamplings of a bootstrap."""
BINS = 15
"""Bins of confidence of the calibration error."""


def bootstrap_interval(correct: int, count: int, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of an accuracy, in percent.

    Drawing ``count`` clips with replacement makes the number of right ones binomial, so that number is drawn.
    """
    share = np.random.default_rng(seed).binomial(count, correct / count, DRAWS) / count
    low, high = np.percentile(100 * share, [2.5, 97.5])
    return float(low), float(high)


def calibration_error(scores: Scores) -> float:
    """Expected calibration error in percent (Guo et al., ICML 2017, equation 3), over 15 equal bins of confidence."""
    known = scores.labels >= 0
    logits, labels = torch.from_numpy(scores.logits[known]), torch.from_numpy(scores.labels[known])
    classes = len(scores.class_names)
    return float(
        multiclass_calibration_error(logits.softmax(1), labels, classes, n_bins=BINS, norm="l1") * 100
    )


def surest_mistakes(scores: Scores, count: int = 10) -> list[dict[str, Any]]:
    """The labelled clips that are most surely taken for another class, the surest first.

    Returns:
        For each ``sample_id``, ``label``, ``answer`` and its ``probability``.
    """
    probabilities = torch.from_numpy(scores.logits).double().softmax(1).numpy()
    answers, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero((scores.labels >= 0) & (answers != scores.labels))
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
    return [
        {
            "sample_id": str(scores.sample_ids[row]),
            "label": scores.class_names[scores.labels[row]],
            "answer": scores.class_names[answers[row]],
            "probability": round(float(sure[row]), 4),
        }
        for row in worst.tolist()
    ]


def fusion_changes(joined: Scores, alone: Mapping[str, Scores], count: int = 10) -> dict[str, Any]:
    """Which labelled clips the joined answer gets right where one modality alone doesn't, and the other way round.

    Args:
        joined: scores with all modalities.
        alone: scores of the same clips in the same order with each modality alone, by its name.
        count: clips named at most, those first whose true class gains or loses the most probability.

    Returns:
        For each name of ``alone`` two entries, ``mended`` (wrong alone, right when joined) and ``broken`` (right alone,
        wrong when joined). Each has ``n`` and ``clips`` with ``sample_id``, ``label``, ``alone`` and ``joined``, the
        last two being answers.

    Raises:
        ValueError: the scores are of other clips.
    """
    found = {}
    for name, scores in alone.items():
        if not np.array_equal(scores.sample_ids, joined.sample_ids):
            raise ValueError(f"the scores of {name} alone are of other clips than the joined ones")
        right, was_right = _right(joined), _right(scores)
        gain = _true_probability(joined) - _true_probability(scores)
        found[name] = {
            "mended": _named(joined, scores, right & ~was_right, -gain, count),
            "broken": _named(joined, scores, was_right & ~right, gain, count),
        }
    return found


def _right(scores: Scores) -> np.ndarray:
    """Which clips are recognised, ``(N,)`` bool; none without a label."""
    return np.asarray(scores.logits.argmax(1) == scores.labels)


def _true_probability(scores: Scores) -> np.ndarray:
    """Probability of each clip's own class, ``(N,)``; of any where it is unknown."""
    probabilities = torch.from_numpy(scores.logits).double().softmax(1).numpy()
    return np.asarray(probabilities[np.arange(len(probabilities)), scores.labels])


def _named(joined: Scores, alone: Scores, which: np.ndarray, order: np.ndarray, count: int) -> dict[str, Any]:
    rows = np.flatnonzero(which)
    rows = rows[np.argsort(order[rows], kind="stable")]
    names = joined.class_names
    clips = [
        {
            "sample_id": str(joined.sample_ids[row]),
            "label": names[joined.labels[row]],
            "alone": names[alone.logits[row].argmax()],
            "joined": names[joined.logits[row].argmax()],
        }
        for row in rows[:count]
    ]
    return {"n": len(rows), "clips": clips}


def brief(scores: Scores) -> dict[str, Any]:
    """The few metrics that are shown of one stream, member or subset."""
    figures = evaluate(scores)
    return {name: figures[name] for name in ("top1", "mean_class", "top1_interval")}


def evaluate(scores: Scores) -> dict[str, Any]:
    """Metrics of labelled clips, in percent.

    ``mean_class`` is the mean of the per-class accuracies over the classes that occur. Clips without a label
    are left out.

    Returns:
        ``top1``, ``top5``, ``mean_class``, ``n``, ``top1_interval``, ``calibration_error`` and ``per_class``.

    Raises:
        ValueError: where no clip has a label.
    """
    known = scores.labels >= 0
    if not known.any():
        raise ValueError("none of these clips has a label, so there is nothing to measure")
    logits, labels = torch.from_numpy(scores.logits[known]), torch.from_numpy(scores.labels[known])
    classes = len(scores.class_names)

    def accuracy(top: int) -> float:
        return float(
            multiclass_accuracy(logits, labels, classes, average="micro", top_k=min(top, classes)) * 100
        )

    each = multiclass_accuracy(logits, labels, classes, average="none") * 100
    counts = torch.bincount(labels, minlength=classes)
    right = int((logits.argmax(1) == labels).sum())
    return {
        "top1": 100 * right / len(labels),
        "top5": accuracy(5),
        "mean_class": float(each[counts > 0].mean()),
        "n": len(labels),
        "top1_interval": list(bootstrap_interval(right, len(labels))),
        "calibration_error": calibration_error(scores),
        "per_class": {
            name: {"top1": float(each[i]), "n": int(counts[i])} for i, name in enumerate(scores.class_names)
        },
    }
