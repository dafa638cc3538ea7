"""Accuracy figures of a set of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from hhmnet.evaluation.scores import Scores


def bootstrap_interval(correct: int, count: int, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """95 % bootstrap interval of an accuracy, in percent.

    Drawing ``count`` clips with replacement makes the number of right ones binomial, so that number is drawn.
    """
    share = np.random.default_rng(seed).binomial(count, correct / count, draws) / count
    low, high = np.percentile(100 * share, [2.5, 97.5])
    return float(low), float(high)


def calibration_error(scores: Scores, bins: int = 15) -> float:
    """Expected calibration error in percent (Guo et al., ICML 2017, equation 3), over equal bins of confidence."""
    known = scores.labels >= 0
    logits, labels = torch.from_numpy(scores.logits[known]), torch.from_numpy(scores.labels[known])
    classes = len(scores.class_names)
    return float(
        multiclass_calibration_error(logits.softmax(1), labels, classes, n_bins=bins, norm="l1") * 100
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
