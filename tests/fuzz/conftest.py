from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import Server
from targets import World

from made_video import KINDS, write_video

LIMITS = (
    "--upload_mb 1 --upload_seconds 20 --answer_seconds 600 --concurrent 32 --memory_mb 1500 --videos=false"
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
    for number, kind in enumerate(KINDS.values()):
        (folder / str(number)).mkdir()
        videos.append(write_video(folder / str(number) / kind.file, **kind.settings))
    return World(store_folder, finished_run, recipe, next(raw_folder.glob("a*.json")), tuple(videos))


@pytest.fixture(scope="session")
def server(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``hhmnet serve`` as a process of its own; small limits, so that they are reached."""
    folder = tmp_path_factory.mktemp("serve")
    temporary, log = folder / "tmp", folder / "log.txt"
    temporary.mkdir()
    words = ["-m", "hhmnet", "serve", str(finished_run), "--port", "0", "--no-page", *LIMITS.split()]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with open(log, "wb") as handle:
        process = subprocess.Popen([sys.executable, *words], stdout=handle, stderr=handle, env=environment)
    try:
        while not (ready := re.search(r"http://127\.0\.0\.1:(\d+) is ready", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield Server(int(ready[1]), process.pid, temporary, log)
    finally:
        process.terminate()
        process.wait()
    assert not list(temporary.rglob("*")), "the server leaves files behind"
