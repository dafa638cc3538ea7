from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ablation
import pytest
import study_runs

from hhmnet.commands.configuration import read_config
from hhmnet.config import TrainConfig
from hhmnet.evaluation.scores import Scores
from hhmnet.models.stst import STSTConfig
from hhmnet.store import Store

CHANGED: dict[str, dict[str, Any]] = {
    "default": {},
    "mask-none": {"mask": "none"},
    "mask-threshold": {"mask": "threshold"},
    "mask-random": {"mask": "random"},
    "reranking-none": {"reranking": "none"},
    "reranking-reciprocal": {"reranking": "reciprocal"},
    "plain-attention": {"mask": "none", "reranking": "none"},
    "select-false": {"select": False},
}


def words(recipe: Path, store: Path, out: Path, *more: str) -> list[str]:
    return ["--config", str(recipe), "--data", str(store), "--out", str(out), *more]


def test_every_row_is_listed() -> None:
    assert CHANGED.keys() == ablation.ROWS.keys()


@pytest.mark.parametrize("row", CHANGED)
def test_a_row_changes_its_own_part_of_the_default_alone(row: str) -> None:
    base = TrainConfig(model=STSTConfig(mask="none", reranking="none", select=False, density=(0.9, 0.3)))
    default = {"mask": "topk", "reranking": "jaccard", "select": True, "density": (0.9, 0.3)}
    made = ablation.make_row(base, row).config
    assert dataclasses.asdict(made.model) == dataclasses.asdict(base.model) | default | CHANGED[row]
    assert dataclasses.replace(made, model=base.model) == base


def test_runs_are_trained_once_and_tabled(
    recipe: Path, store_folder: Path, tmp_path: Path, commands: list[list[str]]
) -> None:
    call = words(recipe, store_folder, tmp_path, "--rows", "select-false", "--seeds", "3", "--folds", "1")
    assert ablation.main([*call, "--optim.lr", "0.01"]) == 0
    assert len(commands) == 2
    hits = {}
    for row, selects in (("default", True), ("select-false", False)):
        run = tmp_path / row / "fold1-seed3"
        config = read_config(run / "config.yaml")
        assert (config.fold, config.run.seed, config.optim.lr) == (1, 3, 0.01)
        assert (config.model.mask, config.model.reranking, config.model.select) == (
            "topk",
            "jaccard",
            selects,
        )
        scores = Scores.load(run / "eval-val" / "scores.parquet")
        assert all(name.endswith("v01") for name in scores.sample_ids)  # fold 1 holds out view 1
        hits[row] = [a.argmax() == b for a, b in zip(scores.logits, scores.labels, strict=True)]

    figures = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    share = {row: 100 * sum(hit) / len(hit) for row, hit in hits.items()}
    assert {row: figures[row]["mean"] for row in hits} == pytest.approx(share)
    gain = share["select-false"] - share["default"]
    assert figures["select-false"]["difference"]["mean"] == pytest.approx(gain)
    # The selection's two layers are all that goes: 16 -> 32 and 32 -> 2 * 16, in either block.
    assert figures["default"]["parameters"] - figures["select-false"]["parameters"] == 2 * (17 * 32 + 33 * 32)
    assert len((tmp_path / "ablation.md").read_text().splitlines()) == 4

    (tmp_path / "default" / "fold1-seed3" / "eval-val" / "scores.parquet").unlink()
    assert ablation.main([*call, "--optim.lr", "0.01"]) == 0
    assert len(commands) == 2  # scored again, but not trained
    assert json.loads((tmp_path / "ablation.json").read_text())["rows"] == figures


def test_runs_of_another_recipe_or_store_are_not_mixed_in(
    recipe: Path,
    store_folder: Path,
    tiny_store: Store,
    tmp_path: Path,
    commands: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    only = ["--rows", "default", "--folds", "0"]
    assert ablation.main(words(recipe, store_folder, tmp_path, *only)) == 0
    capsys.readouterr()
    assert ablation.main(words(recipe, store_folder, tmp_path, *only, "--epochs", "3")) == 2
    assert "made with another optim.epochs" in capsys.readouterr().err
    assert ablation.main(words(recipe, tiny_store.path, tmp_path, *only, "--table")) == 2
    assert "not the clips of fold 0" in capsys.readouterr().err
    assert len(commands) == 1


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

    monkeypatch.setattr(study_runs, "Popen", Failing)
    assert ablation.main(words(recipe, store_folder, tmp_path)) == 2
    err = capsys.readouterr().err
    assert "default/fold0-seed0: training failed: error: the disk is full" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model.mask", "none"), "--model.mask is set by the study itself"),
        (("--fold=1",), "--fold is set by the study itself"),
        (("--jobs", "0"), "--jobs 0"),
        (("--seeds", "-1"), "'-1' is not a whole number"),
        (("--folds", "none"), "'none' is not a whole number"),
        (("--folds", "2"), "has folds 0 to 1, got 2"),
        (("--model.kernel", "4"), "field 'kernel' must be odd"),
    ],
)
def test_mistakes_are_one_line(
    recipe: Path,
    store_folder: Path,
    tmp_path: Path,
    refused: Callable[[int, str], None],
    more: tuple[str, ...],
    message: str,
) -> None:
    refused(ablation.main(words(recipe, store_folder, tmp_path / "out", *more)), message)
    assert not (tmp_path / "out").exists()
