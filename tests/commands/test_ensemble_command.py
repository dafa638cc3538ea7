"""``hhmnet ensemble``, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.evaluation.scores import Scores

CLASSES = ("sit", "stand", "walk")


def write(file: Path, seed: int, prefix: str = "test", good: float = 1.0, labelled: bool = True) -> Path:
    labels = np.random.default_rng(0).integers(0, 3, 40)
    logits = np.random.default_rng(seed).normal(size=(40, 3)).astype(np.float32)
    logits[np.arange(40), labels] += good
    file.parent.mkdir(parents=True, exist_ok=True)
    ids = np.array([f"{prefix} {i}" for i in range(40)])
    Scores(ids, labels if labelled else np.full(40, -1), logits, CLASSES).save(file)
    return file


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    return [str(write(tmp_path / name / "scores.parquet", seed).parent) for seed, name in enumerate("abc")]


def test_joins_and_measures(three: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "joined"
    assert main(["ensemble", *three, "--weights", "2", "1", "1", "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    scores = [Scores.load(Path(folder) / "scores.parquet") for folder in three]
    joined = 2 * scores[0].logits + scores[1].logits + scores[2].logits
    assert metrics["top1"] == pytest.approx(100 * (joined.argmax(1) == scores[0].labels).mean())
    assert metrics["weights"] == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert list(metrics["members"]) == ["a", "b", "c"]
    assert list(metrics["subsets"]) == ["a + b", "a + c", "b + c"]
    np.testing.assert_allclose(Scores.load(out / "scores.parquet").logits, joined / 4, rtol=1e-4, atol=1e-6)
    shown = capsys.readouterr().out
    assert "a + b" in shown
    assert "clips answered differently: a / b" in shown


def test_weights_come_from_validation_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = [str(write(tmp_path / f"t{i}.parquet", i)) for i in range(2)]
    held = [str(write(tmp_path / f"v{i}.parquet", 9 + i, "val", good=4 - 4 * i)) for i in range(2)]
    out = tmp_path / "o"
    assert main(["ensemble", *test, "--validation", *held, "--out", str(out), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)  # the only output
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert metrics["weights_from"] == "40 validation clips"
    assert metrics["weights"]["t0"] > metrics["weights"]["t1"]


def test_bad_calls_end_with_one_line(
    three: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(write(tmp_path / "other.parquet", 1, "other"))
    blank = str(write(tmp_path / "blank.parquet", 1, labelled=False))
    calls = [
        ([*three, "--weights", "1", "2"], "2 weights for 3 score files"),
        ([three[0], other], "have different clips"),
        ([three[0], three[0]], "a score file is given twice"),
        ([blank], "no clip has a label"),
        ([str(tmp_path / "none.parquet")], "none.parquet"),
        ([*three, "--validation", other], "--validation has 1 score files, there are 3"),
        ([three[0], "--validation", three[1]], "40 clips are in --validation and among those to be measured"),
        ([three[0], "--weights", "1", "--validation", other], "not both"),
    ]
    for words, message in calls:
        out = tmp_path / "never"
        assert main(["ensemble", *words, "--out", str(out)]) == 2, words
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not out.exists()
