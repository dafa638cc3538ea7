from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from short_run import made_samples, make_run, make_video_config, write_phase1, write_video_store

from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.store import Store


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_video_store(tmp_path_factory.mktemp("made"), made_samples())


@pytest.fixture(scope="session")
def phase1(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phase1(tmp_path_factory.mktemp("phase1"), store)


@pytest.fixture(scope="session")
def whole_run(store: Store, phase1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of phase 2."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    make_run(folder, make_video_config(phase1), store).train()
    return folder
