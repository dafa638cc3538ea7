from __future__ import annotations

import json

import numpy as np
import pytest

from hhmnet.evaluation.metrics import bootstrap_interval, evaluate, fusion_changes, surest_mistakes
from hhmnet.evaluation.scores import Scores


def make(count: int = 80, classes: int = 7, unknown: int = 9, seed: int = 0) -> Scores:
    """Scores that are right about half the time; some labels unknown, the last class never seen."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(classes - 1, 1), count)
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += 1.0
    labels[:unknown] = -1
    names = tuple(f"class {i}" for i in range(classes))
    return Scores(np.array([f"clip{i}" for i in range(count)]), labels, logits, names)


def hits(scores: Scores, top: int) -> dict[int, list[bool]]:
    """For each class that occurs: whether each of its clips is among the ``top`` strongest."""
    found: dict[int, list[bool]] = {}
    for label, row in zip(scores.labels.tolist(), scores.logits.tolist(), strict=True):
        if label >= 0:
            strongest = sorted(range(len(row)), key=lambda c: -row[c])[:top]
            found.setdefault(label, []).append(label in strongest)
    return found


@pytest.mark.parametrize("classes", [2, 3, 5, 7, 12])
@pytest.mark.parametrize("unknown", [0, 9])
def test_metrics_match_plain_loops(classes: int, unknown: int) -> None:
    scores = make(classes=classes, unknown=unknown)
    found = evaluate(scores)
    first, fifth = hits(scores, 1), hits(scores, 5)
    right = [hit for row in first.values() for hit in row]
    assert found["n"] == len(right) == 80 - unknown
    assert found["top1"] == pytest.approx(100 * sum(right) / len(right))
    assert found["top5"] == pytest.approx(
        100 * np.mean([hit for row in fifth.values() for hit in row]), rel=1e-5
    )
    assert found["mean_class"] == pytest.approx(
        100 * np.mean([np.mean(row) for row in first.values()]), rel=1e-5
    )
    assert list(found["per_class"]) == list(scores.class_names)
    for i, name in enumerate(scores.class_names):
        row = first.get(i, [])
        assert found["per_class"][name]["n"] == len(row)
        if row:
            assert found["per_class"][name]["top1"] == pytest.approx(100 * np.mean(row), rel=1e-5)


def test_mean_class_differs_from_top1_where_classes_differ_in_size() -> None:
    logits = np.array([[1, 0]] * 9 + [[1, 0]], np.float32)
    scores = Scores(np.array(list("abcdefghij")), np.array([0] * 9 + [1]), logits, ("often", "rare"))
    found = evaluate(scores)
    assert (found["top1"], found["mean_class"]) == (90.0, 50.0)


def test_metrics_are_json() -> None:
    found = evaluate(make())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_labels_there_is_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="none of these clips has a label"):
        evaluate(make(unknown=80))


def test_interval_is_that_of_the_labelled_clips() -> None:
    found = evaluate(make())
    right = round(found["top1"] * found["n"] / 100)
    assert found["top1_interval"] == list(bootstrap_interval(right, 71))


@pytest.mark.parametrize(("right", "count"), [(430, 464), (30, 60), (3, 10)])
def test_interval_matches_an_actual_resampling(right: int, count: int) -> None:
    """Draw clips with replacement, again and again, and look at the middle 95 % of the accuracies."""
    rng = np.random.default_rng(7)
    clips = np.arange(count) < right
    accuracies = [100 * clips[rng.integers(0, count, count)].mean() for _ in range(10_000)]
    low, high = bootstrap_interval(right, count)
    step = 100 / count
    assert low == pytest.approx(np.percentile(accuracies, 2.5), abs=1.01 * step)
    assert high == pytest.approx(np.percentile(accuracies, 97.5), abs=1.01 * step)
    assert low < 100 * right / count < high


def test_interval_of_a_perfect_or_hopeless_score() -> None:
    assert bootstrap_interval(50, 50) == (100.0, 100.0)
    assert bootstrap_interval(0, 50) == (0.0, 0.0)


def test_interval_is_the_same_every_time() -> None:
    assert bootstrap_interval(40, 50) == bootstrap_interval(40, 50, seed=0)
    narrow, wide = bootstrap_interval(800, 1000), bootstrap_interval(40, 50)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


# What joining modalities changes.


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
    assert found["skeleton"]["broken"] == {
        "n": 1,
        "clips": [{"sample_id": "clip3", "label": "a", "alone": "a", "joined": "b"}],
    }
    mended = found["skeleton"]["mended"]
    assert mended["n"] == 3
    # The true class gains 0.85, 0.7 and 0.35.
    assert [clip["sample_id"] for clip in mended["clips"]] == ["clip6", "clip1", "clip0"]
    assert mended["clips"][0] == {"sample_id": "clip6", "label": "c", "alone": "a", "joined": "c"}
    assert found["same"] == {"mended": {"n": 0, "clips": []}, "broken": {"n": 0, "clips": []}}
    short = fusion_changes(joined, {"skeleton": skeleton}, count=2)["skeleton"]["mended"]
    assert (short["n"], len(short["clips"])) == (3, 2)


def test_mended_and_broken_add_up_to_the_difference_in_accuracy() -> None:
    joined, alone = make(seed=1), make(seed=2)
    alone = Scores(joined.sample_ids, joined.labels, alone.logits, joined.class_names)
    changes = fusion_changes(joined, {"video": alone})["video"]
    difference = (evaluate(joined)["top1"] - evaluate(alone)["top1"]) * 71 / 100
    assert changes["mended"]["n"] - changes["broken"]["n"] == round(difference)
    assert changes["mended"]["n"] > 0
    json.dumps(changes)


def test_ten_clips_are_named_and_equal_ones_in_the_stores_order() -> None:
    wrong = made_scores([1] * 24, [0.8, 0.9] * 12, [0] * 24)
    right = made_scores([0] * 24, [0.9, 0.8] * 12, [0] * 24)
    surest = [f"clip{n}" for n in range(1, 20, 2)]
    mistakes = surest_mistakes(wrong)
    assert [mistake["sample_id"] for mistake in mistakes] == surest
    assert {mistake["probability"] for mistake in mistakes} == {0.9}
    assert {mistake["answer"] for mistake in mistakes} == {"b"}
    assert surest_mistakes(made_scores([1], [1 / 1.7], [0]))[0]["probability"] == 0.5882
    for change, joined, alone in (("mended", right, wrong), ("broken", wrong, right)):
        found = fusion_changes(joined, {"video": alone})["video"][change]
        assert found["n"] == 24
        # The first gains 0.9 less 0.1, the second 0.8 less 0.05.
        assert [clip["sample_id"] for clip in found["clips"]] == [f"clip{n}" for n in range(0, 20, 2)]


def test_fusion_of_other_clips_is_refused() -> None:
    with pytest.raises(ValueError, match="video alone are of other clips"):
        fusion_changes(make(), {"video": make(count=79)})
