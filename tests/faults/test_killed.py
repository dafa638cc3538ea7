"""kill -9 at any moment: the same command ends with the bytes of an undisturbed run."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from fork_server import Fault
from small_world import COMMANDS, World, contents, long, start, until_gone

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs


def check_killed(name: str, fault: Fault, world: World, out: Path) -> bool:
    """Whether the command was killed before its end; the same call then leaves what an undisturbed run leaves."""
    ended = world.run(name, out, fault=fault)
    assert ended.code in (-9, 0), ended.told
    if ended.code and out.exists() and any(out.iterdir()):  # else it would be the undisturbed run once more
        world.check_again(name, out)
    until_gone(ended.pid)
    shutil.rmtree(out, ignore_errors=True)
    return ended.code != 0


@pytest.mark.parametrize(
    ("name", "share"),
    [("prepare", 0.9), ("train phase 1", 0.6), long("train phase 1", 0.98), ("crops", 0.5)],
)
def test_killed_between_two_changes_of_files(name: str, share: float, world: World, tmp_path: Path) -> None:
    fault = Fault(change=int(share * world.whole(name).changes))
    assert check_killed(name, fault, world, tmp_path / "out")


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_change_of_files(name, world, tmp_path, record_property):
    """Of the many alike of crops some."""
    total = world.whole(name).changes
    numbers = list(range(total) if total <= 40 else [*range(10), *range(10, total, total // 15)])
    for number in numbers:
        assert check_killed(name, Fault(change=number), world, tmp_path / "out")
    record_property("counts", f"{name}: killed at {len(numbers)} of {total} changes of files")


@pytest.mark.parametrize(("name", "kills"), [("prepare", 1), *(long(name, 30) for name in COMMANDS)])
def test_killed_at_random_moments(name, kills, world, tmp_path, record_property):
    moments, seconds, late = random.Random(f"{name} 0"), world.whole(name).seconds, 0
    for _ in range(kills):
        while not check_killed(name, Fault(after=moments.random() * seconds), world, tmp_path / "out"):
            late += 1
            assert late < 30, "the command ends before it is killed"
    counts = f"{name}: {kills} kills within {seconds:.1f} s of processor time; {late} too late"
    record_property("counts", counts)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "crops"])  # which is no command
def test_a_run_of_its_own_leaves_the_same(name: str, world: World, tmp_path: Path) -> None:
    """What the other tests compare with is what a user gets, whatever cores there are."""
    with start(world.words(name, tmp_path / "out"), world) as process:
        _, told = process.communicate()
    assert process.returncode == 0, told
    assert contents(tmp_path / "out") == world.whole(name).contents
