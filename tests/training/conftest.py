from __future__ import annotations

import pytest
from short_run import made_samples, make_run, make_video_config, write_phase1, write_video_store

from hhmnet.pose.networks import CACHE_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return write_video_store(tmp_path_factory.mktemp("made"), made_samples())


@pytest.fixture(scope="session")
def phase1(store, tmp_path_factory):
    return write_phase1(tmp_path_factory.mktemp("phase1"), store)


@pytest.fixture(scope="session")
def whole_run(store, phase1, tmp_path_factory):
    """A run of phase 2."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    make_run(folder, make_video_config(phase1), store).train()
    return folder
