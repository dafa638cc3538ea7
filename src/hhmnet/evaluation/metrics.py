"""Accuracy figures of a set of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hhmnet.confidence import Confidence, similarity
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
    confidence, right = scores.probabilities.max(1)[known], scores.right[known]
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, confidence - right, BINS)  # summed over the clips of a bin
    return 100 * float(np.abs(gaps).sum() / known.sum())


def evaluate(scores: Scores) -> dict[str, Any]:
    """``top1``, ``top5``, ``mean_class``, ``n``, ``top1_interval``, ``calibration_error``, ``per_class``, in percent.

    ``mean_class`` is the mean of the per-class accuracies over the classes that occur. Clips without a label are left
    out; raises ValueError where none has one.
    """
    known = scores.labels >= 0
    if not known.any():
        raise ValueError("none of these clips has a label, so there is nothing to measure")
    labels, right = scores.labels[known], scores.right[known]
    strongest = np.argsort(-scores.logits[known], axis=1, kind="stable")[:, :5]
    counts = np.bincount(labels, minlength=len(scores.class_names))
    each = 100 * np.bincount(labels, right, len(counts)) / np.maximum(counts, 1)
    return {
        "top1": 100 * float(right.mean()),
        "top5": 100 * float((strongest == labels[:, None]).any(1).mean()),
        "mean_class": float(each[counts > 0].mean()),
        "n": len(labels),
        "top1_interval": list(bootstrap_interval(int(right.sum()), len(labels))),
        "calibration_error": calibration_error(scores),
        "per_class": {
            name: {"top1": float(each[i]), "n": int(counts[i])} for i, name in enumerate(scores.class_names)
        },
    }


def confusion(scores: Scores) -> np.ndarray:
    """Clips of each true class (rows) that were taken for each class (columns), ``(classes, classes)``."""
    known = scores.labels >= 0
    matrix = np.zeros((len(scores.class_names),) * 2, np.int64)
    np.add.at(matrix, (scores.labels[known], scores.predictions[known]), 1)
    return matrix


def brief(scores: Scores) -> dict[str, Any]:
    """The few metrics that are shown of one stream, member or subset."""
    figures = evaluate(scores)
    return {name: figures[name] for name in ("top1", "mean_class", "top1_interval")}


def surest_mistakes(scores: Scores, count: int = 10) -> list[dict[str, Any]]:
    """``sample_id``, ``label``, ``answer`` and ``probability`` of clips taken for another class, the surest first."""
    confidence = scores.probabilities.max(1)
    wrong = np.flatnonzero((scores.labels >= 0) & ~scores.right)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return [
        clip | {"probability": round(float(confidence[row]), 4)}
        for clip, row in zip(_listed(scores, worst, answer=scores), worst, strict=True)
    ]


def fusion_changes(joined: Scores, alone: Mapping[str, Scores], count: int = 10) -> dict[str, Any]:
    """Which labelled clips the joined answer gets right where one modality alone doesn't, and the other way round.

    ``alone`` has scores of the same clips in the same order with each modality alone, by its name. Of each come
    ``mended`` (wrong alone, right when joined) and ``broken`` (right alone, wrong when joined), each with ``n`` and at
    most ``count`` ``clips``, those first whose true class gains or loses the most probability.
    """
    found: dict[str, Any] = {}
    clips = np.arange(len(joined.labels)), joined.labels
    for name, scores in alone.items():
        found[name] = {}
        for change, right, wrong in (("mended", joined, scores), ("broken", scores, joined)):
            rows = np.flatnonzero(right.right & ~wrong.right)
            gain = (right.probabilities - wrong.probabilities)[clips][rows]  # of the clip's own class
            order = np.argsort(-gain, kind="stable")
            listed = _listed(joined, rows[order][:count], alone=scores, joined=joined)
            found[name][change] = {"n": len(rows), "clips": listed}
    return found


def _listed(clips: Scores, rows: np.ndarray, **answers: Scores) -> list[dict[str, Any]]:
    """Some labelled clips by name and class, with the class that each of ``answers`` gives them."""
    names = clips.class_names
    return [
        {"sample_id": str(clips.sample_ids[row]), "label": names[clips.labels[row]]}
        | {name: names[scores.predictions[row]] for name, scores in answers.items()}
        for row in rows.tolist()
    ]


def told_apart(known: Scores, others: Scores, confidence: Confidence) -> dict[str, Any]:
    """How well clips of a model's classes and others are told apart by a confidence with neighbours, in percent.

    ``auroc`` is the area under the ROC curve; at the default rate ``known`` is the share of known clips that stay
    known, ``unknown`` the share of the others that are called unknown; ``n`` is how many others there are.
    """
    from sklearn.metrics import roc_auc_score

    assert confidence.neighbours is not None
    logits = known.logits[known.labels >= 0], others.logits
    near = [similarity(one, confidence.neighbours) for one in logits]
    truth = np.repeat([1, 0], [len(one) for one in near])
    stay, called = (100 * float(confidence.known(one).mean()) for one in logits)
    area = 100 * float(roc_auc_score(truth, np.concatenate(near)))
    return {"auroc": area, "known": stay, "unknown": 100 - called, "n": len(others.labels)}
