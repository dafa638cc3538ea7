"""The commands that write, and what an undisturbed run of each leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fork_server import Server, members
from small_world import World, contents

Words = Callable[[World, Path], list[str]]


class Work(NamedTuple):
    """A command that writes into a folder.

    Attributes:
        words: what the user types.
        again: what the user types after it was cut short.
    """

    words: Words
    again: Words


def _plain(words: Words) -> Work:
    return Work(words, words)


WORKS = {
    "prepare": _plain(lambda world, out: world.prepare(out, "--jobs", "1")),
    "prepare, two jobs": _plain(lambda world, out: world.prepare(out, "--jobs", "2")),
    "train phase 1": Work(World.train, lambda world, out: world.train(out, "--resume")),
    "train phase 2": Work(World.train_video, lambda world, out: world.train_video(out, "--resume")),
    "cache": _plain(lambda world, out: world.cache(out, "--jobs", "1")),
    "export": _plain(World.export),
    "evaluate": _plain(World.evaluate),
}


class Whole(NamedTuple):
    """An undisturbed run: what it leaves, its seconds of processor time, its number of changes of files."""

    contents: dict[str, Any]
    seconds: float
    changes: int


class Wholes:
    """Undisturbed runs, made when they are asked for."""

    def __init__(self, world: World, server: Server, folder: Path) -> None:
        self.world, self.server, self.folder = world, server, folder
        self._known: dict[str, Whole] = {}

    def __getitem__(self, name: str) -> Whole:
        if name not in self._known:
            out = self.folder / name
            words = WORKS[name].words(self.world, out)
            ended = self.server.run(words, watched=out, environment=self.world.environment)
            assert ended.code == 0, ended.told
            self._known[name] = Whole(contents(out), ended.seconds, ended.changes)
        return self._known[name]

    def check_again(self, name: str, out: Path) -> str:
        """The same call ends well, with the same bytes and nothing else; returns what it says."""
        words = WORKS[name].again(self.world, out)
        ended = self.server.run(words, environment=self.world.environment)
        assert ended.code == 0, ended.told
        assert "Traceback" not in ended.told
        self.check(name, out)
        return ended.told

    def check(self, name: str, out: Path) -> None:
        """The folder holds the same bytes and nothing else."""
        found, whole = contents(out), self[name].contents
        assert found.keys() == whole.keys()
        assert [file for file in found if found[file] != whole[file]] == []


def until_gone(session: int) -> None:
    """Wait for the workers of a command that was cut short."""
    end = time.monotonic() + 120
    while members(session):
        assert time.monotonic() < end, "a worker is left behind"
        time.sleep(0.02)
