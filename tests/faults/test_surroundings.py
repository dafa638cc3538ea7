"""Folders that go away, workers that die, clocks that jump."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fork_server import Server
from small_world import World, contents
from works import WORKS, Wholes, until_gone

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs


def test_a_store_that_goes_away_in_training(
    world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    """What is open stays open; what is opened anew is missed by name."""
    store, out = tmp_path / "store", tmp_path / "out"
    shutil.copytree(world.store, store)
    words = ["train", "--config", str(world.recipe), "--data", str(store), "--out", str(out)]
    words += ["--videos", str(world.raw / "videos")]
    ended = server.run(words, change=1, about="log.csv", watched=out, away=store)
    assert ended.code == 0, ended.told
    assert not store.exists()
    found, expected = contents(out), dict(whole["train phase 1"].contents)
    assert found == expected
    ended = server.run([*words, "--resume"])
    assert ended.code == 2
    assert f"no store at {store}; make one with `hhmnet prepare`" in ended.last
    assert contents(out) == expected


@pytest.mark.parametrize("kind", ["files", pytest.param("videos", marks=pytest.mark.long)])
def test_a_source_that_goes_away(
    kind: str, world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    """Its clips are not taken for bad ones, and what was read before counts."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(world.raw, raw)
    copied = World(tmp_path)
    gone = raw / "videos" if kind == "videos" else raw
    words = copied.prepare(out, "--jobs", "1")
    # A part's second file is whole when its temporary name is given up.
    ended = server.run(words, change=1, about=".json", watched=out, away=gone)
    assert ended.code == 2, ended.told
    assert "Traceback" not in ended.told
    assert f"{raw / 'videos' if kind == 'videos' else raw} went away while it was read" in ended.last
    assert "64 of 70 items are read and kept" in ended.told
    assert not (out / "samples.arrow").exists()
    Path(f"{gone}.away").rename(gone)
    ended = server.run(words)
    assert ended.code == 0, ended.told
    assert "going on: 64 of 70 items were read by an earlier call" in ended.told
    assert (out / "samples.arrow").read_bytes() == (world.store / "samples.arrow").read_bytes()


@pytest.mark.long
def test_videos_that_go_away_while_crops_are_cut(
    world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "crops"
    shutil.copytree(world.raw / "videos", videos)
    words = world.cache(out, "--jobs", "1", "--videos", str(videos))
    ended = server.run(words, change=30, about=".tmp", watched=out, away=videos)
    assert ended.code == 2, ended.told
    assert f"{videos} went away while crops were cut" in ended.last
    assert 5 < len(list(out.rglob("*.safetensors"))) < 70
    ended = server.run(words)
    assert ended.code == 2
    assert f"no folder at {videos}" in ended.last
    Path(f"{videos}.away").rename(videos)
    ended = server.run(words)
    assert ended.code == 0, ended.told
    assert {name for name in contents(out) if name != "videos.jsonl"} == {
        name for name in whole["cache"].contents if name != "videos.jsonl"
    }


@pytest.mark.long
@pytest.mark.parametrize("workers", ["0", "1"])
def test_videos_that_go_away_in_training(
    workers: str, world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    """Their crops are cut before, so they aren't missed."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(world.raw / "videos", videos)
    words = world.train_video(out, "--videos", str(videos), "--run.workers", workers)
    ended = server.run(
        words, change=0, about="config.yaml", watched=out, away=videos, environment=world.environment
    )
    assert ended.code == 0, ended.told
    assert not videos.exists()
    found, expected = contents(out), whole["train phase 2"].contents
    assert found["model.safetensors"] == expected["model.safetensors"]


def test_a_loaders_worker_that_dies(world: World, server: Server, whole: Wholes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = world.train(out, "--run.workers", "1")
    ended = server.run(words, change=3, about="log.csv", watched=out, to="worker")
    assert ended.code == 1, ended.told
    assert "Traceback" not in ended.told
    assert "a process that loads clips was killed" in ended.last
    assert "--resume goes on from the last checkpoint" in ended.last
    assert (out / "checkpoint.safetensors").exists()
    until_gone(ended.pid)
    ended = server.run(world.train(out, "--run.workers", "1", "--resume"))
    assert ended.code == 0, ended.told
    assert (out / "model.safetensors").read_bytes() == whole["train phase 1"].contents["model.safetensors"]


@pytest.mark.parametrize(
    "name",
    [
        "train phase 1",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("prepare", "cache", "evaluate")),
    ],
)
def test_a_clock_that_jumps(name: str, world: World, server: Server, whole: Wholes, tmp_path: Path) -> None:
    """Thirty years back and ahead, at every look at it."""
    out = tmp_path / "out"
    words = WORKS[name].words(world, out)
    limit = ["--time-limit", "1h"] if name.startswith("train") else []
    ended = server.run([*words, *limit], jump=1e9, environment=world.environment)
    assert ended.code == 0, ended.told
    whole.check(name, out)


@pytest.mark.long
def test_a_jump_of_the_clock_makes_no_leftover_of_a_living_file(
    world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    """Neither is what was left years ago kept, nor what another process writes removed."""
    out = tmp_path / "out"
    ended = server.run(WORKS["cache"].words(world, out), change=100, watched=out)
    assert ended.code == -9
    ended = server.run(WORKS["cache"].words(world, out), jump=-1e9)
    assert ended.code == 0, ended.told
    whole.check("cache", out)
