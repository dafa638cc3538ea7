from __future__ import annotations

from pathlib import Path

import pytest
from targets import World

from made_video import KINDS, write_video

VIDEOS = (
    "constant rate, B-frames",
    "variable rate",
    "H.264 in AVI, times made up",
    "MPEG-4 in AVI",
    "MPEG-2 in a transport stream",
    "VP9",
    "fragmented",
    "intra only",
)


@pytest.fixture(scope="session")
def world(
    raw_folder: Path,
    store_folder: Path,
    finished_run: Path,
    recipe: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    """Whole things to damage."""
    folder = tmp_path_factory.mktemp("fuzz-videos")
    videos = []
    for number, name in enumerate(VIDEOS):
        (folder / str(number)).mkdir()
        videos.append(write_video(folder / str(number) / KINDS[name].file, **KINDS[name].settings))
    return World(raw_folder, store_folder, finished_run, recipe, tuple(videos))
