"""Folders that go away, workers that die, clocks that jump."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fork_server import Fault
from small_world import World, contents, long, refused, until_gone

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs


def copied(world: World, tmp_path: Path, *parts: str) -> World:
    """A world with copies of some parts, which may go away, and the other parts themselves."""
    (tmp_path / "world").mkdir()
    for part in world.folder.iterdir():
        if part.name in parts:
            shutil.copytree(part, tmp_path / "world" / part.name)
        else:
            (tmp_path / "world" / part.name).symlink_to(part)
    return World(tmp_path / "world", world.server)


def test_a_store_that_goes_away_in_training(world: World, tmp_path: Path) -> None:
    """What is open stays open; what is opened anew is missed by name."""
    other, out = copied(world, tmp_path, "store"), tmp_path / "out"
    store, videos = other.folder / "store", ["--videos", f"{world.folder}/raw/videos"]
    fault = Fault(change=1, about="log.csv", away=str(store))
    other.run_well("train phase 1", out, *videos, fault=fault)
    assert not store.exists()
    world.check("train phase 1", out)
    refused(other.run("train phase 1", out, *videos, "--resume"), f"no store at {store}; make one with")
    world.check("train phase 1", out)


@pytest.mark.parametrize("gone", ["raw", long("raw/videos")])
def test_a_source_that_goes_away(gone: str, world: World, tmp_path: Path) -> None:
    """Its clips are not taken for bad ones, and what was read before counts."""
    other, out = copied(world, tmp_path, "raw"), tmp_path / "out"
    place = other.folder / gone
    # A part is whole when its temporary name is given up.
    ended = other.run("prepare", out, fault=Fault(change=1, about="000000.arrow", away=str(place)))
    refused(ended, f"{place} went away while it was read")
    assert "64 of 70 items are read and kept" in ended.told
    assert not (out / "samples.arrow").exists()
    Path(f"{place}.away").rename(place)
    ended = other.run_well("prepare", out)
    assert "going on: 64 of 70 items were read by an earlier call" in ended.told
    assert (out / "samples.arrow").read_bytes() == (world.folder / "store/samples.arrow").read_bytes()


@pytest.mark.long
def test_videos_that_go_away_while_crops_are_cut(world: World, tmp_path: Path) -> None:
    other, out = copied(world, tmp_path, "raw"), tmp_path / "crops"
    videos = other.folder / "raw/videos"
    named = [str(videos)]
    ended = other.run("crops", out, *named, fault=Fault(change=30, about=".tmp", away=str(videos)))
    refused(ended, f"{videos} went away while crops were cut")
    assert 5 < len(list(out.rglob("*.safetensors"))) < 70
    refused(other.run("crops", out, *named), f"no folder at {videos}")
    Path(f"{videos}.away").rename(videos)
    other.run_well("crops", out, *named)
    found, whole = (set(files) for files in (contents(out), world.whole("crops").contents))
    assert not [name for name in found ^ whole if not name.startswith("videos/")]


@pytest.mark.long
@pytest.mark.parametrize("workers", ["0", "1"])
def test_videos_that_go_away_in_training(workers: str, world: World, tmp_path: Path) -> None:
    """Their crops are cut before, so they aren't missed."""
    other, out = copied(world, tmp_path, "raw"), tmp_path / "out"
    videos = other.folder / "raw/videos"
    more = ["--videos", str(videos), "--run.workers", workers]
    fault = Fault(change=0, about="config.yaml", away=str(videos))
    other.run_well("train phase 2", out, *more, fault=fault)
    assert not videos.exists()
    world.check_weights("train phase 2", out)


def test_a_loaders_worker_that_dies(world: World, tmp_path: Path) -> None:
    out, more = tmp_path / "out", ["--run.workers", "1"]
    ended = world.run("train phase 1", out, *more, fault=Fault(change=3, about="log.csv", to="worker"))
    words = ["a process that loads clips was killed", "--resume goes on from the last checkpoint"]
    refused(ended, *words, code=1)
    assert (out / "checkpoint.safetensors").exists()
    until_gone(ended.pid)
    world.run_well("train phase 1", out, *more, "--resume")
    world.check_weights("train phase 1", out)


@pytest.mark.parametrize("name", ["train phase 1", long("prepare"), long("crops"), long("evaluate")])
def test_a_clock_that_jumps(name: str, world: World, tmp_path: Path) -> None:
    """Thirty years back and ahead, at every look at it."""
    limit = ["--time-limit", "1h"] if name.startswith("train") else []
    world.run_well(name, tmp_path / "out", *limit, fault=Fault(jump=1e9))
    world.check(name, tmp_path / "out")
