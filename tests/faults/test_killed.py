"""kill -9 at any moment: the same command ends with the bytes of an undisturbed run."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fork_server import Server
from small_world import World, contents, hhmnet
from works import WORKS, Wholes, until_gone

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs

KILLS = 30


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("prepare", 0.9),
        ("train phase 1", 0.6),
        ("train phase 1", 0.98),
        pytest.param("cache", 0.5, marks=pytest.mark.long),
    ],
)
def test_killed_between_two_changes_of_files(
    name: str, share: float, world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    out, number = tmp_path / "out", int(share * whole[name].changes)
    words = WORKS[name].words(world, out)
    ended = server.run(words, change=number, watched=out, environment=world.environment)
    assert ended.code == -9
    whole.check_again(name, out)


@pytest.mark.parametrize(("name", "share"), [("prepare", 0.8)])
def test_killed_at_some_moment(
    name: str, share: float, world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    ended = server.run(WORKS[name].words(world, tmp_path / "out"), after=share * whole[name].seconds)
    assert ended.code in (-9, 0)  # its processor time isn't always the same
    whole.check_again(name, tmp_path / "out")


@pytest.mark.long
@pytest.mark.parametrize("name", WORKS)
def test_killed_at_every_change_of_files(
    name: str, world: World, server: Server, whole: Wholes, tmp_path: Path, capsys: Any
) -> None:
    """Of the many alike of a cache some."""
    total = whole[name].changes
    numbers = list(range(total) if total <= 60 else [*range(10), *range(10, total, total // 15)])
    for number in numbers:
        out = tmp_path / f"out {number}"
        words = WORKS[name].words(world, out)
        ended = server.run(words, change=number, watched=out, environment=world.environment)
        assert ended.code == -9
        go_on(name, whole, out)
        until_gone(ended.pid)
    with capsys.disabled():
        print(f"\n{name}: killed at {len(numbers)} of {total} changes of files")


@pytest.mark.long
@pytest.mark.parametrize("name", WORKS)
def test_killed_at_thirty_random_moments(
    name: str, world: World, server: Server, whole: Wholes, tmp_path: Path, capsys: Any
) -> None:
    moments = random.Random(f"{name} 0")
    seconds, late, kills = whole[name].seconds, 0, Counter[str]()
    while kills.total() < KILLS:
        assert late < KILLS, "the command ends before it is killed"
        out = tmp_path / f"out {kills.total() + late}"
        words = WORKS[name].words(world, out)
        ended = server.run(words, after=moments.random() * seconds, environment=world.environment)
        if ended.code == 0:
            late += 1
            continue
        assert ended.code == -9, ended.told
        kills[written(out)] += 1
        go_on(name, whole, out)
        until_gone(ended.pid)
        shutil.rmtree(out, ignore_errors=True)
    with capsys.disabled():
        told = "; ".join(f"{count} with {what} half written" for what, count in kills.most_common())
        print(
            f"\n{name}: {KILLS} kills within {seconds:.1f} s of processor time: {told}; {late} came too late"
        )


def go_on(name: str, whole: Wholes, out: Path) -> None:
    """Call again, unless nothing is left: the same call on the same files is the undisturbed run."""
    if out.exists() and any(out.iterdir()):
        whole.check_again(name, out)


def written(out: Path) -> str:
    """What a killed command was writing."""
    names = sorted(file.name for file in out.rglob("*.tmp")) if out.exists() else []
    kinds = {re.sub(r"\.[0-9a-f]{32}\.tmp$|[0-9a-f]{24,}-?|\d{6}|^\.", "", name) for name in names}
    return ", ".join(sorted(kind.strip(".") or "crops" for kind in kinds)) or "nothing"


@pytest.mark.long
@pytest.mark.parametrize("name", WORKS)
def test_a_run_of_its_own_leaves_the_same(name: str, world: World, whole: Wholes, tmp_path: Path) -> None:
    """What the other tests compare with is what a user gets, whatever cores there are."""
    ended = hhmnet(WORKS[name].words(world, tmp_path / "out"), world.environment)
    assert ended.returncode == 0, ended.stderr
    assert contents(tmp_path / "out") == whole[name].contents
