from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from short_run import make_run
from short_video_run import (
    made_samples,
    make_video_config,
    write_phase1,
    write_video_store,
)

from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.store import Store


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_video_store(tmp_path_factory.mktemp("made"), made_samples())


@pytest.fixture(scope="module")
def phase1(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phase1(tmp_path_factory.mktemp("phase1"), store)


@pytest.fixture(scope="module")
def whole_run(store: Store, phase1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    make_run(folder, make_video_config(phase1), store).train()
    return folder
