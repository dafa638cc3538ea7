from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import contrast
import numpy as np
import pytest
from study_runs import StudyError
from study_table import EACH

from hhmnet.commands.configuration import read_config
from hhmnet.config import TrainConfig
from hhmnet.data.transform import DataConfig
from hhmnet.evaluation.scores import Scores
from hhmnet.models.homogeneous import FusionConfig
from hhmnet.store import Store

FOUR = "joint+bone+joint_motion+bone_motion"


def words(recipe: Path, store: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--config", str(recipe), "--data", str(store), "--out", str(out)),
        *("--data.stream", "joint+bone", *more),
    ]


def asked(**options: Any) -> Namespace:
    return Namespace(**{"lambdas": [0.5], "positives": ["class"], "streams": None} | options)


def base(weights: tuple[float, ...] = (0.6, 0.5, 0.4, 0.3), stream: str = FOUR) -> TrainConfig:
    fusion = FusionConfig(contrast=7.0, temperature=0.2, positives="clip", weights=weights)
    return TrainConfig(fusion=fusion, data=DataConfig(stream=stream))


def test_rows_differ_in_weight_and_positives_alone() -> None:
    found = contrast.rows(asked(lambdas=[1.0, 0.0, 0.25, 1.0], positives=["clip", "class"]), base())
    settings = {row.name: (row.config.fusion.contrast, row.config.fusion.positives) for row in found}
    assert settings == {
        "lambda-0": (0.0, "class"),
        "lambda-0.25-class": (0.25, "class"),
        "lambda-1-class": (1.0, "class"),
        "lambda-0.25-clip": (0.25, "clip"),
        "lambda-1-clip": (1.0, "clip"),
    }
    for row in found:
        assert row.against == "lambda-0"
        changed = asdict(row.config)
        changed["fusion"] |= {"contrast": 7.0, "positives": "clip"}
        assert changed == asdict(base())


def test_some_streams_have_a_baseline_and_weights_of_their_own() -> None:
    found = contrast.rows(asked(streams=["bone_motion+joint", FOUR, "joint+bone_motion"]), base())
    assert [(row.name, row.against) for row in found] == [
        ("joint+bone_motion-lambda-0", "joint+bone_motion-lambda-0"),
        ("joint+bone_motion-lambda-0.5-class", "joint+bone_motion-lambda-0"),
        ("lambda-0", "lambda-0"),
        ("lambda-0.5-class", "lambda-0"),
    ]
    assert found[1].config.data.streams == ("joint", "bone_motion")
    assert found[1].config.fusion.weights == (0.6, 0.3)
    assert found[3].config.fusion.weights == (0.6, 0.5, 0.4, 0.3)
    assert contrast.rows(asked(streams=["joint+bone"]), base(()))[0].config.fusion.weights == ()


