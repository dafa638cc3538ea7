"""Joining scores: what goes together, by which weights, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hhmnet.evaluation.ensemble import (
    EnsembleError,
    align,
    check_weights,
    choose_weights,
    fuse,
)
from hhmnet.evaluation.scores import Scores

ALL = np.arange(30)


def scores(seed: int, good: float = 1.0) -> Scores:
    """Scores of the same clips for every seed; ``good`` is how far the right class stands out."""
    labels = np.random.default_rng(0).integers(0, 3, 30)
    logits = np.random.default_rng(seed).normal(size=(30, 3)).astype(np.float32)
    logits[ALL, labels] += good
    return Scores(np.array([f"clip {i}" for i in ALL]), labels, logits, ("sit", "stand", "walk"))


def of(one: Scores, rows: np.ndarray) -> Scores:
    return Scores(one.sample_ids[rows], one.labels[rows], one.logits[rows], one.class_names)


A, B, C, D = (scores(seed) for seed in range(1, 5))


def test_the_answer_is_the_weighted_sum_clip_by_clip_whatever_the_files_order() -> None:
    order = np.random.default_rng(5).permutation(30)
    found = fuse(align({"a": A, "b": of(B, order), "c": C}), (3, 1, 0))
    for row, column in product(range(30), range(3)):
        expected = 0.75 * A.logits[row, column] + 0.25 * B.logits[row, column]
        assert found.logits[row, column] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found.logits.dtype == np.float32
    np.testing.assert_array_equal(found.sample_ids, A.sample_ids)
    np.testing.assert_array_equal(found.labels, A.labels)


OTHER_LABELS = np.where((ALL == 2) | (ALL == 7), (B.labels + 1) % 3, B.labels)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (of(B, ALL[8:]), "clips, b lacks 8: clip 0, clip 1, clip 2, clip 3, clip 4 and 3 more"),
        (replace(B, labels=OTHER_LABELS), "different labels: clip 2: .*, clip 7:"),
        (replace(B, class_names=("sit", "rise", "walk")), "classes: number 1: 'stand' and 'rise'"),
        (replace(B, class_names=("sit", "stand"), logits=B.logits[:, :2]), "3 and 2 classes"),
        (of(B, np.append(ALL, 3)), "a sample_id stands there twice"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_first_differences(other: Scores, message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        align({"a": A, "b": other})


def test_bad_weights_and_what_chooses_none_are_refused() -> None:
    for weights in ((1.0,), (1.0, -0.1), (0.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(EnsembleError, match="weights"):
            check_weights(weights, 2)
    with pytest.raises(EnsembleError, match="for up to 6 score files, got 7"):
        choose_weights({str(number): B for number in range(7)})
    with pytest.raises(EnsembleError, match="no validation clip has a label"):
        choose_weights({"a": replace(A, labels=np.full(30, -1))})


def test_chosen_weights_have_the_fewest_clips_wrong() -> None:
    members = {"a": scores(1, good=1.5), "b": scores(2, good=0.7), "c": scores(3, good=0.0)}
    found = choose_weights(members)
    logits = [member.logits.astype(np.float64) for member in members.values()]
    wrong = {}
    for tenths in product(range(11), repeat=3):
        if sum(tenths) == 10:
            joined = sum(t * part for t, part in zip(tenths, logits, strict=True))
            wrong[tenths] = int((np.asarray(joined).argmax(1) != A.labels).sum())
    assert wrong[tuple(np.round(found * 10).astype(int).tolist())] == min(wrong.values())
    assert found.sum() == pytest.approx(1)
