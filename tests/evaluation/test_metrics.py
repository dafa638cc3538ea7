"""Metrics against those of scikit-learn, and loops written from their definitions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from hhmnet.evaluation.metrics import (
    bootstrap_interval,
    calibration_error,
    confusion,
    evaluate,
    fusion_changes,
)
from hhmnet.evaluation.scores import Scores


def make(count: int = 80, classes: int = 7, unknown: int = 9, seed: int = 0) -> Scores:
    """Scores that are right about half the time; some labels unknown, the last class never seen."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(classes - 1, 1), count)
    logits = 2 * rng.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += 2.0
    labels[:unknown] = -1
    names = tuple(f"class {i}" for i in range(classes))
    return Scores(np.array([f"clip{i}" for i in range(count)]), labels, logits, names)


def test_metrics_are_those_of_scikit_learn() -> None:
    scores = make(classes=12)
    known, every = scores.labels >= 0, range(12)
    labels, logits, answers = scores.labels[known], scores.logits[known], scores.predictions[known]
    found, right = evaluate(scores), answers == labels
    assert found["n"] == len(labels) == 80 - 9
    assert found["top1"] == pytest.approx(100 * reference.accuracy_score(labels, answers))
    assert found["top5"] == pytest.approx(
        100 * reference.top_k_accuracy_score(labels, logits, k=5, labels=every)
    )
    each = reference.recall_score(labels, answers, labels=np.unique(labels), average=None)
    assert found["mean_class"] == pytest.approx(100 * each.mean())
    assert found["top1_interval"] == list(bootstrap_interval(right.sum(), len(right)))
    bins = dict[int, list[float]]()
    for hit, row in zip(right.tolist(), logits.astype(float), strict=True):
        sure = 1 / np.exp(row - row.max()).sum()
        bins.setdefault(min(int(sure * 15), 14), []).append(sure - hit)
    error = sum(abs(sum(gaps)) for gaps in bins.values()) / len(right)
    assert found["calibration_error"] == pytest.approx(100 * error)
    assert list(found["per_class"]) == list(scores.class_names)
    for number, figures in enumerate(found["per_class"].values()):
        hits = right[labels == number]
        assert figures == {"top1": pytest.approx(100 * hits.mean() if len(hits) else 0.0), "n": len(hits)}
    np.testing.assert_array_equal(
        confusion(scores), reference.confusion_matrix(labels, answers, labels=every)
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found  # the last class, never seen, too


def test_equal_logits_certainty_and_missing_labels() -> None:
    logits = np.zeros((6, 7), np.float32)
    scores = Scores(np.array(list("abcdef")), np.array([0, 1, 4, 5, 6, 6]), logits, tuple("0123456"))
    found = evaluate(scores)  # of equals the first class is the answer
    assert (found["top1"], found["top5"]) == (pytest.approx(100 / 6), 50.0)
    sure = np.array([[1000.0, 0], [0, 1000.0]], np.float32)
    assert calibration_error(Scores(np.array(["a", "b"]), np.array([0, 0]), sure, ("x", "y"))) == 50
    with pytest.raises(ValueError, match="none of these clips has a label"):
        evaluate(make(unknown=80))


@pytest.mark.parametrize(("right", "count"), [(430, 464), (50, 50)])
def test_interval_matches_an_actual_resampling(right: int, count: int) -> None:
    """Draw clips with replacement, again and again, and look at the middle 95 % of the accuracies."""
    rng = np.random.default_rng(7)
    clips = np.arange(count) < right
    accuracies = 100 * clips[rng.integers(0, count, (10_000, count))].mean(1)
    low, high = bootstrap_interval(right, count)
    step = 100 / count
    assert low == pytest.approx(np.percentile(accuracies, 2.5), abs=1.01 * step)
    assert high == pytest.approx(np.percentile(accuracies, 97.5), abs=1.01 * step)


def made_scores(answers: list[int], sure: list[float], labels: list[int]) -> Scores:
    """Scores of clips that are answered so, with that probability; the rest is shared by the other two classes."""
    shares = np.array([[(1 - p) / 2] * 3 for p in sure])
    shares[np.arange(len(answers)), answers] = sure
    ids = np.array([f"clip{i}" for i in range(len(answers))])
    return Scores(ids, np.array(labels), np.log(shares).astype(np.float32), ("a", "b", "c"))


def test_what_fusion_mends_and_breaks() -> None:
    labels = [0, 1, 2, 0, 1, -1, 2]
    joined = made_scores([0, 1, 2, 1, 1, 2, 2], [0.6, 0.9, 0.8, 0.9, 0.5, 0.9, 0.9], labels)
    skeleton = made_scores([1, 0, 2, 0, 1, 1, 0], [0.5, 0.6, 0.9, 0.7, 0.9, 0.9, 0.9], labels)
    found = fusion_changes(joined, {"skeleton": skeleton, "same": joined})
    broken = {"sample_id": "clip3", "label": "a", "alone": "a", "joined": "b"}
    assert found["skeleton"]["broken"] == {"n": 1, "clips": [broken]}
    mended = found["skeleton"]["mended"]
    assert mended["n"] == 3
    # The true class gains 0.85, 0.7 and 0.35.
    assert [clip["sample_id"] for clip in mended["clips"]] == ["clip6", "clip1", "clip0"]
    assert mended["clips"][0] == {"sample_id": "clip6", "label": "c", "alone": "a", "joined": "c"}
    assert found["same"] == {"mended": {"n": 0, "clips": []}, "broken": {"n": 0, "clips": []}}
