from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hhmnet.training import logs
from hhmnet.training.logs import EpochLog, LogError, RunLog, git_commit, read_log


def fill(folder: Path, epochs: range, done: int = 0) -> None:
    log = RunLog(folder, done)
    for epoch in epochs:
        log.add(EpochLog(epoch, 2.0 / epoch, 10.0 * epoch, 0.001, 123.5, 4.25, None if epoch % 2 else 50.0))
    log.close()


def test_a_resumed_run_has_every_epoch_once_in_both_logs(tmp_path, monkeypatch):
    # Files of one second are read in the order of a counter's digits, in which 10 comes before 9.
    writer = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(0))
    fill(tmp_path, range(1, 6))
    with open(tmp_path / "log.csv", "ab") as file:
        file.write(b"6,0.1,9")  # half a line, as a machine leaves it that loses power
    fill(tmp_path, range(4, 7), done=3)
    assert (tmp_path / "log.csv").read_text().splitlines()[:3] == [
        "epoch,loss,accuracy,lr,samples_per_second,seconds,val_top1",
        "1,2,10,0.001,123.5,4.25,",
        "2,1,20,0.001,123.5,4.25,50",
    ]
    rows = read_log(tmp_path / "log.csv")
    assert [row.epoch for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.val_top1 for row in rows] == [None, 50.0] * 3
    assert rows[2].loss == pytest.approx(2 / 3, rel=1e-5)
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in losses] == pytest.approx([2 / epoch for epoch in range(1, 7)])
    assert [event.step for event in events.Scalars("val/top1")] == [2, 4, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "line 1 must be epoch,loss"),
        ("{head}1,2,3,4,5,6,\n2,x,3,4,5,6,\n", "line 3 is not a row"),
        ("{head}1,2,3,4,5,6\n", "line 2 is not a row"),
    ],
)
def test_a_log_that_is_none_names_the_line(tmp_path, text, message):
    (tmp_path / "log.csv").write_text(text.replace("{head}", logs._HEAD))
    with pytest.raises(LogError, match=message):
        RunLog(tmp_path)


def test_commit_of_a_checkout_and_of_a_package_in_somebody_elses(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *author, *words], check=True, capture_output=True)

    file, installed = tmp_path / "logs.py", tmp_path / ".venv/logs.py"
    file.write_text("1\n")
    git("init")
    git("add", "logs.py")
    git("commit", "-m", "one")
    monkeypatch.setattr(logs, "__file__", str(file))
    commit = git_commit()
    assert len(commit) == 40
    file.write_text("2\n")
    assert git_commit() == commit + "+changes"
    installed.parent.mkdir()
    installed.write_text("1\n")
    monkeypatch.setattr(logs, "__file__", str(installed))
    assert git_commit() is None
