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
from hhmnet.store import Store

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A function that runs an example with these words and returns the lines that it prints."""

    def run(name: str, *words: str | Path) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES[0].parent / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_is_short_and_shown(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 50
    page = (file.parents[1] / "docs/examples.md").read_text()
    assert f"{{literalinclude}} ../examples/{file.name}\n" in page


def test_predict_clip(run, finished_run: Path, raw_folder: Path) -> None:
    clip = next(raw_folder.glob("a*.json"))
    wanted = Recognizer.from_pretrained(finished_run, "cpu").predict(clip)
    lines = run("predict_clip", finished_run, clip)
    assert lines[0].startswith(f"{wanted.label}, going by skeleton, ")
    assert lines[1] == f"{wanted.top[0][1]:6.1%}  {wanted.label}"


def test_train_on_store(run, store_folder: Path, tmp_path: Path) -> None:
    lines = run("train_on_store", store_folder, tmp_path / "run", "--epochs", "1")
    assert lines[0].startswith("epoch 1: loss ")
    assert re.fullmatch(r"\d+\.\d % of 20 clips right; 95 % interval .*", lines[-1])


def test_arrays_to_model(run, tiny_store: Store, tmp_path: Path) -> None:
    for row in range(12):
        sample = tiny_store.sample(row)
        folder = tmp_path / "arrays" / tiny_store.class_names[sample.label]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{sample.sample_id}.npy", sample.joints[0])
    printed = run("arrays_to_model", tmp_path / "arrays", tmp_path / "out", "--epochs", "1")
    store = Store(tmp_path / "out/store")
    first = store.sample(0)
    before = tiny_store.sample(tiny_store.index(first.sample_id.rpartition("/")[2]))
    np.testing.assert_array_equal(first.joints, before.joints)
    assert store.class_names[first.label] == tiny_store.class_names[before.label]
    answer = Recognizer.from_pretrained(tmp_path / "out/run", "cpu").predict(first).label
    assert printed == [f"{first.sample_id}: {answer}"]


def test_confusion_matrix(run, tmp_path: Path) -> None:
    labels, answers = np.array([0, 0, 0, 1, 2, -1]), np.array([0, 1, 1, 1, 0, 2])
    names = np.array([f"clip{n}" for n in range(6)])
    scores = Scores(names, labels, np.eye(3, dtype=np.float32)[answers], ("nod", "wave", "kick"))
    scores.save(tmp_path / "scores.parquet")
    lines = run("confusion_matrix", tmp_path / "scores.parquet", tmp_path / "out.png")
    assert lines[:-1] == ["2 of 5 clips are right", "2 of 3 nod → wave", "1 of 1 kick → nod"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_stream_skeletons(run, finished_run: Path, store_folder: Path) -> None:
    store = Store(store_folder)
    row = int(np.argmin(store.lengths))
    lines = run("stream_skeletons", finished_run, store_folder, store.sample_ids[row])
    assert lines[-1].startswith(f"{(int(store.lengths[row]) - 1) / 30:5.2f} s  ")
    assert all(any(name in line for name in store.class_names) for line in lines)
