"""Joining scores: what goes together, by which weights, and what comes of it."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest

from hhmnet.evaluation.ensemble import (
    EnsembleError,
    Member,
    align,
    check_weights,
    choose_weights,
    disagreements,
    fuse,
    subsets,
)
from hhmnet.evaluation.scores import Scores

CLASSES = ("sit", "stand", "walk")


def member(name: str, seed: int, count: int = 30, good: float = 1.0) -> Member:
    """Scores of the same clips for every seed; ``good`` is how far the right class stands out."""
    labels = np.random.default_rng(0).integers(0, 3, count)
    logits = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    logits[np.arange(count), labels] += good
    ids = np.array([f"clip {i}" for i in range(count)])
    return Member(name, Scores(ids, labels, logits, CLASSES))


def changed(original: Member, rows: np.ndarray, **fields: object) -> Member:
    scores = original.scores
    parts = {
        "sample_ids": scores.sample_ids[rows],
        "labels": scores.labels[rows],
        "logits": scores.logits[rows],
        "class_names": scores.class_names,
    }
    return Member(original.name, Scores(**(parts | fields)))  # type: ignore[arg-type]


def test_rows_are_joined_by_name_not_by_place() -> None:
    one, other = member("a", 1), member("b", 2)
    order = np.random.default_rng(5).permutation(30)
    aligned = align([one, changed(other, order)])
    np.testing.assert_array_equal(aligned[1].scores.logits, other.scores.logits)
    np.testing.assert_array_equal(aligned[1].scores.sample_ids, one.scores.sample_ids)


def test_the_answer_is_the_weighted_sum_clip_by_clip() -> None:
    members = [member("a", 1), member("b", 2), member("c", 3)]
    found = fuse(members, (3, 1, 0))
    for row in range(30):
        for column in range(3):
            a, b = (m.scores.logits[row, column] for m in members[:2])
            assert found.logits[row, column] == pytest.approx(0.75 * a + 0.25 * b, rel=1e-5, abs=1e-6)
    assert found.logits.dtype == np.float32
    assert found.class_names == CLASSES
    for field in ("sample_ids", "labels"):
        np.testing.assert_array_equal(getattr(found, field), getattr(members[0].scores, field))


def relabelled(labels: np.ndarray) -> np.ndarray:
    labels = labels.copy()
    labels[[2, 7]] = (labels[[2, 7]] + 1) % 3
    return labels


ALL = np.arange(30)
OTHER = member("b", 2)
DIFFERENT = [
    (changed(OTHER, ALL[1:]), r"different clips: b lacks 1 \(clip 0\)"),
    (changed(OTHER, ALL[8:]), r"b lacks 8 \(clip 0, clip 1, clip 2, clip 3, clip 4 and 3 more\)"),
    (
        changed(OTHER, ALL, sample_ids=np.array(["new", *OTHER.scores.sample_ids[1:]])),
        r"b lacks 1 \(clip 0\); a lacks 1 \(new\)",
    ),
    (changed(OTHER, ALL, labels=relabelled(OTHER.scores.labels)), "different labels: clip 2: .*, clip 7:"),
    (changed(OTHER, ALL, class_names=("sit", "rise", "walk")), "classes: number 1: 'stand' and 'rise'"),
    (
        changed(OTHER, ALL, class_names=("sit", "stand"), logits=OTHER.scores.logits[:, :2]),
        "3 and 2 classes",
    ),
    (changed(OTHER, np.append(ALL, 3)), "a sample_id stands there twice"),
]


@pytest.mark.parametrize(("other", "message"), DIFFERENT)
def test_what_does_not_go_together_is_refused_with_the_first_differences(other: Member, message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        align([member("a", 1), other])


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -0.1), (0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_weights_that_make_no_sense_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(EnsembleError, match="weights"):
        check_weights(weights, 2)


def test_chosen_weights_have_the_fewest_clips_wrong() -> None:
    members = [member("a", 1, good=1.5), member("b", 2, good=0.7), member("c", 3, good=0.0)]
    found = choose_weights(members)
    labels = members[0].scores.labels
    wrong = {}
    for tenths in product(range(11), repeat=3):
        if sum(tenths) == 10:
            joined = sum(t * m.scores.logits.astype(np.float64) for t, m in zip(tenths, members, strict=True))
            wrong[tenths] = int((np.asarray(joined).argmax(1) != labels).sum())
    assert wrong[tuple(np.round(found * 10).astype(int).tolist())] == min(wrong.values())
    assert found.sum() == pytest.approx(1)


def test_among_equals_the_surer_weights_win() -> None:
    right = np.eye(3, dtype=np.float32)[OTHER.scores.labels]
    sure, unsure = (changed(member(name, 1), ALL, logits=size * right) for name, size in (("a", 2), ("b", 1)))
    np.testing.assert_allclose(choose_weights([sure, unsure]), [1, 0])


def test_where_all_weights_are_as_good_they_are_equal() -> None:
    flat = [changed(member(name, 1), ALL, logits=np.zeros((30, 3), np.float32)) for name in "abc"]
    np.testing.assert_allclose(choose_weights(flat[:2]), [0.5, 0.5])
    np.testing.assert_allclose(choose_weights(flat), [0.3, 0.3, 0.4])


def test_clips_without_a_label_choose_nothing() -> None:
    """The second member is wrong on the labelled clips, and sure of the others."""
    labels = np.where(ALL < 10, OTHER.scores.labels, -1)
    right = np.eye(3, dtype=np.float32)[OTHER.scores.labels]
    wrong = np.roll(right, 1, axis=1)
    wrong[10:, 2] += 50
    one, other = (changed(OTHER, ALL, labels=labels, logits=logits) for logits in (right, wrong))
    np.testing.assert_allclose(choose_weights([one, other]), [1, 0])


def test_none_and_too_many_are_refused() -> None:
    with pytest.raises(EnsembleError, match="there are no scores to join"):
        align([])
    with pytest.raises(EnsembleError, match="there are 1 weights for 2 score files"):
        check_weights((1.0,), 2)
    with pytest.raises(EnsembleError, match="for up to 6 score files, got 7"):
        choose_weights([OTHER] * 7)


def test_a_member_of_noise_gets_no_say() -> None:
    members = [member("good", 1, count=400, good=4), member("noise", 2, count=400, good=0)]
    assert choose_weights(members)[0] >= 0.7


def test_without_any_label_nothing_is_chosen() -> None:
    blank = changed(member("a", 1), ALL, labels=np.full(30, -1))
    with pytest.raises(EnsembleError, match="no validation clip has a label"):
        choose_weights([blank])


def test_every_subset_is_there_once() -> None:
    members = [member(name, seed) for seed, name in enumerate("abcd")]
    found = subsets(members, (0.6, 0.6, 0.4, 0.0))
    assert [name for name, _ in found[:3]] == ["a + b", "a + c", "a + d"]
    assert len(found) == len({name for name, _ in found}) == 11
    np.testing.assert_allclose(found[-1][1].logits, fuse(members, (0.6, 0.6, 0.4, 0)).logits, rtol=1e-5)
    # d alone has weight 0, so with it c decides.
    np.testing.assert_allclose(dict(found)["c + d"].logits, members[2].scores.logits)


def test_a_subset_without_any_weight_is_left_out() -> None:
    members = [member(name, seed) for seed, name in enumerate("abc")]
    assert [name for name, _ in subsets(members, (1.0, 0.0, 0.0))] == ["a + b", "a + c", "a + b + c"]


def test_disagreements_are_counted() -> None:
    one, other = member("a", 1), member("b", 2)
    expected = sum(one.scores.logits[i].argmax() != other.scores.logits[i].argmax() for i in range(30))
    assert disagreements([one, other, one]) == {
        "a / b": expected,
        "a / a": 0,
        "b / a": expected,
        "any two": expected,
    }
    json.dumps(disagreements([one, other]))  # as the command prints them
