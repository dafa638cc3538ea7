from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import hhmnet
from hhmnet.cli import main
from hhmnet.commands import progress
from hhmnet.commands.configuration import read_config
from hhmnet.commands.progress import TrainingProgress
from hhmnet.commands.terminal import console
from hhmnet.lock import locked
from hhmnet.store import Store
from hhmnet.training import engine

STEPS = 10  # 40 training clips, batches of 8, 2 epochs


@pytest.fixture
def train(store_folder: Path, recipe: Path, tmp_path: Path):
    def run(*more: str, config: Path | None = recipe, out: Path = tmp_path / "run") -> int:
        words = ["train", "--data", str(store_folder), "--out", str(out), *more]
        return main(words if config is None else [*words, "--config", str(config)])

    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def log_rows(run: Path) -> list[dict[str, str]]:
    with open(run / "log.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_run_leaves_all_that_is_promised(finished_run, recipe, store_folder):
    assert [row["epoch"] for row in log_rows(finished_run)] == ["1", "2"]
    config = read_config(finished_run / "config.yaml")
    assert config == read_config(recipe)
    model = hhmnet.from_pretrained(finished_run)
    assert model.spec.class_names == Store(store_folder).class_names
    facts = json.loads((finished_run / "environment.json").read_text())
    assert facts["hhmnet"] == hhmnet.__version__
    assert facts["torch"] == torch.__version__
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
    assert train() == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"epoch 2/2 step {STEPS}/{STEPS} loss " in captured.err
    assert "clips/s 0:00 left" in captured.err
    assert "\x1b" not in captured.err
    assert "hhmnet evaluate" in captured.err


def test_a_second_run_in_one_folder_is_refused(train, run_copy, capsys):
    before = (run_copy / "model.safetensors").read_bytes()
    assert train(out=run_copy) == 2
    assert f"error: {run_copy}: holds a run already; add --resume" in capsys.readouterr().err
    assert (run_copy / "model.safetensors").read_bytes() == before


def test_what_resume_does_in_a_finished_runs_folder(train, run_copy, finished_run, capsys):
    before = log_rows(run_copy)
    with locked(run_copy, "training"):
        assert train("--resume", out=run_copy) == 2
    assert "another training is at work in this folder" in capsys.readouterr().err
    assert train("--resume", config=None, out=run_copy) == 0
    assert "has finished already" in capsys.readouterr().err
    assert log_rows(run_copy) == before
    assert train("--resume", "--optim.lr", "0.5", out=run_copy) == 2
    assert "optim.lr" in capsys.readouterr().err
    (run_copy / "model.safetensors").unlink()
    assert train("--resume", out=run_copy) == 0
    assert same(weights(run_copy), weights(finished_run))
    (run_copy / "checkpoint.safetensors").write_bytes(b"torn")
    assert train("--resume", out=run_copy) == 2
    assert f"{run_copy / 'checkpoint.safetensors'}: can't be used" in capsys.readouterr().err


def test_a_time_limit_stops_cleanly_and_resume_ends_where_one_run_does(
    train, at_step, finished_run, recipe, tmp_path, capsys
):
    at_step(7, lambda: time.sleep(1.5))
    assert train("--time-limit", "1.5s") == 0
    out = tmp_path / "run"
    err = capsys.readouterr().err
    assert f"the time is up after step 7 of {STEPS}" in err
    assert "--resume" in err.splitlines()[-1]
    assert not (out / "model.safetensors").exists()
    assert json.loads((out / "environment.json").read_text())["steps"] == 7
    assert train("--resume", config=None) == 0
    assert same(weights(out), weights(finished_run))
    assert [row["epoch"] for row in log_rows(out)] == ["1", "2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_checkpoints_and_exits_with_130(
    train, at_step, finished_run, tmp_path, capsys, number
):
    at_step(3, lambda: os.kill(os.getpid(), number))
    assert train() == 130
    assert f"interrupted after step 3 of {STEPS}; go on with: hhmnet train" in capsys.readouterr().err
    assert train("--resume") == 0
    assert same(weights(tmp_path / "run"), weights(finished_run))


def test_settings_that_do_not_fit_each_other_are_named(train, tmp_path, capsys):
    assert train("--model.chunks", "3", "--data.frames", "8") == 2
    err = capsys.readouterr().err
    assert "'model.chunks' is 3; it must divide the frames of every block, and one has 8" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_signal_to_the_program(store_folder, recipe, tmp_path):
    command = [sys.executable, "-m", "hhmnet", "train", "--config", str(recipe), "--data", str(store_folder)]
    command += ["--out", str(tmp_path / "run"), "--optim.epochs", "100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "epoch 1/" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted after step" in err
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    "mistake",
    [
        ("--fold", "9"),
        ("--protocol", "none"),
        ("--optim.lr", "x"),
        ("--optim.leraning_rate", "1"),
        ("--model.norm", "foo"),
    ],
)
def test_a_mistake_leaves_no_folder(train, tmp_path, capsys, mistake):
    assert train(*mistake) == 2
    err = capsys.readouterr().err
    assert err.startswith("hhmnet train: error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_missing_files_are_named(train, store_folder, recipe, tmp_path, capsys):
    assert train(config=tmp_path / "none.yaml") == 2
    assert f"error: {tmp_path / 'none.yaml'}: No such file or directory" in capsys.readouterr().err
    words = ["train", "--config", str(recipe), "--out", str(tmp_path / "run")]
    assert main([*words, "--data", str(tmp_path / "none")]) == 2
    assert f"no store at {tmp_path / 'none'}" in capsys.readouterr().err
    assert main(words) == 2
    assert "--data" in capsys.readouterr().err
    (tmp_path / "run").write_text("")
    assert train() == 2
    assert f"{tmp_path / 'run'}: is a file; name a folder" in capsys.readouterr().err


def test_without_tensorboard_a_note_names_the_extra(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train() == 0
    assert "pip install 'hhmnet[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_full_disk_is_one_line(train, tmp_path, capsys, monkeypatch):
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engine.checkpoint, "save", full)
    assert train() == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(
        f"hhmnet train: error: {tmp_path / 'run'}: No space left on device; make room there"
    )
    assert err.endswith("the last checkpoint is unharmed, --resume goes on from it")


def test_a_gpu_that_is_too_small_names_the_field(train, capsys, monkeypatch):
    def starve(*_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.Trainer, "_train_step", starve)
    assert train() == 2
    assert "can't hold 8 clips at once; lower --optim.batch_size" in capsys.readouterr().err


def test_plain_progress_skips_epochs_that_come_fast(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = TrainingProgress(console(), epochs=4, step=0, total=8)
    for epoch, clock[0] in ((1, 1.0), (2, 2.0), (3, 9.0), (4, 10.0)):
        shown.on_step(2 * epoch, 8)
        shown.on_epoch(engine.EpochLog(epoch, 1.0, 50.0, 0.1, 10.0, 1.0))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/4", "3/4", "4/4"]
    assert [line.split()[-2] for line in lines] == ["0:03", "0:03", "0:00"]  # 1 s for 2 steps, 9 s for 6


def test_a_run_is_trained_again_from_its_folder_alone(train, finished_run, tmp_path, capsys):
    again = tmp_path / "again"
    assert train("--from", str(finished_run), config=None, out=again) == 0
    assert same(weights(again), weights(finished_run))
    assert (again / "config.yaml").read_bytes() == (finished_run / "config.yaml").read_bytes()
    assert "this one's is" not in capsys.readouterr().err


def test_what_is_not_as_it_was_is_said(train, run_copy, tmp_path, capsys):
    file = run_copy / "environment.json"
    facts = json.loads(file.read_text())
    facts["torch"] = "2.9.0"
    facts["store"] |= {"name": "elsewhere", "clips": 59}
    file.write_text(json.dumps(facts))
    assert train("--from", str(run_copy), "--run.seed", "3", config=None, out=tmp_path / "again") == 0
    said = capsys.readouterr().err
    assert f"its torch was 2.9.0, this one's is {torch.__version__}" in said
    assert "its store's clips was 59, this one's is 60" in said
    assert said.count("this one's is") == 2
    assert read_config(tmp_path / "again/config.yaml", [], []).run.seed == 3


def test_from_and_config_exclude_each_other(train, run_copy, tmp_path, capsys):
    assert train("--from", str(run_copy), out=tmp_path / "again") == 2
    assert "leave --config out" in capsys.readouterr().err
    (run_copy / "environment.json").write_text("[]")
    assert train("--from", str(run_copy), config=None, out=tmp_path / "again") == 2
    assert "environment.json: not what a run writes" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
