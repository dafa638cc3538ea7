from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from hhmnet.data.crop_cache import INDEX_FILE
from hhmnet.data.video_index import VideoIndex


def digest_all(videos: Path, index: Path) -> None:
    for video in sorted(videos.glob("*.mp4")):
        VideoIndex(index).digest(video)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that are read through from now on."""
    read: list[str] = []
    digest = hashlib.file_digest

    def count(handle, name):
        read.append(Path(handle.name).name)
        return digest(handle, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return read


def test_a_video_is_read_through_once(tmp_path: Path, reading: list[str]) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"first")
    index = VideoIndex(tmp_path / "cache" / INDEX_FILE)
    first = index.digest(video)
    assert first == index.digest(video) == VideoIndex(index.file).digest(video)
    assert len(reading) == 1
    video.write_bytes(b"other")
    os.utime(video, ns=(0, 5))
    assert index.digest(video) != first
    video.write_bytes(b"first")
    os.utime(video, ns=(0, 9))
    assert index.digest(video) == first
    assert len(reading) == 3
    assert str(tmp_path) not in index.file.read_text(), "nobody's paths are kept"
    with pytest.raises(FileNotFoundError):
        index.digest(tmp_path / "none.mp4")
    (tmp_path / "file").write_text("")
    assert VideoIndex(tmp_path / "file" / INDEX_FILE).digest(video) == first, "it is done without"


def test_half_a_line_costs_nothing_else(tmp_path: Path, reading: list[str]) -> None:
    videos = [tmp_path / f"{n}.mp4" for n in range(3)]
    for n, video in enumerate(videos):
        video.write_bytes(b"%d" % n)
    index = VideoIndex(tmp_path / INDEX_FILE)
    for video, text in ((videos[0], b'{"video": "abc", "byt'), (videos[1], b'[1]\n{"video": 3}\nnull\n')):
        index.digest(video)
        with open(index.file, "ab") as handle:
            handle.write(text)
    reading.clear()
    for video in videos:
        VideoIndex(index.file).digest(video)
    assert reading == ["2.mp4"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_many_processes_add_at_once(tmp_path: Path, fork, reading: list[str]) -> None:
    for n in range(60):
        (tmp_path / f"{n:02d}.mp4").write_bytes(b"%d" % n)
    for process in [fork(digest_all, tmp_path, tmp_path / "index.jsonl") for _ in range(3)]:
        process.join(60)
        assert process.exitcode == 0
    digest_all(tmp_path, tmp_path / "index.jsonl")
    assert reading == []
    assert all(json.loads(line) for line in (tmp_path / "index.jsonl").read_text().splitlines() if line)
