"""Every program in examples/ runs as its page says."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from hhmnet.evaluation.scores import Scores
from hhmnet.predict.recognizer import Recognizer
from hhmnet.sample import Sample
from hhmnet.store import Store

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A function that runs an example with these words and returns what it prints."""

    def run(name: str, *words: str | Path) -> str:
        file = next(file for file in EXAMPLES if file.stem == name)
        monkeypatch.setattr(sys, "argv", [str(file), *map(str, words)])
        runpy.run_path(str(file), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_is_short_shown_and_has_help(file: Path, run, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(file.read_text().splitlines()) < 50
    page = (file.parents[1] / "docs/examples.md").read_text()
    assert f"{{literalinclude}} ../examples/{file.name}\n" in page
    with pytest.raises(SystemExit) as leaving:
        run(file.stem, "--help")
    assert leaving.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_predict_clip(run, finished_run: Path, raw_folder: Path) -> None:
    clip = next(raw_folder.glob("a*.json"))
    wanted = Recognizer.from_pretrained(finished_run, "cpu").predict(clip)
    lines = run("predict_clip", finished_run, clip).splitlines()
    assert lines[0].startswith(f"{wanted.label}, going by skeleton, ")
    assert lines[1] == f"{wanted.top[0][1]:6.1%}  {wanted.label}"


def test_train_on_store(run, store_folder: Path, tmp_path: Path) -> None:
    lines = run("train_on_store", store_folder, tmp_path / "run", "--epochs", "1").splitlines()
    assert lines[0].startswith("epoch 1: loss ")
    assert re.fullmatch(r"\d+\.\d % of 20 clips right; 95 % interval .*", lines[-1])
    assert set(Recognizer.from_pretrained(tmp_path / "run", "cpu").engine.model.members) == {
        "joint",
        "joint_motion",
    }


def test_arrays_to_model(run, tiny_store: Store, tmp_path: Path) -> None:
    for row in range(12):
        sample = tiny_store.sample(row)
        folder = tmp_path / "arrays" / tiny_store.class_names[sample.label]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{sample.sample_id}.npy", sample.joints[0])
    said = run("arrays_to_model", tmp_path / "arrays", tmp_path / "out", "--epochs", "1")
    store = Store(tmp_path / "out/store")
    assert store.class_names == tuple(sorted(tiny_store.class_names))
    assert store.splits.tolist().count("test") == 3
    first: Sample = store.sample(0)
    before = tiny_store.sample(tiny_store.index(first.sample_id.rpartition("/")[2]))
    np.testing.assert_array_equal(first.joints, before.joints)
    assert store.class_names[first.label] == tiny_store.class_names[before.label]
    answer = Recognizer.from_pretrained(tmp_path / "out/run", "cpu").predict(first).label
    assert said == f"{first.sample_id}: {answer}\n"


def test_confusion_matrix(run, tmp_path: Path) -> None:
    labels, answers = np.array([0, 0, 0, 1, 2, -1]), np.array([0, 1, 1, 1, 0, 2])
    names = np.array([f"clip{n}" for n in range(6)])
    Scores(names, labels, np.eye(3, dtype=np.float32)[answers], ("nod", "wave", "kick")).save(
        tmp_path / "scores.parquet"
    )
    lines = run("confusion_matrix", tmp_path / "scores.parquet", tmp_path / "out.png").splitlines()
    assert lines[:3] == ["2 of 5 clips are right", "2 of 3 nod → wave", "1 of 1 kick → nod"]
    assert len(lines) == 4
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_stream_skeletons(run, finished_run: Path, store_folder: Path) -> None:
    store = Store(store_folder)
    row = int(np.argmin(store.lengths))
    lines = run("stream_skeletons", finished_run, store_folder, store.sample_ids[row]).splitlines()
    assert lines
    last = (int(store.lengths[row]) - 1) / 30
    assert lines[-1].startswith(f"{last:5.2f} s  ")
    assert all(any(name in line for name in store.class_names) for line in lines)
