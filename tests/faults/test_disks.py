"""Disks that are full and folders that can't be written: one line that helps, and nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from disks import Disk
from fork_server import Server
from small_world import World
from works import WORKS, Wholes

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs

MakeDisk = Callable[[int], Disk]
MIB = 1 << 20
REMEDY = "make room there and give the same command again"


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("name", "room", "file"),
    [
        ("prepare", 1_000_000, "samples.arrow"),
        ("train phase 1", 60_000, "checkpoint.safetensors"),
        pytest.param("evaluate", 12_000, "confusion.png", marks=pytest.mark.long),
        *(
            pytest.param(name, room, file, marks=pytest.mark.long)
            for name, room, file in (
                ("prepare", 0, ""),
                ("prepare", 100_000, ".parts/"),
                ("train phase 1", 0, ""),
                ("train phase 2", 60_000, "checkpoint.safetensors"),
                ("evaluate", 0, "scores.parquet"),
                ("evaluate", 80_000, "report.html"),
                ("export", 60_000, "model.onnx"),
            )
        ),
    ],
)
def test_a_full_disk(
    name: str, room: int, file: str, world: World, server: Server, whole: Wholes, make_disk: MakeDisk
) -> None:
    disk = make_disk(16 * MIB)
    out = disk.folder / "out"
    out.mkdir()
    disk.fill(room)
    ended = server.run(WORKS[name].words(world, out), environment=world.environment)
    assert ended.code == 2, ended.told
    assert "Traceback" not in ended.told
    assert "No space left on device" in ended.last
    assert f"{out}" in ended.last
    assert file in ended.last
    assert REMEDY in ended.last
    assert list(out.rglob("*.tmp")) == []
    disk.make_room()
    whole.check_again(name, out)


@pytest.mark.long
def test_a_checkpoint_outlives_a_full_disk(
    world: World, server: Server, whole: Wholes, make_disk: MakeDisk
) -> None:
    disk = make_disk(16 * MIB)
    out = disk.folder / "out"
    assert server.run(world.train(out, "--time-limit", "0.001s")).code == 0
    before = (out / "checkpoint.safetensors").read_bytes()
    disk.fill(40_000)
    ended = server.run(world.train(out, "--resume"))
    assert ended.code == 2, ended.told
    assert "the last checkpoint is unharmed, --resume goes on from it" in ended.last
    assert (out / "checkpoint.safetensors").read_bytes() == before
    disk.make_room()
    whole.check_again("train phase 1", out)


@pytest.mark.long
@pytest.mark.parametrize("name", ["prepare", "evaluate", "export"])
def test_older_results_outlive_a_full_disk(
    name: str, world: World, server: Server, whole: Wholes, make_disk: MakeDisk
) -> None:
    disk = make_disk(16 * MIB)
    out = disk.folder / "out"
    assert server.run(WORKS[name].words(world, out)).code == 0
    before = files(out)
    disk.fill(0)
    ended = server.run(WORKS[name].words(world, out))
    assert ended.code == 2, ended.told
    assert files(out) == before
    disk.make_room()
    whole.check_again(name, out)


@pytest.mark.long
def test_crops_on_a_full_disk(world: World, server: Server, whole: Wholes, make_disk: MakeDisk) -> None:
    """Their size is known before; but the disk may fill up by something else."""
    disk = make_disk(16 * MIB)
    out = disk.folder / "out"
    out.mkdir()
    disk.fill(MIB)
    ended = server.run(WORKS["cache"].words(world, out))
    assert ended.code == 2
    assert f"the crops of 70 clips take 0.0 GB, and {out} has 0.0 GB left" in ended.last
    size = len(whole["cache"].contents) - 1
    assert size == 70
    # As much as the crops themselves take, but not the rest of their last pages.
    disk.make_room()
    disk.fill(70 * 32_000)
    ended = server.run(WORKS["cache"].words(world, out))
    assert ended.code == 2, ended.told
    assert f"crops can't be written to {out}: No space left on device; make room there" in ended.last
    disk.make_room()
    whole.check_again("cache", out)


@pytest.mark.long
def test_a_file_that_may_not_grow(world: World, server: Server, whole: Wholes, tmp_path: Path) -> None:
    """A quota, or a limit of the shell's; it needs no disk of its own."""
    out = tmp_path / "out"
    ended = server.run(world.train(out), limit=60_000)
    assert ended.code == 2, ended.told
    assert f"{out / 'checkpoint.safetensors'}: File too large; {REMEDY}" in ended.last
    whole.check_again("train phase 1", out)


@pytest.mark.parametrize(
    "name",
    [
        "train phase 1",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("prepare", "cache", "evaluate", "export")),
    ],
)
def test_a_folder_that_cannot_be_written(
    name: str, world: World, server: Server, whole: Wholes, make_disk: MakeDisk
) -> None:
    disk = make_disk(16 * MIB)
    disk.seal()
    out = disk.folder / "out"
    ended = server.run(WORKS[name].words(world, out))
    assert ended.code == 2, ended.told
    assert "Traceback" not in ended.told
    assert str(out) in ended.last
    assert "Read-only file system" in ended.last
    assert "name another" in ended.last or "name a place that can be written" in ended.last
    disk.seal(False)
    whole.check_again(name, out)


@pytest.mark.long
def test_results_that_cannot_be_written_anew(
    world: World, server: Server, whole: Wholes, make_disk: MakeDisk
) -> None:
    disk = make_disk(16 * MIB)
    out = disk.folder / "out"
    assert server.run(world.train(out, "--time-limit", "0.001s")).code == 0
    disk.seal()
    before = files(out)
    ended = server.run(world.train(out, "--resume"))
    assert ended.code == 2, ended.told
    assert f"{out}: Read-only file system; name a place that can be written" in ended.last
    assert files(out) == before
    disk.seal(False)
    whole.check_again("train phase 1", out)


@pytest.mark.long
def test_what_is_only_read_need_not_be_writable(
    world: World, server: Server, whole: Wholes, make_disk: MakeDisk, tmp_path: Path
) -> None:
    disk = make_disk(16 * MIB)
    for place in (world.raw, world.store, world.run):
        shutil.copytree(place, disk.folder / place.name)
    for file in (world.recipe, world.video_recipe):
        shutil.copy(file, disk.folder)
    disk.seal()
    sealed = World(disk.folder)
    ended = server.run(sealed.prepare(tmp_path / "store", "--jobs", "1"))
    assert ended.code == 0, ended.told
    assert (tmp_path / "store/samples.arrow").read_bytes() == (world.store / "samples.arrow").read_bytes()
    ended = server.run(sealed.train(tmp_path / "run"))
    assert ended.code == 0, ended.told
    whole.check("train phase 1", tmp_path / "run")
    ended = server.run(sealed.evaluate(tmp_path / "report"))
    assert ended.code == 0, ended.told
