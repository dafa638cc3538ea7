"""``hhmnet train``, as a user runs it."""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import hhmnet
from hhmnet.cli import main
from hhmnet.commands.configuration import read_config
from hhmnet.confidence import neighbours_of
from hhmnet.files import locked
from hhmnet.models.pretrained import from_pretrained
from hhmnet.predict.recognizer import Recognizer
from hhmnet.store import Store
from hhmnet.training import engine
from made_models import same_weights

STEPS = 10  # 40 training clips, batches of 8, 2 epochs


@pytest.fixture
def train(store_folder: Path, recipe: Path, tmp_path: Path):
    def run(*more: str, config: Path | None = recipe, out: Path = tmp_path / "run") -> int:
        words = ["train", "--data", str(store_folder), "--out", str(out), *more]
        return main(words if config is None else [*words, "--config", str(config)])

    return run


def epochs(run: Path) -> list[str]:
    with open(run / "log.csv", newline="") as handle:
        return [row["epoch"] for row in csv.DictReader(handle)]


def test_a_run_leaves_all_that_is_promised(finished_run, recipe, store_folder):
    assert epochs(finished_run) == ["1", "2"]
    assert read_config(finished_run / "config.yaml") == read_config(recipe)
    assert hhmnet.from_pretrained(finished_run).spec.class_names == Store(store_folder).class_names
    facts = json.loads((finished_run / "environment.json").read_text())
    assert (facts["hhmnet"], facts["torch"]) == (hhmnet.__version__, torch.__version__)
    assert (facts["seed"], facts["clips"], facts["steps"], facts["threads"]) == (0, 40, STEPS, 1)
    assert facts["store"] == {"name": "sample", "clips": 60, "provenance": Store(store_folder).provenance}
    assert facts["training_seconds"] > 0
    assert str(store_folder.parent) not in json.dumps(facts)


def test_a_terminal_has_a_bar_and_elsewhere_progress_is_plain(train, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as terminal:
        terminal.setenv("FORCE_COLOR", "1")
        terminal.setenv("COLUMNS", "200")
        assert train(out=tmp_path / "other") == 0
    err = capsys.readouterr().err
    assert f"epoch 2/2 step {STEPS}/{STEPS}" in err
    assert "━" in err
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train() == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    for text in (f"epoch 2/2 step {STEPS}/{STEPS} loss ", "hhmnet evaluate", "'hhmnet[tensorboard]'"):
        assert text in captured.err
    assert "\x1b" not in captured.err


def test_a_run_whose_time_is_up_goes_on_to_the_same_end(train, at_step, finished_run, tmp_path, capsys):
    """One that is told to stop does, too: tests/faults."""
    now = time.monotonic
    with pytest.MonkeyPatch.context() as patch:
        at_step(7, lambda: patch.setattr("time.monotonic", lambda: now() + 4e6))
        assert train("--time-limit", "1000h") == 0
    out, err = tmp_path / "run", capsys.readouterr().err
    assert f"the time is up after step 7 of {STEPS}; go on with: hhmnet train" in err
    assert err.splitlines()[-1].endswith(" --resume")
    assert not (out / "model.safetensors").exists()
    assert json.loads((out / "environment.json").read_text())["steps"] == 7
    assert train("--resume", config=None) == 0
    assert same_weights(out, finished_run)
    assert epochs(out) == ["1", "2"]


def test_a_full_disk_and_a_small_gpu_are_one_line(train, tmp_path, capsys, monkeypatch):
    full = f"error: {tmp_path / 'run'}: No space left on device; make room there and give the same command again, "
    full += "or name another place; the last checkpoint is unharmed, --resume goes on from it"
    for error, message in (
        (OSError(28, "No space left on device"), full),
        (torch.OutOfMemoryError("CUDA"), "can't hold 8 clips at once; lower --optim.batch_size"),
    ):
        monkeypatch.setattr(engine.Trainer, "train_step", Mock(side_effect=error))
        assert train("--resume") == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_run_is_trained_again_by_its_own_configuration(train, run_copy, tmp_path):
    assert train(config=run_copy / "config.yaml", out=tmp_path / "same") == 0
    assert same_weights(tmp_path / "same", run_copy)


def test_what_happens_in_a_finished_runs_folder(train, run_copy, finished_run, capsys):
    for words, code, message in (
        ((), 2, f"error: {run_copy}: holds a run already; add --resume"),
        (("--resume",), 0, "has finished already"),
        (("--resume", "--optim.lr", "0.5"), 2, "optim.lr"),
    ):
        assert train(*words, out=run_copy) == code
        assert message in capsys.readouterr().err
        assert same_weights(run_copy, finished_run)
    with locked(run_copy, "training"):
        assert train("--resume", out=run_copy) == 2
    assert "another training is at work in this folder" in capsys.readouterr().err
    (run_copy / "model.safetensors").unlink()
    assert train("--resume", config=None, out=run_copy) == 0
    assert same_weights(run_copy, finished_run)
    (run_copy / "checkpoint.safetensors").write_bytes(b"torn")
    assert train("--resume", out=run_copy) == 2
    assert f"{run_copy / 'checkpoint.safetensors'}: can't be used" in capsys.readouterr().err


def test_a_fold_says_how_sure_a_model_may_be(store_folder, recipe, tmp_path, capsys):
    train = ["train", "--config", str(recipe), "--data", str(store_folder)]
    fold, whole = tmp_path / "fold", tmp_path / "whole"
    assert main([*train, "--out", str(fold), "--fold", "0"]) == 0
    assert main([*train, "--out", str(whole), "--calibration", str(fold)]) == 0
    ours, theirs = (from_pretrained(run).spec.confidence["skeleton"] for run in (whole, fold))
    assert ours == theirs
    assert ours.temperature != 1
    counts = [len(neighbours_of({"": one})[""]) for one in (ours, theirs)]
    assert counts == [40, 20]
    capsys.readouterr()
    evaluate = ["evaluate", str(whole), "--data", str(store_folder), "--json", "--device", "cpu"]
    assert main([*evaluate, "--unknown", str(store_folder)]) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics["temperature"] == ours.temperature
    assert metrics["unknown"]["n"] == 60
    clip = Store(store_folder)[0]
    sure = Recognizer.from_pretrained(whole, unknown=0).predict(clip)
    assert sure.known
    assert sure.label == sure.top[0][0]
