"""kill -9 at any moment: the same command ends with the bytes of an undisturbed run."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fork_server import Fault
from small_world import COMMANDS, World, contents, long, start, until_gone

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs

KILLS = 30


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("prepare", 0.9),
        ("train phase 1", 0.6),
        long("train phase 1", 0.98),
        long("crops", 0.5),
    ],
)
def test_killed_between_two_changes_of_files(name: str, share: float, world: World, tmp_path: Path) -> None:
    fault = Fault(change=int(share * world.whole(name).changes))
    assert world.run(name, tmp_path / "out", fault=fault).code == -9
    world.check_again(name, tmp_path / "out")


def test_killed_at_some_moment(world: World, tmp_path: Path) -> None:
    ended = world.run("prepare", tmp_path / "out", fault=Fault(after=0.8 * world.whole("prepare").seconds))
    assert ended.code in (-9, 0)  # its processor time isn't always the same
    world.check_again("prepare", tmp_path / "out")


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_change_of_files(
    name: str, world: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Of the many alike of crops some."""
    total = world.whole(name).changes
    numbers = list(range(total) if total <= 40 else [*range(10), *range(10, total, total // 15)])
    for number in numbers:
        out = tmp_path / f"out {number}"
        ended = world.run(name, out, fault=Fault(change=number))
        assert ended.code == -9
        go_on(name, world, out)
        until_gone(ended.pid)
    record_property("counts", f"{name}: killed at {len(numbers)} of {total} changes of files")


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_thirty_random_moments(
    name: str, world: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    moments = random.Random(f"{name} 0")
    seconds, late, kills = world.whole(name).seconds, 0, Counter[str]()
    while kills.total() < KILLS:
        assert late < KILLS, "the command ends before it is killed"
        out = tmp_path / f"out {kills.total() + late}"
        ended = world.run(name, out, fault=Fault(after=moments.random() * seconds))
        if ended.code == 0:
            late += 1
            continue
        assert ended.code == -9, ended.told
        kills[half_written(out)] += 1
        go_on(name, world, out)
        until_gone(ended.pid)
        shutil.rmtree(out, ignore_errors=True)
    told = "; ".join(f"{count} with {what} half written" for what, count in kills.most_common())
    told = f"{name}: {KILLS} kills within {seconds:.1f} s of processor time: {told}; {late} too late"
    record_property("counts", told)


def go_on(name: str, world: World, out: Path) -> None:
    """Call again, unless nothing is left: the same call on the same files is the undisturbed run."""
    if out.exists() and any(out.iterdir()):
        world.check_again(name, out)


def half_written(out: Path) -> str:
    """What a killed command was writing."""
    names = sorted(file.name for file in out.rglob("*.tmp")) if out.exists() else []
    kinds = {re.sub(r"\.[0-9a-f]{32}\.tmp$|[0-9a-f]{24,}-?|\d{6}|^\.", "", name) for name in names}
    return ", ".join(sorted(kind.strip(".") or "crops" for kind in kinds)) or "nothing"


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_of_its_own_leaves_the_same(name: str, world: World, tmp_path: Path) -> None:
    """What the other tests compare with is what a user gets, whatever cores there are."""
    with start(world.words(name, tmp_path / "out"), world) as process:
        _, told = process.communicate()
    assert process.returncode == 0, told
    assert contents(tmp_path / "out") == world.whole(name).contents
