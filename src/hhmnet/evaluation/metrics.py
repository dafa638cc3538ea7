"""Accuracy figures of a set of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from hhmnet.evaluation.scores import Scores


def bootstrap_interval(correct: int, count: int, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """95 % bootstrap interval of an accuracy, in percent.

    Drawing ``count`` clips with replacement makes the number of right ones binomial, so that number is drawn.
    """
    share = np.random.default_rng(seed).binomial(count, correct / count, draws) / count
    low, high = np.percentile(100 * share, [2.5, 97.5])
    return float(low), float(high)


def evaluate(scores: Scores) -> dict[str, Any]:
    """Metrics of labelled clips, in percent.

    ``mean_class`` is the mean of the per-class accuracies over the classes that occur. Clips without a label
    are left out.

    Returns:
        ``top1``, ``top5``, ``mean_class``, ``n``, ``top1_interval`` and ``per_class``.

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
        "per_class": {
            name: {"top1": float(each[i]), "n": int(counts[i])} for i, name in enumerate(scores.class_names)
        },
    }
