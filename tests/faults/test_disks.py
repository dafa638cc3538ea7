"""Disks that are full and folders that can't be written: one line that helps, and nothing lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fork_server import Fault
from small_world import Disk, World, long, refused

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs

REMEDY = "make room there and give the same command again"


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


FULL, SEALED = "No space left on device", "Read-only file system"


@pytest.mark.parametrize(
    ("name", "room", "words"),
    [
        ("prepare", 1_000_000, (FULL, "samples.arrow", REMEDY)),
        ("train phase 1", 60_000, (FULL, "checkpoint.safetensors", REMEDY)),
        ("train phase 1", None, (SEALED, "name a")),
        long("prepare", 0, (FULL, REMEDY)),
        long("prepare", 100_000, (FULL, ".parts/", REMEDY)),
        long("train phase 1", 0, (FULL, REMEDY)),
        long("train phase 2", 60_000, (FULL, "checkpoint.safetensors", REMEDY)),
        long("evaluate", 0, (FULL, "scores.parquet", REMEDY)),
        long("evaluate", 12_000, (FULL, "confusion.png", REMEDY)),
        long("evaluate", 80_000, (FULL, "report.html", REMEDY)),
        long("export", 60_000, (FULL, "model.onnx", REMEDY)),
        # The size of crops is known before; but the disk may fill up by something else: here there is as much as the
        # notes on the videos and the crops themselves take, but not the rest of their last pages.
        long("crops", 1 << 20, ("the crops of 70 clips take 0.0 GB, and", "has 0.0 GB left")),
        long("crops", 70 * 36_100, ("crops can't be written to", FULL, "make room there")),
        *(long(name, None, (SEALED, "name a")) for name in ("prepare", "crops", "evaluate", "export")),
    ],
)
def test_a_disk_that_takes_no_more(name, room, words, world, disk):
    """So many bytes are left; or, with None, nobody can write there."""
    out = disk.folder / "out"
    if room is None:
        disk.seal()
    else:
        out.mkdir()
        disk.fill(room)
    refused(world.run(name, out), str(out), *words)
    assert list(out.rglob("*.tmp")) == []
    disk.free()
    world.check_again(name, out)


@pytest.mark.long
@pytest.mark.parametrize("is_full", [True, False])
@pytest.mark.parametrize("name", ["prepare", "train phase 1", "evaluate", "export"])
def test_what_was_there_before_outlives(name: str, is_full: bool, world: World, disk: Disk) -> None:
    """Older results, or a run that is taken up again, on a disk that is full or can't be written by now."""
    out, training = disk.folder / "out", name.startswith("train")
    world.run_well(name, out, *(["--time-limit", "0.001s"] if training else []))
    before = files(out)
    if is_full:
        disk.fill(40_000 if training else 0)
    else:
        disk.seal()
    ended = world.run(name, out, *(["--resume"] if training else []))
    refused(ended, *(["checkpoint is unharmed, --resume goes on"] if training and is_full else []))
    kept = ["checkpoint.safetensors"] if training and is_full else [*before]
    after = files(out)
    assert [file for file in kept if after[file] != before[file]] == []
    disk.free()
    world.check_again(name, out)


@pytest.mark.long
def test_a_file_that_may_not_grow(world: World, tmp_path: Path) -> None:
    """A quota, or a limit of the shell's; it needs no disk of its own."""
    out = tmp_path / "out"
    ended = world.run("train phase 1", out, fault=Fault(limit=60_000))
    refused(ended, f"{out / 'checkpoint.safetensors'}: File too large; {REMEDY}")
    world.check_again("train phase 1", out)


@pytest.mark.long
def test_what_is_only_read_need_not_be_writable(world: World, disk: Disk, tmp_path: Path) -> None:
    shutil.copytree(world.folder, disk.folder / "world", ignore=shutil.ignore_patterns("whole *", "cache"))
    disk.seal()
    sealed = World(disk.folder / "world", world.server)
    for name in ("prepare", "train phase 1", "evaluate"):
        sealed.run_well(name, tmp_path / name)
    store = world.folder / "store/samples.arrow"
    assert (tmp_path / "prepare/samples.arrow").read_bytes() == store.read_bytes()
    world.check("train phase 1", tmp_path / "train phase 1")
