from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
import torch

from hhmnet.training import logs
from hhmnet.training.logs import (
    EpochLog,
    LogError,
    RunLog,
    environment,
    git_commit,
    read_log,
    write_environment,
)


def row(epoch: int, val: float | None = None) -> EpochLog:
    return EpochLog(epoch, 2.0 / epoch, 10.0 * epoch, 0.001, 123.5, 4.25, val)


def fill(folder: Path, epochs: range, done: int = 0) -> None:
    log = RunLog(folder, done)
    for epoch in epochs:
        log.add(row(epoch, 50.0 if epoch % 2 == 0 else None))
    log.close()


def test_rows_come_back(tmp_path):
    fill(tmp_path, range(1, 5))
    assert (tmp_path / "log.csv").read_text().splitlines()[:3] == [
        "epoch,loss,accuracy,lr,samples_per_second,seconds,val_top1",
        "1,2,10,0.001,123.5,4.25,",
        "2,1,20,0.001,123.5,4.25,50",
    ]
    rows = read_log(tmp_path / "log.csv")
    assert [r.epoch for r in rows] == [1, 2, 3, 4]
    assert [r.val_top1 for r in rows] == [None, 50.0, None, 50.0]
    assert rows[2].loss == pytest.approx(2 / 3, rel=1e-5)


def test_resuming_drops_what_will_be_trained_again(tmp_path):
    fill(tmp_path, range(1, 6))
    fill(tmp_path, range(4, 7), done=3)
    assert [r.epoch for r in read_log(tmp_path / "log.csv")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "line 1 must be epoch,loss"),
        ("{head}\n1,2,3,4,5,6,\n2,x,3,4,5,6,\n", "line 3 is not a row"),
        ("{head}\n1.5,2,3,4,5,6,\n", "line 2 is not a row"),
    ],
)
def test_a_log_that_is_none_names_the_line(tmp_path, text, message):
    file = tmp_path / "log.csv"
    head = ",".join(field.name for field in dataclasses.fields(EpochLog))
    file.write_text(text.replace("{head}", head))
    with pytest.raises(LogError, match=message):
        RunLog(tmp_path)


def test_half_a_line_at_the_end_is_no_line(tmp_path):
    """As a machine leaves it that loses power."""
    fill(tmp_path, range(1, 4))
    file = tmp_path / "log.csv"
    whole = file.read_bytes()
    file.write_bytes(whole + b"4,0.1,9")
    assert [row.epoch for row in read_log(file)] == [1, 2, 3]
    RunLog(tmp_path, 3).close()
    assert file.read_bytes() == whole


def test_tensorboard_holds_the_same_figures_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fill(tmp_path, range(1, 6))
    fill(tmp_path, range(4, 7), done=3)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in losses] == pytest.approx([2 / epoch for epoch in range(1, 7)])
    assert [event.step for event in events.Scalars("val/top1")] == [2, 4, 6]


def test_environment_is_json_without_paths(tmp_path):
    facts = environment(torch.device("cpu"))
    assert facts["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert facts["device"]
    write_environment(tmp_path, facts)
    assert json.loads((tmp_path / "environment.json").read_text()) == facts
    assert [path.name for path in tmp_path.iterdir()] == ["environment.json"]


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A git repository that tracks the file which asks for its commit."""

    def git(*words: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *author, *words], check=True, capture_output=True)

    if subprocess.run(["git", "--version"], capture_output=True).returncode:
        pytest.skip("git is not installed")
    file = tmp_path / "logs.py"
    file.write_text("1\n")
    git("init")
    git("add", "logs.py")
    git("commit", "-m", "one")
    monkeypatch.setattr(logs, "__file__", str(file))
    return file


def test_commit_of_a_checkout(checkout):
    commit = git_commit()
    assert commit is not None
    assert len(commit) == 40
    checkout.write_text("2\n")
    assert git_commit() == commit + "+changes"


def test_a_package_in_somebody_elses_repository_has_no_commit(checkout, monkeypatch):
    installed = checkout.parent / ".venv" / "logs.py"
    installed.parent.mkdir()
    installed.write_text("1\n")
    monkeypatch.setattr(logs, "__file__", str(installed))
    assert git_commit() is None
