from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from made_video import write_video


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    from made_server import serving  # fails without the extra, which the tests ask for first

    with serving() as found:
        yield found


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clip") / "c.mp4").read_bytes()
