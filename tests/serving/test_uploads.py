"""What an upload is, by its content; and the folder that it lies in: nobody else's, and gone with its server, also
after ``kill -9``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from hhmnet.files import LOCK_FILE
from hhmnet.serving.uploads import HEAD, PREFIX, ending, private_folder, remove_leftovers
from made_video import write_video

HOLD = """
from hhmnet.serving.uploads import private_folder
with private_folder() as folder:
    (folder / "upload.mp4").write_bytes(b"someone's")
    print(folder, flush=True)
    input()
"""


CODECS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mpeg4", ".mpg": "mpeg2video", ".wmv": "wmv2"}
CODECS |= {".flv": "flv", ".ts": "mpeg2video", ".webm": "libvpx", ".3gp": "mpeg4", ".mts": "mpeg2video"}
ALIKE = {".webm": ".mkv", ".3gp": ".mp4", ".mts": ".ts"}


def test_real_videos_are_known_by_their_content(tmp_path: Path) -> None:
    for suffix, codec in CODECS.items():
        file = write_video(tmp_path / f"v{suffix}", codec)
        assert ending(file.read_bytes()[:HEAD]) == ALIKE.get(suffix, suffix)


def test_arrays_and_texts_are_known_by_how_they_begin(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", joints=np.zeros((3, 20, 3)))
    np.save(tmp_path / "a.npy", np.zeros((3, 20, 3)))
    assert ending(b"GIF89a" + bytes(20)) == ".gif"
    assert ending((tmp_path / "a.npz").read_bytes()[:HEAD]) == ".npz"
    assert ending((tmp_path / "a.npy").read_bytes()[:HEAD]) == ".npy"
    texts = {
        '{"skeletons": []}': ".json",
        "\ufeff  [[1, 2]]": ".json",
        "103\r\n1\r\n72057594037931101 0 1 1": ".skeleton",
        "frame,joint,x,y,z\n0,head,1,2,3\n": ".csv",
        "frame,joint,x\n" + "é€" * HEAD: ".csv",
        **dict.fromkeys(("#EXTM3U\n", "words", "   ", "a,b\0c")),
    }
    for text, found in texts.items():
        assert ending(text.encode()[:HEAD]) == found, text


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


def test_nothing_but_leftovers_of_ones_own_is_removed_and_no_link_is_followed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious, user = tmp_path / "precious", os.getuid()
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
    with monkeypatch.context() as of_another:
        of_another.setattr(os, "getuid", lambda: user + 1)
        assert remove_leftovers(place) == []
    assert remove_leftovers(place) == [dead]
    assert [(precious / name).read_text() for name in ("file", LOCK_FILE)] == ["kept", "kept"]
    kept = {path.name.removeprefix(PREFIX) for path in place.iterdir()}
    assert kept == {"young", "locked", "link", "file", "other"}
