"""``hhmnet embedding``, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.commands.configuration import write_config
from hhmnet.config import TrainConfig
from hhmnet.data.transform import DataConfig
from hhmnet.evaluation.embedding import collect, figures
from hhmnet.losses import LossConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec, from_pretrained
from hhmnet.models.stst import STSTConfig
from hhmnet.store import Store


def write_run(folder: Path, store: Store, contrast: float = 0.5, fold: int | None = None) -> Path:
    torch.manual_seed(int(10 * contrast))
    spec = ModelSpec(
        STSTConfig(widths=(16, 16), strides=(2, 2), head_width=8),
        DataConfig(stream="joint+bone", frames=8),
        store.layout,
        store.class_names,
        "nw_ucla_cross_view",
        fold,
    )
    ActionModel(spec.build(), spec).save_pretrained(folder)
    write_config(TrainConfig(loss=LossConfig(contrast=contrast)), folder / "config.yaml")
    return folder


@pytest.fixture
def pair(tmp_path: Path, tiny_store: Store) -> list[str]:
    """Two runs of the same name, the first without contrast."""
    return [
        str(write_run(tmp_path / name / "seed0", tiny_store, contrast))
        for name, contrast in (("before", 0.0), ("after", 0.5))
    ]


def test_figures_of_two_runs_as_json_as_a_table_and_as_a_picture(
    pair: list[str], tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, file = ["embedding", *pair, "--data", str(tiny_store.path)], tmp_path / "a.png"
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["store"], document["split"]) == ("tiny", "test")
    assert [run["run"] for run in document["runs"]] == ["before/seed0", "after/seed0"]
    assert [run["contrast"] for run in document["runs"]] == [0.0, 0.5]
    rows = np.flatnonzero(tiny_store.cameras == "3")
    for folder, run in zip(pair, document["runs"], strict=True):
        expected = json.loads(json.dumps(figures(collect(from_pretrained(folder), tiny_store, rows))))
        assert {name: run[name] for name in expected} == expected
    assert "before/seed0 was trained without contrast" in captured.err
    assert "after/seed0 was" not in captured.err
    assert main([*words, "--out", str(file)]) == 0
    shown = capsys.readouterr().out
    assert file.read_bytes().startswith(b"\x89PNG")
    for run in document["runs"]:
        assert f"{run['run']}: 10 clips of test" in shown
        assert f"{run['retrieval']['bone -> joint']['same_class']:.1f}" in shown
    (line,) = (line for line in shown.split("\n") if "silhouette of bone" in line)
    cells = [f"{run['silhouette']['bone']:.3f}" for run in document["runs"]]
    assert cells == [cell.strip() for cell in line.split("│")[2:4]]


def test_mistakes_are_one_line(
    pair: list[str],
    tiny_store: Store,
    finished_run: Path,
    store_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = [write_run(tmp_path / f"fold{fold}", tiny_store, fold=fold) for fold in (0, 1)]
    here = ["--data", str(tiny_store.path)]
    calls = [
        ([str(finished_run), "--data", str(store_folder)], "the model has one stream (joint)"),
        ([pair[0], pair[0], *here], "a run is given twice"),
        ([pair[0], *here, "--split", "val"], "val needs a fold, such as --fold 0"),
        ([*map(str, held), *here, "--split", "val"], "fold0 and fold1 hold out other clips"),
        ([str(tmp_path), *here], "no model there"),
    ]
    for words, message in calls:
        assert main(["embedding", *words, "--out", str(tmp_path / "never.png")]) == 2, words
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "never.png").exists()
    assert main(["embedding", *map(str, held), *here, "--split", "val", "--fold", "0"]) == 0
