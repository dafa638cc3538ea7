from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hhmnet.lock import LOCK_FILE
from hhmnet.serving.private_folder import PREFIX, private_folder, remove_leftovers

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no locks that end with a process"
)

HOLD = """
from hhmnet.serving.private_folder import private_folder
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


def test_the_folder_is_private_and_goes_with_the_block(place: Path) -> None:
    with private_folder() as folder:
        assert folder.is_relative_to(place)
        assert not list(folder.iterdir())
        assert folder.stat().st_mode & 0o077 == 0
        assert folder.parent.stat().st_mode & 0o077 == 0
    assert not list(place.iterdir())


def test_what_a_killed_server_left_goes_when_the_next_one_starts(place: Path) -> None:
    words = [sys.executable, "-c", HOLD]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        try:
            with private_folder() as ours:  # the other one runs
                assert left.parent in place.iterdir()
                assert (left / "upload.mp4").exists()
            assert not ours.exists()
        finally:
            other.send_signal(signal.SIGKILL)
    assert (left / "upload.mp4").exists()
    with private_folder() as ours:
        assert list(place.iterdir()) == [ours.parent]
    assert not list(place.iterdir())


def test_two_in_one_process_leave_each_other_alone(place: Path) -> None:
    with private_folder() as first, private_folder() as second:
        assert first != second
        assert first.exists()
        assert remove_leftovers(place) == []
    assert not list(place.iterdir())


def test_nothing_but_leftovers_is_removed(place: Path) -> None:
    dead = leftover(place)
    without_lock = leftover(place, "young", lock=False)
    (place / "other").mkdir()
    (place / "other" / LOCK_FILE).touch()
    (place / f"{PREFIX}file").touch()
    assert remove_leftovers(place) == [dead]
    assert not dead.exists()
    assert {path.name for path in place.iterdir()} == {without_lock.name, "other", f"{PREFIX}file"}


def test_links_are_not_followed(place: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (precious / LOCK_FILE).touch()
    (place / f"{PREFIX}link").symlink_to(precious)
    (place / f"{PREFIX}locked").mkdir()
    (place / f"{PREFIX}locked" / LOCK_FILE).symlink_to(precious / LOCK_FILE)
    (leftover(place) / "uploads" / "link").symlink_to(precious)
    assert [folder.name for folder in remove_leftovers(place)] == [f"{PREFIX}dead"]
    assert (precious / "file").read_text() == "kept"
    assert {path.name for path in place.iterdir()} == {f"{PREFIX}link", f"{PREFIX}locked"}


def test_folders_of_other_users_stay(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, user = leftover(place), os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert remove_leftovers(place) == []
    assert theirs.exists()
