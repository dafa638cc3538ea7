from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("works")

from disks import Disk  # noqa: E402
from fork_server import Server  # noqa: E402
from small_world import RECIPE, VIDEO_RECIPE, World, write_raw  # noqa: E402
from works import Wholes  # noqa: E402


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, server: Server) -> World:
    """Raw files, a store and a run of phase 1, by the commands that a user gives."""
    world = World(tmp_path_factory.mktemp("world"))
    write_raw(world.raw)
    world.recipe.write_text(RECIPE)
    world.video_recipe.write_text(VIDEO_RECIPE)
    for words in (world.prepare(world.store, "--jobs", "1"), world.train(world.run)):
        ended = server.run(words)
        assert ended.code == 0, ended.told
    return world


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process that runs commands without importing anything first."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(world: World, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    """Undisturbed runs, by name."""
    return Wholes(world, server, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """A function that makes a disk of a size; the test is skipped where none can be mounted."""
    disks: list[Disk] = []

    def make(size: int) -> Disk:
        disks.append(Disk(tmp_path / f"disk{len(disks)}", size))
        return disks[-1]

    yield make
    for disk in disks:
        disk.remove()
