from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("small_world")

from fork_server import Server  # noqa: E402
from small_world import Disk, World  # noqa: E402


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What the commands work on, and a process that runs them without importing anything first."""
    return World(tmp_path_factory.mktemp("world"), Server(tmp_path_factory.mktemp("server"))).make()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk")
    yield found
    found.remove()
