from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from hhmnet.data.crop_files import (
    INDEX_FILE,
    DamagedError,
    VideoIndex,
    clear,
    fill_crops,
    holdings,
    map_crops,
    read_facts,
    write_crops,
)
from hhmnet.data.roi import ClipCrops, RoiConfig, empty_crops
from hhmnet.files import replacing

SMALL = RoiConfig(instants=3, cell=9, scene=11, scene_instants=2)


def some_crops(seed: int = 0) -> ClipCrops:
    rng = np.random.default_rng(seed)
    return ClipCrops(
        *(
            (rng.random(a.shape) * 255).astype(a.dtype) if a.dtype != bool else rng.random(a.shape) < 0.5
            for a in empty_crops(SMALL)
        )
    )


def assert_same(one: ClipCrops, other: ClipCrops) -> None:
    for name, a, b in zip(ClipCrops._fields, one, other, strict=True):
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_crops(tmp_path / "a.safetensors", some_crops(), {"store": "made", "problem": ""})
    return tmp_path / "a.safetensors"


def test_what_is_written_is_read(file: Path) -> None:
    found, facts = map_crops(file)
    assert_same(found, some_crops())
    assert facts == read_facts(file) == {"store": "made", "problem": ""}
    assert not any(array.flags.writeable for array in found)
    places = ClipCrops(*(np.full_like(array, 7) for array in some_crops()))
    assert fill_crops(file, places) == facts
    assert_same(places, some_crops())
    assert os.listdir(file.parent) == [file.name]


def test_the_library_of_the_format_reads_the_same(file: Path) -> None:
    assert_same(ClipCrops(**load_file(file)), some_crops())


def test_every_cut_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    places = empty_crops(SMALL)
    for length in [*range(0, 40), *range(40, len(content), 97), len(content) - 1]:
        file.write_bytes(content[:length])
        for read in (map_crops, read_facts, lambda f: fill_crops(f, places)):
            with pytest.raises(DamagedError, match=r"a\.safetensors"):
                read(file)
    file.write_bytes(content + b"\0")
    with pytest.raises(DamagedError):
        map_crops(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4096, b"text that is no header at all", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]"],
)
def test_other_content_is_noticed(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for read in (map_crops, read_facts):
        with pytest.raises(DamagedError):
            read(file)


def test_crops_of_other_shapes_are_not_read_into_these_places(file: Path) -> None:
    with pytest.raises(DamagedError, match="array 'parts'"):
        fill_crops(file, empty_crops(RoiConfig(instants=2, cell=9, scene=11, scene_instants=2)))


# A folder of them.


def settings(**fields: object) -> str:
    return json.dumps(vars(RoiConfig(**fields)))  # type: ignore[arg-type]


def put(folder: Path, name: str, store: str, text: str, age: float = 0.0) -> Path:
    file = folder / name[:2] / f"{name}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_crops(file, some_crops(), {"store": store, "settings": text})
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def test_holdings_by_store_and_settings(tmp_path: Path) -> None:
    assert holdings(tmp_path / "none") == ([], 0)
    files = [put(tmp_path, name, "one", settings()) for name in ("aa1", "aa2", "bb3")]
    put(tmp_path, "cc4", "one", settings(cell=9))
    put(tmp_path, "cc5", "two", settings())
    put(tmp_path, "cc6", "two", '{"shoes": 2}')
    (tmp_path / "cc" / "cc7.safetensors").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("not ours")
    found, damaged = holdings(tmp_path)
    assert damaged == 2
    size = files[0].stat().st_size
    assert (found[0].store, found[0].settings, found[0].clips, found[0].bytes) == (
        "one",
        RoiConfig(),
        3,
        3 * size,
    )
    assert {(h.store, h.settings.cell, h.clips) for h in found[1:]} == {("one", 9, 1), ("two", 72, 1)}


def test_clearing_takes_crops_alone(tmp_path: Path) -> None:
    old, new = put(tmp_path, "aa1", "one", "", age=3 * 86400), put(tmp_path, "bb2", "one", "", age=60)
    left = tmp_path / "aa" / f".aa8.safetensors.{'0' * 32}.tmp"
    left.write_bytes(b"half")
    other = tmp_path / "aa" / "notes.txt"
    other.write_text("not ours")
    (tmp_path / INDEX_FILE).write_text("")
    size = old.stat().st_size
    with suppress(KeyboardInterrupt), replacing(tmp_path / "aa" / "aa9.safetensors") as being_written:
        assert clear(tmp_path, 2 * 86400) == (1, size)
        assert Path(being_written.name).exists()
        raise KeyboardInterrupt
    assert not old.exists()
    assert new.exists()
    assert not left.exists(), "a killed process's"
    assert (tmp_path / INDEX_FILE).exists()
    assert clear(tmp_path) == (1, size)
    assert other.exists()
    assert not (tmp_path / INDEX_FILE).exists()
    assert clear(tmp_path / "none") == (0, 0)


# Which video has which content.


def counted(index: VideoIndex, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The videos that are read through from now on."""
    import hashlib

    read: list[Path] = []
    digest = hashlib.file_digest

    def count(handle, name):
        read.append(Path(handle.name))
        return digest(handle, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return read


def test_a_video_is_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"first")
    index = VideoIndex(tmp_path / "cache" / INDEX_FILE)
    read = counted(index, monkeypatch)
    first = index.digest(video)
    assert first == index.digest(video) == VideoIndex(index.file).digest(video)
    assert len(read) == 1
    video.write_bytes(b"other")
    os.utime(video, ns=(0, 5))
    assert index.digest(video) != first
    video.write_bytes(b"first")
    os.utime(video, ns=(0, 9))
    assert index.digest(video) == first
    assert len(read) == 3
    assert str(tmp_path) not in index.file.read_text(), "nobody's paths are kept"
    with pytest.raises(FileNotFoundError):
        index.digest(tmp_path / "none.mp4")


def test_half_a_line_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [tmp_path / f"{n}.mp4" for n in range(3)]
    for n, video in enumerate(videos):
        video.write_bytes(b"%d" % n)
    index = VideoIndex(tmp_path / INDEX_FILE)
    index.digest(videos[0])
    with open(index.file, "ab") as handle:
        handle.write(b'{"video": "abc", "byt')
    index.digest(videos[1])
    with open(index.file, "ab") as handle:
        handle.write(b'[1]\n{"video": 3}\nnull\n')
    again = VideoIndex(index.file)
    read = counted(again, monkeypatch)
    for video in videos:
        again.digest(video)
    assert read == [videos[2]]


def test_an_index_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a.mp4").write_bytes(b"a")
    index = VideoIndex(tmp_path / "file" / INDEX_FILE)
    assert index.digest(tmp_path / "a.mp4") == VideoIndex(tmp_path / "x").digest(tmp_path / "a.mp4")


MANY = """
import sys
from pathlib import Path
from hhmnet.data.crop_files import VideoIndex
folder = Path(sys.argv[1])
index = VideoIndex(folder / "index.jsonl")
for video in sorted(folder.glob("*.mp4")):
    index.digest(video)
"""


def test_many_processes_add_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(60):
        (tmp_path / f"{n:02d}.mp4").write_bytes(b"%d" % n)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path)], env=environment) for _ in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    index = VideoIndex(tmp_path / "index.jsonl")
    read = counted(index, monkeypatch)
    for video in sorted(tmp_path.glob("*.mp4")):
        index.digest(video)
    assert read == []
