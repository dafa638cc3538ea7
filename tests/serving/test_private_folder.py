"""The folder of uploads: nobody else's, and gone with its server, also after ``kill -9``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from hhmnet.files import LOCK_FILE
from hhmnet.serving.uploads import PREFIX, private_folder, remove_leftovers

HOLD = """
from hhmnet.serving.uploads import private_folder
with private_folder() as folder:
    (folder / "upload.mp4").write_bytes(b"someone's")
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files lie."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def leftover(place: Path, name: str = "dead", lock: bool = True) -> Path:
    folder = place / f"{PREFIX}{name}"
    (folder / "uploads").mkdir(parents=True)
    (folder / "uploads" / "upload.mp4").write_bytes(b"someone's")
    if lock:
        (folder / LOCK_FILE).touch()
    return folder


def test_what_a_killed_server_left_goes_when_the_next_one_starts(place: Path) -> None:
    words = [sys.executable, "-c", HOLD]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        try:
            with private_folder() as ours, private_folder() as second:  # the other one runs
                assert len(list(place.iterdir())) == 3
                assert (left / "upload.mp4").exists()
                assert not list(ours.iterdir()) + list(second.iterdir())
                assert ours.stat().st_mode & ours.parent.stat().st_mode & 0o077 == 0
            assert list(place.iterdir()) == [left.parent]
        finally:
            other.send_signal(signal.SIGKILL)
    assert (left / "upload.mp4").exists()
    with private_folder() as ours:
        assert list(place.iterdir()) == [ours.parent]
    assert not list(place.iterdir())


def test_nothing_but_leftovers_is_removed_and_no_link_is_followed(place: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    for name in ("file", LOCK_FILE):
        (precious / name).write_text("kept")
    dead = leftover(place)
    (dead / "uploads" / "link").symlink_to(precious)
    leftover(place, "young", lock=False)
    leftover(place, "locked", lock=False).joinpath(LOCK_FILE).symlink_to(precious / LOCK_FILE)
    (place / f"{PREFIX}link").symlink_to(precious)
    (place / f"{PREFIX}file").touch()
    (place / "other").mkdir()
    (place / "other" / LOCK_FILE).touch()
    assert remove_leftovers(place) == [dead]
    assert [(precious / name).read_text() for name in ("file", LOCK_FILE)] == ["kept", "kept"]
    assert {path.name.removeprefix(PREFIX) for path in place.iterdir()} == {
        *("young", "locked", "link", "file", "other")
    }


def test_folders_of_other_users_stay(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, user = leftover(place), os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert remove_leftovers(place) == []
    assert theirs.exists()
