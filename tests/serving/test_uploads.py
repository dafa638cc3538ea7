"""What a file is, by its content."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' isn't installed")

from hhmnet.serving.uploads import HEAD, ending
from made_video import write_video


@pytest.mark.parametrize(
    ("suffix", "codec", "found"),
    [
        (".mp4", "libx264", ".mp4"),
        (".mov", "libx264", ".mp4"),
        (".mkv", "libx264", ".mkv"),
        (".webm", "libvpx", ".mkv"),
        (".avi", "mpeg4", ".avi"),
        (".mpg", "mpeg2video", ".mpg"),
        (".wmv", "wmv2", ".wmv"),
        (".3gp", "mpeg4", ".mp4"),
        (".flv", "flv", ".flv"),
        (".ts", "mpeg2video", ".ts"),
        (".mts", "mpeg2video", ".ts"),
    ],
)
def test_real_videos_are_known_by_their_content(tmp_path: Path, suffix: str, codec: str, found: str) -> None:
    file = write_video(tmp_path / f"v{suffix}", codec)
    assert ending(file.read_bytes()[:HEAD]) == found


def test_real_arrays_are_known_by_their_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", joints=np.zeros((3, 20, 3)))
    np.save(tmp_path / "a.npy", np.zeros((3, 20, 3)))
    assert zipfile.is_zipfile(tmp_path / "a.npz")
    assert ending(b"GIF89a" + bytes(20)) == ".gif"
    assert ending((tmp_path / "a.npz").read_bytes()[:HEAD]) == ".npz"
    assert ending((tmp_path / "a.npy").read_bytes()[:HEAD]) == ".npy"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"skeletons": []}', ".json"),
        ("\ufeff  [[1, 2]]", ".json"),
        ("103\r\n1\r\n72057594037931101 0 1 1", ".skeleton"),
        ("frame,joint,x,y,z\n0,head,1,2,3\n", ".csv"),
        ("frame,joint,x\n" + "é€" * HEAD, ".csv"),
        ("#EXTM3U\n", None),
        ("words", None),
        ("   ", None),
        ("a,b\0c", None),
    ],
)
def test_text_is_known_by_how_it_begins(text: str, found: str | None) -> None:
    assert ending(text.encode()[:HEAD]) == found