@pytest.mark.parametrize(
    ("streams", "recipe", "message"),
    [
        ("joint+bone", base(stream="joint+joint_motion", weights=()), "has joint\\+joint_motion, not bone"),
        ("joint+elbow", base(), "unknown stream 'elbow'"),
        ("joint", base(), "two streams or more, not joint alone"),
        (None, base((), "bone"), "two streams or more, not bone alone"),
        ("joint+bone", base((0.0, 0.0, 1.0, 1.0)), "joint\\+bone: .* must not be all zero"),
        (None, base((1.0, 1.0)), "'fusion.weights' has 2 numbers for 4 streams"),
    ],
)
def test_streams_that_cannot_be_compared_are_named(
    streams: str | None, recipe: TrainConfig, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        contrast.rows(asked(streams=streams and [streams]), recipe)


def test_runs_are_trained_once_and_tabled_with_their_streams(
    recipe: Path, store_folder: Path, tmp_path: Path, commands: list[list[str]]
) -> None:
    call = words(recipe, store_folder, tmp_path, "--lambdas", "0.5", "--seeds", "3", "--folds", "1")
    assert contrast.main([*call, "--run.graph", "true", "--optim.lr", "0.01"]) == 0
    assert len(commands) == 2
    hits: dict[str, dict[str, list[bool]]] = {}
    for row, weight in (("lambda-0", 0.0), ("lambda-0.5-class", 0.5)):
        run = tmp_path / row / "fold1-seed3"
        config = read_config(run / "config.yaml")
        assert (config.fold, config.run.seed, config.optim.lr, config.run.graph) == (1, 3, 0.01, True)
        assert (config.data.stream, config.fusion.contrast) == ("joint+bone", weight)
        for name, file in (("", "scores"), ("joint", "scores-joint"), ("bone", "scores-bone")):
            scores = Scores.load(run / "eval-val" / f"{file}.parquet")
            assert all(clip.endswith("v01") for clip in scores.sample_ids)  # fold 1 holds out view 1
            found = [bool(a.argmax() == b) for a, b in zip(scores.logits, scores.labels, strict=True)]
            hits.setdefault(row, {})[name] = found

    document = json.loads((tmp_path / "contrast.json").read_text())
    rows = document["rows"]
    assert document["split"] == "val"
    assert rows["lambda-0.5-class"]["settings"] == {
        "stream": "joint+bone",
        "contrast": 0.5,
        "positives": "class",
    }
    share = {
        row: {name: 100 * sum(hit) / len(hit) for name, hit in parts.items()} for row, parts in hits.items()
    }
    for row, parts in share.items():
        assert rows[row]["mean"] == pytest.approx(parts[""])
        for name in ("joint", "bone"):
            assert rows[row]["streams"][name]["mean"] == pytest.approx(parts[name])
    on, off = share["lambda-0.5-class"], share["lambda-0"]
    found = rows["lambda-0.5-class"]
    assert found["difference"]["mean"] == pytest.approx(on[""] - off[""])
    assert found["streams"]["bone"]["difference"]["mean"] == pytest.approx(on["bone"] - off["bone"])
    gain = (on["bone"] - off["bone"] + on["joint"] - off["joint"]) / 2
    assert found["streams"][EACH]["difference"]["mean"] == pytest.approx(gain)
    # Two tables of a heading, a rule and two rows, and a line between them.
    assert len((tmp_path / "contrast.md").read_text().splitlines()) == 9

    # A stream's scores are missing after a kill: the run is scored again, but not trained.
    (tmp_path / "lambda-0" / "fold1-seed3" / "eval-val" / "scores-bone.parquet").unlink()
    assert contrast.main([*call, "--optim.lr", "0.01", "--jobs", "2"]) == 0
    assert len(commands) == 2
    assert json.loads((tmp_path / "contrast.json").read_text())["rows"] == rows


def test_corrected_labels_are_what_is_measured(
    recipe: Path, store_folder: Path, tmp_path: Path, commands: list[list[str]]
) -> None:
    store = Store(store_folder)
    held = np.flatnonzero(store.cameras == "1")  # fold 1
    wrong, out = store.sample_ids[held[:5]], store.sample_ids[held[5]]
    corrected = tmp_path / "corrected.yaml"
    names = "".join(f"  {name}: {store.class_names[9]}\n" for name in wrong)
    corrected.write_text(f"{recipe.read_text()}relabel:\n{names}  {out}: ''\n")
    call = words(corrected, store_folder, tmp_path / "runs", "--lambdas", "0", "--folds", "1")
    assert contrast.main(call) == 0
    scores = Scores.load(tmp_path / "runs" / "lambda-0" / "fold1-seed0" / "eval-val" / "scores-bone.parquet")
    right = [
        bool(logits.argmax() == (9 if name in wrong else label))
        for name, label, logits in zip(scores.sample_ids, store.labels[held], scores.logits, strict=True)
        if name != out
    ]
    found = json.loads((tmp_path / "runs" / "contrast.json").read_text())["rows"]["lambda-0"]
    assert found["streams"]["bone"]["mean"] == pytest.approx(100 * np.mean(right))
    assert found["runs"]["fold1-seed0"]["clips"] == len(held) - 1


def test_without_folds_all_training_clips_train_and_the_test_clips_are_scored(
    recipe: Path,
    store_folder: Path,
    tmp_path: Path,
    commands: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = words(recipe, store_folder, tmp_path, "--lambdas", "0", "--folds", "none", "--epochs", "1")
    assert contrast.main(call) == 0
    assert "top-1 % on the test clips, 1 of 1 runs" in capsys.readouterr().out
    run = tmp_path / "lambda-0" / "all-seed0"
    assert read_config(run / "config.yaml").fold is None
    assert json.loads((run / "environment.json").read_text())["clips"] == 40
    scores = Scores.load(run / "eval-test" / "scores.parquet")
    assert len(scores.sample_ids) == 20
    assert all(clip.endswith("v03") for clip in scores.sample_ids)
    document = json.loads((tmp_path / "contrast.json").read_text())
    assert document["split"] == "test"
    assert list(document["rows"]["lambda-0"]["folds"]) == ["test"]
    assert not (run / "eval-val").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--fusion.contrast", "1"), "--fusion.contrast is set by the study itself"),
        (("--fusion.positives=clip",), "--fusion.positives is set by the study itself"),
        (("--lambdas", "-1"), "'-1' is not a number from 0"),
        (("--lambdas", "much"), "'much' is not a number from 0"),
        (("--positives", "all"), "invalid choice: 'all'"),
        (("--folds", "none", "1"), "--folds none scores the test clips; folds don't go with it"),
        (("--streams", "joint+bone_motion"), "the recipe has joint+bone, not bone_motion"),
        (("--data.stream", "joint"), "two streams or more, not joint alone"),
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
    refused(contrast.main(words(recipe, store_folder, tmp_path / "out", *more)), message)
    assert not (tmp_path / "out").exists()
