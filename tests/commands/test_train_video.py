"""``hhmnet train`` of phase 2, as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import hhmnet
from hhmnet.cli import main
from hhmnet.commands.configuration import read_config
from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.store import Store
from made_models import same_weights
from made_video_world import VideoWorld

STEPS = 4  # 20 training clips, batches of 8, 2 epochs

Train = Callable[..., int]


@pytest.fixture
def train(video_world: VideoWorld, tmp_path: Path) -> Train:
    def run(*more: str, store: Path = video_world.store, config: Path | None = video_world.recipe) -> int:
        words = ["train", "--data", str(store), "--out", str(tmp_path / "run"), *more]
        return main(words if config is None else [*words, "--config", str(config)])

    return run


def test_a_run_leaves_all_that_is_promised(video_world: VideoWorld) -> None:
    run = video_world.run
    with open(run / "log.csv", newline="") as handle:
        assert [row["epoch"] for row in csv.DictReader(handle)] == ["1", "2"]
    config, first = read_config(run / "config.yaml"), read_config(video_world.phase1 / "config.yaml")
    assert (config.phase, config.phase1) == (2, str(video_world.phase1))
    assert (config.model, config.data, config.fusion) == (first.model, first.data, first.fusion)
    model = hhmnet.from_pretrained(run)
    assert model.members == ("joint", "bone", "video")
    assert model.spec.class_names == Store(video_world.store).class_names
    facts = json.loads((run / "environment.json").read_text())
    assert (facts["clips"], facts["steps"]) == (20, STEPS)


def test_a_stopped_run_goes_on_without_being_told_of_phase_1(video_world, train, tmp_path, capsys):
    """Unless it has moved; then where it is now has to be said."""
    first = Path(shutil.copytree(video_world.phase1, tmp_path / "first"))
    videos = ("--videos", str(video_world.videos))
    assert train("--phase1", str(first), "--time-limit", "0.001s", *videos) == 0
    err = capsys.readouterr().err
    assert f"the time is up after step 1 of {STEPS}" in err
    hint = err[err.index("hhmnet train --data") :].split("\n")[0]
    assert hint.split()[-1] == "--resume"
    assert not (tmp_path / "run/model.safetensors").exists()
    begun = Path(shutil.copytree(tmp_path / "run", tmp_path / "begun"))
    assert main(hint.split()[1:]) == 0
    assert same_weights(tmp_path / "run", video_world.run)
    shutil.rmtree(tmp_path / "run")
    begun.rename(tmp_path / "run")
    first.rename(tmp_path / "moved")
    capsys.readouterr()
    assert train("--resume", config=None) == 2
    assert f"error: {first}/config.json: not found" in capsys.readouterr().err
    assert train("--resume", "--phase1", str(tmp_path / "moved"), config=None) == 0
    assert same_weights(tmp_path / "run", video_world.run)


@pytest.fixture
def moved(video_world: VideoWorld, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the store whose videos aren't where it says, and where they are."""
    store = Path(shutil.copytree(video_world.store, tmp_path / "store"))
    (store / "videos.json").write_text(json.dumps({"folder": "../gone"}))
    return store, Path(shutil.copytree(video_world.videos, tmp_path / "elsewhere"))


def test_mistakes_are_one_line_and_leave_nothing(video_world, train, moved, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    videos = ("--videos", str(moved[1]))
    for words, message in (
        ((*videos, "--phase1", "nowhere"), "nowhere/config.json: not found; no model there"),
        ((*videos, "--video.cell", "24"), "field 'video.cell' is 24; it must be a multiple of 16"),
        ((*videos, "--heterogeneous.weights", "[1, 2]"), "give one for each of joint+bone and one for the"),
        ((), f"no folder at {tmp_path / 'gone'}"),
        (("--videos", str(tmp_path / "wrong")), f"no folder at {tmp_path / 'wrong'}"),
        (("--videos", str(tmp_path / "empty")), "none of the 20 clips has a video"),
    ):
        assert train("--phase1", str(video_world.phase1), *words, store=moved[0]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("hhmnet train: error: ")
        assert message in line
    assert not (tmp_path / "run").exists()


def test_a_video_that_goes_during_training_is_named_at_the_end(
    video_world, train, moved, tmp_path, monkeypatch, at_step, capsys
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    store, videos = moved
    opened = Store(store)
    training = [i for i in range(len(opened)) if opened.sample(i).camera != "3"]
    early, late = (opened.sample(i) for i in (training[0], training[5]))
    (videos / str(early.video)).unlink()

    def lose() -> None:
        os.unlink(videos / str(late.video))
        shutil.rmtree(tmp_path / "cache/crops")

    at_step(2, lose)
    words = ("--phase1", str(video_world.phase1), "--videos", str(videos), "--run.workers", "1")
    assert train(*words, "--optim.epochs", "4", store=store) == 0
    before, after = capsys.readouterr().err.split("epoch ", 1)
    assert "1 of 20 clips have no picture at all" in before
    assert early.sample_id in before
    lost = "1 of 20 clips lost their video during training, and were then seen without"
    assert f"{lost}: {late.sample_id}" in after
    assert (tmp_path / "run/model.safetensors").exists()
