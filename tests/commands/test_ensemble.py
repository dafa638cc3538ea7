"""Joining scores: what goes together, by which weights, and what comes of it; also as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.commands.ensemble import EnsembleError, align, choose_weights, fuse
from hhmnet.evaluation.scores import Scores

ALL = np.arange(30)


def scores(seed: int, good: float = 1.0, name: str = "clip") -> Scores:
    """Scores of the same clips for every seed; ``good`` is how far the right class stands out."""
    labels = np.random.default_rng(0).integers(0, 3, 30)
    logits = np.random.default_rng(seed).normal(size=(30, 3)).astype(np.float32)
    logits[ALL, labels] += good
    return Scores(np.array([f"{name} {i}" for i in ALL]), labels, logits, ("sit", "stand", "walk"))


def of(one: Scores, rows: np.ndarray) -> Scores:
    return Scores(one.sample_ids[rows], one.labels[rows], one.logits[rows], one.class_names)


A, B, C = (scores(seed) for seed in range(1, 4))


def test_the_answer_is_the_weighted_sum_clip_by_clip_whatever_the_files_order() -> None:
    order = np.random.default_rng(5).permutation(30)
    found = fuse(align({"a": A, "b": of(B, order), "c": C}), (3, 1, 0))
    np.testing.assert_allclose(found.logits, 0.75 * A.logits + 0.25 * B.logits, rtol=1e-5, atol=1e-6)
    assert found.logits.dtype == np.float32
    np.testing.assert_array_equal(found.sample_ids, A.sample_ids)
    np.testing.assert_array_equal(found.labels, A.labels)


OTHER_LABELS = np.where((ALL == 2) | (ALL == 7), (B.labels + 1) % 3, B.labels)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            of(B, ALL[8:]),
            "different clips, of which only one has: clip 0, clip 1, clip 2, clip 3, clip 4 and 3 more",
        ),
        (replace(B, labels=OTHER_LABELS), "different labels: clip 2: .*, clip 7:"),
        (replace(B, class_names=("sit", "rise", "walk")), "classes: number 1: 'stand' and 'rise'"),
        (replace(B, class_names=("sit", "stand"), logits=B.logits[:, :2]), "number 2: 'walk' and 'none'"),
        (of(B, np.append(ALL, 3)), "a sample_id stands there twice"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_first_differences(other: Scores, message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        align({"a": A, "b": other})


def test_chosen_weights_have_the_fewest_clips_wrong_and_of_equals_the_surest_are_taken() -> None:
    members = {"a": scores(1, good=1.5), "b": scores(2, good=0.7), "c": scores(3, good=0.0)}
    found = choose_weights(members)

    def wrong(weights: Sequence[float]) -> int:
        joined = sum(w * member.logits for w, member in zip(weights, members.values(), strict=True))
        return int((joined.argmax(1) != A.labels).sum())

    assert wrong(found) == min(wrong(tenths) for tenths in product(range(11), repeat=3) if sum(tenths) == 10)
    assert found.sum() == pytest.approx(1)
    sure, unsure = (replace(A, logits=size * np.eye(3, dtype=np.float32)[A.labels]) for size in (2, 1))
    np.testing.assert_allclose(choose_weights({"a": sure, "b": unsure}), [1, 0])


def saved(file: Path, one: Scores) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    one.save(file)
    return str(file)


def test_the_command_joins_and_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members, out = {"a": A, "b": B, "c": C}, tmp_path / "joined"
    for name, one in members.items():
        saved(tmp_path / name / "scores.parquet", one)
    three = [str(tmp_path / name) for name in members]
    assert main(["ensemble", *three, "--weights", "2", "1", "1", "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    joined = 2 * A.logits + B.logits + C.logits
    assert metrics["top1"] == pytest.approx(100 * (joined.argmax(1) == A.labels).mean())
    assert metrics["weights"] == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert list(metrics["members"]) == ["a", "b", "c"]
    assert list(metrics["subsets"]) == ["a + b", "a + c", "b + c"]
    np.testing.assert_allclose(Scores.load(out / "scores.parquet").logits, joined / 4, rtol=1e-4, atol=1e-6)
    shown = capsys.readouterr().out
    assert "a + b" in shown


def test_its_weights_come_from_validation_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = [saved(tmp_path / f"t{i}.parquet", scores(i)) for i in range(2)]
    held = [saved(tmp_path / f"v{i}.parquet", scores(9 + i, 4 - 4 * i, "val")) for i in range(2)]
    out = tmp_path / "o"
    assert main(["ensemble", *test, "--validation", *held, "--out", str(out), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)  # the only output
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert metrics["weights_from"] == "30 validation clips"
    assert metrics["weights"]["t0"] > metrics["weights"]["t1"]


def test_bad_calls_end_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = {"a": A, "b": B, "other": scores(1, name="other"), "blank": replace(A, labels=np.full(30, -1))}
    a, b, other, blank = (saved(tmp_path / f"{name}.parquet", one) for name, one in made.items())
    for words, message in (
        ([a, b, "--weights", "1"], "1 weights for 2 score files"),
        ([a, b, "--weights", "0", "0"], "weights must be 0 or more, and not all 0"),
        ([a, b, "--weights", "1", "nan"], "weights must be 0 or more, and not all 0"),
        ([a, a], "a score file is given twice"),
        ([blank], "no clip has a label"),
        ([str(tmp_path / "none.parquet")], "none.parquet"),
        ([a, b, "--validation", other], "--validation has 1 score files, there are 2"),
        ([a, "--validation", b], "30 clips are in --validation and among those to be measured"),
        ([a, "--weights", "1", "--validation", other], "--validation: not allowed with argument --weights"),
    ):
        assert main(["ensemble", *words, "--out", str(tmp_path / "never")]) == 2, words
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (tmp_path / "never").exists()
