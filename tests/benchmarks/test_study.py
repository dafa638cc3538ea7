from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import study
from study import EACH, WHOLE, Hits, difference, lines_of, summary

from hhmnet.cli import main as hhmnet
from hhmnet.commands.configuration import read_config
from hhmnet.evaluation.scores import Scores
from hhmnet.store import Store


def make_hits(seed: int, share: float, sizes: tuple[int, ...] = (40, 60), seeds: int = 2) -> Hits:
    rng = np.random.default_rng(seed)
    return {(fold, s): rng.random(size) < share for fold, size in enumerate(sizes) for s in range(seeds)}


def plain_difference(row: Hits, default: Hits, clips: dict[int, list[int]]) -> float:
    """The definition, with loops: over the drawn clips of each fold, then seeds, then folds."""
    folds = []
    for fold, drawn in clips.items():
        seeds = [s for f, s in row if f == fold]
        folds.append(
            mean(mean(int(row[fold, s][i]) - int(default[fold, s][i]) for i in drawn) for s in seeds)
        )
    return 100 * mean(folds)


def test_difference_and_interval_are_those_of_a_plain_paired_bootstrap() -> None:
    row, default, sizes = make_hits(1, 0.8), make_hits(2, 0.7), {0: 40, 1: 60}
    found = difference(row, default)
    assert found is not None
    everything = {fold: list(range(size)) for fold, size in sizes.items()}
    assert found[0] == pytest.approx(plain_difference(row, default, everything))
    dice = random.Random(3)
    draws = [
        plain_difference(row, default, {k: dice.choices(range(n), k=n) for k, n in sizes.items()})
        for _ in range(1000)
    ]
    # The draws differ; a percentile of 1,000 of them is good to about half a point here.
    assert found[1] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=1)


def test_rows_and_their_streams_are_compared_with_the_first() -> None:
    off = {WHOLE: make_hits(1, 0.8), "joint": make_hits(2, 0.6), "bone": make_hits(3, 0.5)}
    on = {WHOLE: make_hits(4, 0.9), "joint": make_hits(5, 0.7), "bone": make_hits(6, 0.6)}
    rows = summary({"off": off, "on": on, "none": {name: {} for name in off}})
    assert rows["off"]["difference"] is None
    streams = rows["on"]["streams"]
    gains = {name: difference(on[name], off[name]) for name in ("joint", "bone")}
    for name, gain in gains.items():
        assert gain is not None
        assert streams[name]["difference"] == {"mean": gain[0], "interval": list(gain[1])}
    assert streams[EACH]["difference"]["mean"] == pytest.approx(mean(gain[0] for gain in gains.values()))
    headings, *lines = lines_of(rows)
    assert headings == ["row", "fold 0", "fold 1", "mean", "difference", "95 % interval", "runs"]
    assert [line[0] for line in lines[:4]] == ["off", "on", "none", "off, joint"]
    gain = rows["on"]["mean"] - rows["off"]["mean"]
    assert lines[1][3:5] == [f"{rows['on']['mean']:.2f}", f"{gain:+.2f}"]
    assert lines[2][1:] == ["", "", "", "", "", "0"]


class InProcess:
    """Stands in for Popen: runs the very command here."""

    commands: list[list[str]]

    def __init__(self, command: list[str], **more: Any) -> None:
        self.commands.append(command)
        self.returncode = hhmnet(command[3:])

    def poll(self) -> int:
        return self.returncode


def call(recipe: Path, store: Path, out: Path, *more: str) -> int:
    words = ("--config", str(recipe), "--data", str(store), "--out", str(out), "--optim.epochs", "1")
    return study.run(study.main, [*words, *more])


def test_runs_are_trained_once_scored_with_corrected_labels_and_tabled(
    recipe: Path,
    store_folder: Path,
    tiny_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(InProcess, "commands", [], raising=False)
    monkeypatch.setattr(study, "Popen", InProcess)
    store, out = Store(store_folder), tmp_path / "o"
    held = np.flatnonzero(store.cameras == "1")  # fold 1
    wrong, without = store.sample_ids[held[:5]], store.sample_ids[held[5]]
    corrected = tmp_path / "corrected.yaml"
    names = "".join(f"  {name}: {store.class_names[9]}\n" for name in wrong)
    corrected.write_text(f"{recipe.read_text()}relabel:\n{names}  {without}: ''\n")
    words = ["--row", "off", "loss.contrast=0", "--row", "on", "loss.contrast=0.5", "--seeds", "3"]
    words += ["--folds", "1", "--data.stream", "joint+bone"]
    assert call(corrected, store_folder, out, *words) == 0
    assert len(InProcess.commands) == 2
    figures = json.loads((out / "study.json").read_text())["rows"]
    for row, weight in (("off", 0.0), ("on", 0.5)):
        folder = out / row / "fold1-seed3"
        config = read_config(folder / "config.yaml")
        assert (config.fold, config.run.seed, config.loss.contrast) == (1, 3, weight)
        for file, found in (("scores", figures[row]), ("scores-bone", figures[row]["streams"]["bone"])):
            scores = Scores.load(folder / "eval-val" / f"{file}.parquet")
            labels = np.where(np.isin(scores.sample_ids, wrong), 9, store.labels[held])
            right = (scores.predictions == labels)[scores.sample_ids != without]
            assert found["mean"] == pytest.approx(100 * right.mean())
    gain = figures["on"]["mean"] - figures["off"]["mean"]
    assert figures["on"]["difference"]["mean"] == pytest.approx(gain)
    assert len((out / "study.md").read_text().splitlines()) == 2 + 2 + 2 * 3

    # A stream's scores are missing after a kill: the run is scored again, but not trained.
    (out / "off/fold1-seed3/eval-val/scores-bone.parquet").unlink()
    assert call(corrected, store_folder, out, *words, "--jobs", "2") == 0
    assert len(InProcess.commands) == 2
    assert json.loads((out / "study.json").read_text())["rows"] == figures

    capsys.readouterr()
    assert call(corrected, store_folder, out, *words, "--optim.lr", "0.7") == 2
    assert "made with another optim.lr" in capsys.readouterr().err
    assert call(corrected, tiny_store.path, out, *words, "--table") == 2

    # Without folds all training clips train, and the test clips are scored.
    assert call(recipe, store_folder, tmp_path / "t", "--row", "default", "--folds", "none") == 0
    folder = tmp_path / "t/default/all-seed0"
    assert read_config(folder / "config.yaml").fold is None
    assert len(Scores.load(folder / "eval-test/scores.parquet").labels) == 20


def test_a_failed_training_is_told_with_its_last_words(
    recipe: Path,
    store_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Failing:
        returncode = 2

        def __init__(self, command: list[str], stdout: Any, **more: Any) -> None:
            stdout.write(b"all is well\nerror: the disk is full\n")

        def poll(self) -> int:
            return self.returncode

    monkeypatch.setattr(study, "Popen", Failing)
    assert call(recipe, store_folder, tmp_path, "--row", "default") == 2
    assert "default/fold0-seed0: training failed: error: the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--row", "a", "--seeds", "-1"), "'-1' is not a whole number"),
        (("--row", "a", "--folds", "2"), "has folds 0 to 1, got 2"),
        (("--row", "a", "--folds", "none", "1"), "--folds none scores the test clips"),
        (("--row", "a", "model.mask=round"), "field 'mask' must be one of"),
        ((), "--row"),
    ],
)
def test_mistakes_leave_no_folder(
    recipe: Path,
    store_folder: Path,
    tmp_path: Path,
    more: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(recipe, store_folder, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
