"""Answers on many clips, in shards: here and on a Ray cluster, whose workers die."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.predict import archive
from hhmnet.predict.archive import ArchiveError, ArchiveReport, answer_archive, read_answers
from hhmnet.predict.archive_cluster import DEATHS, Watch
from hhmnet.predict.sources import find_inputs
from hhmnet.prepare.cluster import EngineError
from made_question import MadeQuestion, make_question, put_clips

TEXTS = ["wave", "nod", "bad", "wave", "odd", "kick", "nod"]
LABELS = {"clip 0": "wave", "clip 1": "nod", "clip 3": "wave", "clip 5": "kick", "clip 6": "nod"}
FAILED = {"clip 2": "clip 2: is no clip", "clip 4": "ZeroDivisionError: division by zero"}


def labels(out: Path) -> dict[str, str]:
    """Labels by clip; fails if a clip is answered twice."""
    found = [answer for answer in read_answers(out) if "label" in answer]
    assert len({answer["input"] for answer in found}) == len(found)
    return {answer["input"]: answer["label"] for answer in found}


def shards(out: Path) -> list[str]:
    assert not list(out.glob("*.tmp"))
    return sorted(file.name for file in out.glob("answers-*"))


def test_a_bad_clip_is_named_and_the_others_are_answered(tmp_path: Path) -> None:
    inputs, question = put_clips(tmp_path / "clips", TEXTS), make_question(tmp_path / "model")
    told: list[tuple[int, int]] = []
    report = answer_archive(
        inputs, question, tmp_path / "out", shard=3, progress=lambda done, total: told.append((done, total))
    )
    assert report == ArchiveReport(5, FAILED, 0)
    assert labels(tmp_path / "out") == LABELS
    assert shards(tmp_path / "out") == [f"answers-{n:06d}.jsonl" for n in range(3)]
    assert told == [(0, 7), (3, 7), (6, 7), (7, 7)]
    assert [answer["row"] for answer in read_answers(tmp_path / "out") if "row" in answer] == [0, 1, 3, 5, 6]


def test_the_same_call_goes_on_and_more_clips_are_added(tmp_path: Path) -> None:
    inputs, question = put_clips(tmp_path / "clips", TEXTS), make_question(tmp_path / "model")
    answer_archive(inputs[:4], question, tmp_path / "out", shard=3)
    first = (tmp_path / "out" / "answers-000000.jsonl").read_bytes()
    assert answer_archive(inputs[3:] + inputs, question, tmp_path / "out") == ArchiveReport(5, FAILED, 4)
    assert labels(tmp_path / "out") == LABELS
    assert (tmp_path / "out" / "answers-000000.jsonl").read_bytes() == first
    tried = (question.run / "tried").read_text().splitlines()
    assert len(tried) == len(TEXTS)
    (question.run / "model.safetensors").touch()
    assert answer_archive(inputs, question, tmp_path / "out").found == 7


def test_an_interruption_costs_one_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, question = put_clips(tmp_path / "clips", TEXTS), make_question(tmp_path / "model")

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer_archive(inputs, question, tmp_path / "out", shard=2, progress=stop)
    assert len(shards(tmp_path / "out")) == 2
    assert answer_archive(inputs, question, tmp_path / "out", shard=2).found == 4
    assert labels(tmp_path / "out") == LABELS


def test_answers_of_another_model_are_not_mixed(tmp_path: Path) -> None:
    inputs, question = put_clips(tmp_path / "clips", TEXTS), make_question(tmp_path / "model")
    answer_archive(inputs, question, tmp_path / "out")
    for other in (dataclasses.replace(question, top=3), make_question(tmp_path / "other")):
        (other.run / "model.safetensors").write_text("weights" if other.top == 3 else "others")
        with pytest.raises(ArchiveError, match="holds answers of another model, or with other settings"):
            answer_archive(inputs, other, tmp_path / "out")
    (tmp_path / "out" / "archive.json").write_text("{")
    with pytest.raises(ArchiveError, match="holds answers of another model"):
        answer_archive(inputs, question, tmp_path / "out")


@pytest.mark.parametrize("line", ["{", "[]", '{"label": "wave"}', "7"])
def test_a_shard_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    inputs, question = put_clips(tmp_path / "clips", TEXTS[:2]), make_question(tmp_path / "model")
    answer_archive(inputs, question, tmp_path / "out")
    with open(tmp_path / "out" / "answers-000000.jsonl", "a") as file:
        file.write(line)
    with pytest.raises(ArchiveError, match=r"answers-000000\.jsonl: line 3 is no answer; remove the file"):
        answer_archive(inputs, question, tmp_path / "out")


# The command.


def test_the_command_answers_as_it_does_one_by_one(
    finished_run: Path, raw_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(file) for file in sorted(raw_folder.glob("a*.json"))[:3]]
    assert main(["predict", str(finished_run), *files, "--device", "cpu", "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)
    (tmp_path / "bad.json").write_text("{")
    words = [*files, str(tmp_path / "bad.json"), "--device", "cpu", "--out", str(tmp_path / "out"), "--json"]
    assert main(["predict", str(finished_run), *words]) == 2
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["answered"] == 3
    assert list(report["failed"]) == [str(tmp_path / "bad.json")]
    assert "bad.json" in told.err
    found = {answer["input"]: answer for answer in read_answers(tmp_path / "out")}
    for answer in wanted:
        ours = found[answer["input"]]
        assert ours["label"] == answer["label"]
        assert [place["label"] for place in ours["top"]] == [place["label"] for place in answer["top"]]
        for mine, theirs in zip(ours["top"], answer["top"], strict=True):
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-5)
    assert main(["predict", str(finished_run), *words]) == 2
    assert json.loads(capsys.readouterr().out)["found"] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "ray"], "--engine and --jobs go with --out DIR"),
        (["--jobs", "2"], "--engine and --jobs go with --out DIR"),
        (["--out", "answers", "--timeline", "lines"], "--out takes many clips"),
    ],
)
def test_flags_that_do_not_go_together(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "run", "clip.npy", *words]) == 2
    assert message in capsys.readouterr().err


# A cluster on this machine.


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    module = pytest.importorskip("ray", reason="needs Ray: pip install 'hhmnet[ray]'")
    pytest.importorskip("ray.data", reason="needs Ray Data: pip install 'hhmnet[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the workers need made_question
        patch.delenv("RAY_ADDRESS", raising=False)
        module.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        yield
        module.shutdown()


def test_a_killed_worker_costs_no_clip_and_no_clip_is_answered_twice(ray: None, tmp_path: Path) -> None:
    texts = ["wave", "bad"] * 12
    inputs, question = put_clips(tmp_path / "clips", texts), make_question(tmp_path / "model", seconds=0.2)
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        """Kill whoever is at work, in the middle of the job."""
        if done >= 4 and not killed:
            killed.append(int((question.run / "tried").read_text().splitlines()[-1].split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    report = answer_archive(inputs, question, tmp_path / "out", engine="ray", jobs=2, shard=2, progress=kill)
    assert len(killed) == 1
    assert killed[0] != os.getpid()
    assert report.answered == 12
    assert sorted(report.failed) == sorted(f"clip {n}" for n in range(1, 24, 2))
    assert labels(tmp_path / "out") == {f"clip {n}": "wave" for n in range(0, 24, 2)}
    names = [answer["input"] for answer in read_answers(tmp_path / "out")]
    assert sorted(names) == sorted(item.name for item in inputs)
    pids = {line.split()[0] for line in (question.run / "tried").read_text().splitlines()}
    assert len(pids - {str(killed[0])}) >= 1


@pytest.mark.long
def test_a_clip_that_kills_its_worker_is_named_and_its_neighbours_are_answered(
    ray: None, tmp_path: Path
) -> None:
    inputs = put_clips(tmp_path / "clips", ["wave", "kill", "nod", "kick"])
    question = make_question(tmp_path / "model")
    report = answer_archive(inputs, question, tmp_path / "out", engine="ray", jobs=1, shard=3)
    assert report == ArchiveReport(3, {"clip 1": "it was being read when 3 processes were killed"}, 0)
    assert labels(tmp_path / "out") == {"clip 0": "wave", "clip 2": "nod", "clip 3": "kick"}
    tried = Counter(line.split(" ", 1)[1] for line in (question.run / "tried").read_text().splitlines())
    assert tried == {"clip 0": 4, "clip 1": 3, "clip 2": 1, "clip 3": 1}


def test_only_the_clip_that_was_being_read_is_suspected() -> None:
    watch = Watch()
    for death in range(DEATHS):
        assert watch.start(7) == set()
        watch.read(7, 0)
        watch.read(7, 1 if death < 2 else 2)
    assert watch.start(7) == set()
    watch.read(7, 1)
    assert watch.start(7) == {1}
    watch.end(7)
    watch.read(8, 1)
    watch.end(8)
    assert watch.start(8) == set()
    assert watch.start(7) == {1}


@pytest.mark.long
def test_a_model_that_the_nodes_do_not_have(
    ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = make_question(tmp_path / "model")
    monkeypatch.setattr(MadeQuestion, "digest", lambda self: "0")
    (question.run / "model.safetensors").unlink()
    with pytest.raises(EngineError, match=r"a worker of the cluster can't load the model: FileNotFoundError"):
        answer_archive(
            put_clips(tmp_path / "clips", ["wave"]), question, tmp_path / "out", engine="ray", jobs=1
        )
    assert shards(tmp_path / "out") == []


@pytest.mark.long
def test_a_real_model_answers_alike_in_the_cluster(
    ray: None, finished_run: Path, store_folder: Path, tmp_path: Path
) -> None:
    inputs = find_inputs([store_folder])[:5]
    question = archive.Question(finished_run, "cpu")
    answer_archive(inputs, question, tmp_path / "here", shard=3)
    answer_archive(inputs, question, tmp_path / "there", engine="ray", jobs=1, shard=3)
    assert labels(tmp_path / "here") == labels(tmp_path / "there")
    assert len(labels(tmp_path / "here")) == 5
