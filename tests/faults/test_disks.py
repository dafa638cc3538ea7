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


@pytest.mark.parametrize(
    ("name", "room", "file"),
    [
        ("prepare", 1_000_000, "samples.arrow"),
        ("train phase 1", 60_000, "checkpoint.safetensors"),
        long("prepare", 0, ""),
        long("prepare", 100_000, ".parts/"),
        long("train phase 1", 0, ""),
        long("train phase 2", 60_000, "checkpoint.safetensors"),
        long("evaluate", 0, "scores.parquet"),
        long("evaluate", 12_000, "confusion.png"),
        long("evaluate", 80_000, "report.html"),
        long("export", 60_000, "model.onnx"),
    ],
)
def test_a_full_disk(name: str, room: int, file: str, world: World, disk: Disk) -> None:
    out = disk.folder / "out"
    out.mkdir()
    disk.fill(room)
    refused(world.run(name, out), "No space left on device", str(out), file, REMEDY)
    assert list(out.rglob("*.tmp")) == []
    disk.free()
    world.check_again(name, out)


@pytest.mark.parametrize(
    "name", ["train phase 1", long("prepare"), long("crops"), long("evaluate"), long("export")]
)
def test_a_folder_that_cannot_be_written(name: str, world: World, disk: Disk) -> None:
    disk.seal()
    out = disk.folder / "out"
    ended = world.run(name, out)
    refused(ended, str(out), "Read-only file system", "name a")
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
def test_crops_on_a_full_disk(world: World, disk: Disk) -> None:
    """Their size is known before; but the disk may fill up by something else."""
    out = disk.folder / "out"
    out.mkdir()
    disk.fill(1 << 20)
    refused(world.run("crops", out), f"the crops of 70 clips take 0.0 GB, and {out} has 0.0 GB left")
    # As much as the crops themselves take, but not the rest of their last pages.
    disk.free()
    disk.fill(70 * 32_000)
    told = f"crops can't be written to {out}: No space left on device; make room there"
    refused(world.run("crops", out), told)
    disk.free()
    world.check_again("crops", out)


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
