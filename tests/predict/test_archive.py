"""Predictions of many clips: here and on a Ray cluster, whose workers die."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.predict.archive import ArchiveReport, predict_archive
from hhmnet.predict.sources import InputError
from made_archive_job import make_job, put_clips

pytestmark = pytest.mark.xdist_group("ray")  # one cluster for all
TEXTS = ["wave", "nod", "bad", "wave", "odd", "kick", "nod"]
LABELS = {"clip 0": "wave", "clip 1": "nod", "clip 3": "wave", "clip 5": "kick", "clip 6": "nod"}
FAILED = {"clip 2": "clip 2: is no clip", "clip 4": "ZeroDivisionError: division by zero"}


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows; fails if a clip is there twice."""
    found = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len({row["input"] for row in found}) == len(found)
    return found


def labels(out: Path) -> dict[str, str]:
    return {row["input"]: row["label"] for row in rows(out) if "label" in row}


def test_bad_clips_are_named_and_the_same_call_goes_on_after_an_interruption_with_more_clips(
    tmp_path: Path,
) -> None:
    inputs, job, out = put_clips(tmp_path / "clips", TEXTS), make_job(tmp_path / "model"), tmp_path / "out"
    counts: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        counts.append((done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_archive(inputs[:6], job, out, progress=stop)
    assert counts == [(n, 6) for n in range(5)]
    with open(out / "answers.jsonl", "ab") as file:
        file.write(b'{"input": "clip 4", "lab')  # as a process leaves it that was killed
    assert predict_archive(inputs[3:] + inputs, job, out) == ArchiveReport(5, FAILED, 4)
    assert labels(out) == LABELS
    assert len((job.run / "tried").read_text().splitlines()) == len(TEXTS)


def test_a_name_of_any_bytes_keeps_the_others_answers(tmp_path: Path) -> None:
    inputs, job, out = put_clips(tmp_path / "clips", TEXTS), make_job(tmp_path / "model"), tmp_path / "out"
    inputs[1] = inputs[1]._replace(name=os.fsdecode(b"b\xdcbung"))
    for found in (0, 7):
        report = predict_archive(inputs, job, out)
        assert (report.answered, report.found) == (4, found)  # the made model stumbles over it
    assert {os.fsencode(row["input"]) for row in rows(out)} >= {b"b\xdcbung", b"clip 0"}


def test_what_is_not_of_this_job_is_named(tmp_path: Path) -> None:
    inputs, job, out = put_clips(tmp_path / "clips", TEXTS), make_job(tmp_path / "model"), tmp_path / "out"
    predict_archive(inputs, job, out)
    content = (out / "answers.jsonl").read_text()
    for line in ("{", "7", '{"label": "wave"}'):
        (out / "answers.jsonl").write_text(f"{content}{line}\n")
        with pytest.raises(InputError, match=r"answers\.jsonl: line 8 is no answer; remove"):
            predict_archive(inputs, job, out)
    other, warmer = make_job(tmp_path / "other"), make_job(tmp_path / "warmer")
    (other.run / "model.safetensors").write_text("others")
    (warmer.run / "config.json").write_text("another temperature")
    beside = dataclasses.replace(job, options={"videos": tmp_path})
    for changed in (dataclasses.replace(job, top=3), beside, other, warmer):
        with pytest.raises(InputError, match="holds answers of another model, or with other settings"):
            predict_archive(inputs, changed, out)
    (out / "archive.json").write_text("{")
    with pytest.raises(InputError, match="holds answers of another model"):
        predict_archive(inputs, job, out)


def test_the_command_answers_as_it_does_one_by_one(
    finished_run: Path, raw_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, bad = [str(file) for file in sorted(raw_folder.glob("a*.json"))[:2]], tmp_path / "bad.json"
    assert main(["predict", str(finished_run), *files, "--device", "cpu", "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)
    bad.write_text("{")
    words = [*files, str(bad), "--device", "cpu", "--out", str(tmp_path / "out"), "--json"]
    for before in (0, 3):
        assert main(["predict", str(finished_run), *words]) == 2
        output = capsys.readouterr()
        report = json.loads(output.out)
        assert (report["answered"], report["found"], list(report["failed"])) == (2, before, [str(bad)])
        assert "bad.json" in output.err
    found = {row["input"]: row for row in rows(tmp_path / "out")}
    for answer in wanted:
        ours = found[answer["input"]]
        assert [one["label"] for one in ours["top"]] == [one["label"] for one in answer["top"]]
        shares = [[one["probability"] for one in row["top"]] for row in (ours, answer)]
        np.testing.assert_allclose(*shares, atol=1e-5)


def test_a_killed_worker_costs_no_clip_and_no_clip_is_answered_twice(ray: None, tmp_path: Path) -> None:
    inputs = put_clips(tmp_path / "clips", ["wave", "bad"] * 8)
    job, out = make_job(tmp_path / "model", seconds=0.1), tmp_path / "out"
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        """Kill whoever is at work, in the middle of the job."""
        if done >= 4 and not killed:
            killed.append(int((job.run / "tried").read_text().splitlines()[-1].split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    report = predict_archive(inputs, job, out, engine="ray", jobs=2, progress=kill)
    assert killed != [os.getpid()]
    assert (report.answered, sorted(report.failed)) == (8, sorted(f"clip {n}" for n in range(1, 16, 2)))
    assert labels(out) == {f"clip {n}": "wave" for n in range(0, 16, 2)}
    assert sorted(row["input"] for row in rows(out)) == sorted(item.name for item in inputs)


@pytest.mark.long
def test_a_clip_that_kills_its_worker_is_named_and_its_neighbours_are_answered(
    ray: None, tmp_path: Path
) -> None:
    inputs = put_clips(tmp_path / "clips", ["wave", "kill", "nod", "kick"])
    job = make_job(tmp_path / "model")
    report = predict_archive(inputs, job, tmp_path / "out", engine="ray", jobs=1)
    assert report == ArchiveReport(3, {"clip 1": "it was being read when 3 processes were killed"}, 0)
    assert labels(tmp_path / "out") == {"clip 0": "wave", "clip 2": "nod", "clip 3": "kick"}
    tried = Counter(line.split(" ", 1)[1] for line in (job.run / "tried").read_text().splitlines())
    assert tried == {"clip 0": 1, "clip 1": 3, "clip 2": 1, "clip 3": 1}
