"""Crops on disk: cut once, named by their content, safe from damage, kills and other processes."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.data import crop_cache
from hhmnet.data.crop_cache import (
    CacheError,
    CropCache,
    DamagedError,
    read_crops,
    read_facts,
    write_crops,
)
from hhmnet.data.roi import ClipCrops, RoiConfig, cut_clip, empty_crops
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store, write_store
from made_crops import made_clip, write_made_store

SMALL = RoiConfig(instants=3, cell=12, scene=16, scene_instants=2)

Made = tuple[Store, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Six clips with videos and one without; only for reading."""
    samples = [made_clip(n) for n in range(6)] + [made_clip(6, video=None, video_frames=None)]
    return write_made_store(tmp_path_factory.mktemp("made"), samples)


@pytest.fixture
def fork() -> Iterator[Callable[..., BaseProcess]]:
    """Runs a function in another process that begins at once: a fork, which imports nothing anew."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    started = []

    def start(function: Callable[..., object], *words: object) -> BaseProcess:
        started.append(multiprocessing.get_context("fork").Process(target=function, args=words))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def cutting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that are cut from now on."""
    cut: list[str] = []

    def count(sample: Sample, *others: object) -> tuple[ClipCrops, str]:
        cut.append(sample.sample_id)
        return cut_clip(sample, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(crop_cache, "cut_clip", count)
    return cut


def assert_same(one: ClipCrops, other: ClipCrops) -> None:
    for name, a, b in zip(ClipCrops._fields, one, other, strict=True):
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


def plain(store: Store, i: int, videos: Path, config: RoiConfig = SMALL) -> ClipCrops:
    sample = store.sample(i)
    return cut_clip(sample, store.layout, videos / sample.video, config)[0]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("??/*"))


def test_crops_are_cut_once(made: Made, tmp_path: Path, cutting: list[str]) -> None:
    store, videos = made
    cache = CropCache(tmp_path / "c", SMALL)
    for i in (0, 3, 0):
        assert_same(cache.get(store, i, videos), plain(store, i, videos))
    assert_same(CropCache(tmp_path / "c", SMALL).get(store, 3, videos), plain(store, 3, videos))
    assert cutting == ["made00", "made03"]
    assert len(files_in(tmp_path / "c")) == 2
    assert cache.problems == {}
    # A video is known by its content.
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    os.utime(copy / "made00.mkv", (1, 1))
    CropCache(tmp_path / "c", SMALL).get(store, 0, copy)
    assert len(cutting) == 2
    shutil.copy(videos / "made01.mkv", copy / "made00.mkv")
    crops = CropCache(tmp_path / "c", SMALL).get(store, 0, copy)
    assert len(cutting) == 3
    assert (crops.parts != plain(store, 0, videos).parts).any()


# What a clip's crops depend on.


def test_crops_that_were_made_earlier_are_found(tmp_path: Path) -> None:
    """These names are those of the first version: caches may hold a day's work."""
    frames = np.arange(3, dtype=np.int32)
    sample = Sample(
        *("a", 0, np.zeros((1, 3, 20, 3), np.float32), np.ones((1, 3), bool), frames),
        video="a.mkv",
        video_frames=frames,
        pixels=np.ones((1, 3, 20, 2), np.float32),
        boxes=np.ones((1, 3, 4), np.float32),
    )
    names = {"layout": KINECT20, "class_names": ["x"], "protocol": "given", "provenance": {}}
    write_store(tmp_path / "s", [sample], **names)  # type: ignore[arg-type]
    (tmp_path / "a.mkv").write_bytes(b"no video")
    for config, name in (
        (RoiConfig(), "2601a0972746e3522c12185d49c6e03d4470b785"),
        (RoiConfig(show="background", instants=3), "3048b38a92554768a73dbc069ffdfc9f18884d88"),
    ):
        file = CropCache(tmp_path / "c", config).locate(Store(tmp_path / "s"), 0, tmp_path)
        assert file == tmp_path / "c" / name[:2] / f"{name}.safetensors"


def test_what_crops_depend_on(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, usual = made_clip(0), CropCache(tmp_path / "c", SMALL).locate(made[0], 0, made[1])
    present = np.ones((1, 12), bool)
    present[0, 3] = False
    matters: dict[str, dict[str, Any]] = {
        "pixels": {"pixels": clip.pixels + np.float32(0.01)},
        "boxes": {"boxes": np.zeros((1, 12, 4), np.float32)},
        "confidence": {"confidence": np.ones((1, 12, 20), np.float32)},
        "present": {"present": present, "joints": clip.joints * present[..., None, None]},
        "video_frames": {"video_frames": clip.video_frames[::-1].copy()},
    }
    others = {"label": {"label": 1}, "joints": {"joints": clip.joints + 1}, "sample_id": {"sample_id": "new"}}
    names = {"layout": KINECT20, "class_names": ["sit", "stand"], "protocol": "given", "provenance": {}}
    for field, change in (matters | others).items():
        write_store(tmp_path / field, [dataclasses.replace(clip, **change)], **names)
        found = CropCache(tmp_path / "c", SMALL).locate(Store(tmp_path / field), 0, made[1])
        assert (found != usual) == (field in matters), field
    words = {"person_scale": "box", "show": "background", "margin": 0.3}
    for setting in dataclasses.fields(RoiConfig):
        value = words.get(setting.name) or getattr(SMALL, setting.name) * 2
        config = dataclasses.replace(SMALL, **{setting.name: value})
        assert CropCache(tmp_path / "c", config).locate(made[0], 0, made[1]) != usual, setting.name
    monkeypatch.setattr(crop_cache, "VERSION", crop_cache.VERSION + 1)
    assert CropCache(tmp_path / "c", SMALL).locate(made[0], 0, made[1]) != usual


# What goes wrong.


@pytest.mark.parametrize("harm", ["longer", "cut", "noise", "other size"])
def test_a_damaged_file_is_made_again(made: Made, tmp_path: Path, cutting: list[str], harm: str) -> None:
    store, videos = made
    cache = CropCache(tmp_path, SMALL)
    cache.get(store, 0, videos)
    (file,) = tmp_path.glob("*/*.safetensors")
    content, facts = file.read_bytes(), read_facts(file)
    other = {"longer": content + b"\0", "cut": content[:-1], "noise": os.urandom(len(content))}
    if harm == "other size":
        write_crops(file, empty_crops(RoiConfig(instants=2, cell=9)), facts)
    else:
        file.write_bytes(other[harm])
        with pytest.raises(DamagedError, match=file.name):
            read_crops(file)
    assert_same(cache.get(store, 0, videos), plain(store, 0, videos))
    assert file.read_bytes() == content
    assert cutting == ["made00"] * 2


def test_a_video_that_is_not_there(made: Made, tmp_path: Path) -> None:
    store, videos = made
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    (copy / "made02.mkv").unlink()
    cache = CropCache(tmp_path / "c", SMALL)
    assert_same(cache.get(store, 2, copy), empty_crops(SMALL, 12))
    assert list(cache.problems) == ["made02"]
    assert "made02.mkv: No such file" in cache.problems["made02"]
    assert files_in(tmp_path / "c") == [], "nothing may be kept of a video that comes later"
    assert not cache.ensure(store, 2, copy)
    shutil.copy(videos / "made02.mkv", copy)
    assert CropCache(tmp_path / "c", SMALL).get(store, 2, copy).part_mask.any()
    assert (cache.ensure(store, 2, copy), cache.problems) == (False, {})


def test_a_video_that_cannot_be_read(made: Made, tmp_path: Path, cutting: list[str]) -> None:
    store, videos = made
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    (copy / "made01.mkv").write_bytes(b"this is no video")
    content = (copy / "made02.mkv").read_bytes()
    (copy / "made02.mkv").write_bytes(content[: len(content) * 2 // 3])
    cache = CropCache(tmp_path / "c", SMALL)
    assert_same(cache.get(store, 1, copy), empty_crops(SMALL, 12))
    cut = cache.get(store, 2, copy)
    assert cut.part_mask[0].all()
    assert not cut.part_mask[-1].any()
    assert set(cache.problems) == {"made01", "made02"}
    assert cache.problems["made02"].startswith("made02.mkv: frame ")
    again = CropCache(tmp_path / "c", SMALL)
    again.get(store, 1, copy)
    again.get(store, 2, copy)
    assert again.problems == cache.problems, "what is wrong is kept with the crops"
    assert cutting == ["made01", "made02"]
    assert CropCache(tmp_path / "c", SMALL).ensure(store, 2, copy), "building tries again"


def test_a_folder_that_cannot_be_written(made: Made, tmp_path: Path) -> None:
    store, videos = made
    (tmp_path / "file").write_text("")
    cache = CropCache(tmp_path / "file" / "c", SMALL)
    with pytest.raises(CacheError, match=r"can't be written to .*; name another folder in HHMNET_CACHE"):
        cache.build(store, [0], videos)


def test_too_little_space_is_noticed_beforehand(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cutting: list[str]
) -> None:
    store, videos = made
    cache = CropCache(tmp_path, SMALL)
    usage, size = namedtuple("usage", "total used free"), sum(array.nbytes for array in empty_crops(SMALL))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 3 * size))
    with pytest.raises(CacheError, match=r"the crops of 6 clips take 0\.0 GB.*HHMNET_CACHE"):
        cache.build(store, range(7), videos)
    assert cutting == []
    cache.build(store, range(2), videos)
    cache.build(store, range(4), videos)  # two of them are there already
    assert len(cutting) == 4


def test_a_video_is_read_through_once_unless_it_changes(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, videos = made
    copy, cache = Path(shutil.copytree(videos, tmp_path / "copy")), tmp_path / "cache"
    reading: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *file: reading.append(file[0].name) or digest(*file))

    def locate() -> Path | None:
        return CropCache(cache, SMALL).locate(store, 0, copy)

    first = locate()
    assert first == locate()
    (kept,) = (cache / "videos").iterdir()
    assert str(tmp_path) not in kept.name + kept.read_text(), "nobody's paths are kept"
    assert reading == [str(copy / "made00.mkv")]
    kept.write_text(kept.read_text()[:20])  # of a killed process
    assert first == locate()
    shutil.copy(videos / "made01.mkv", copy / "made00.mkv")
    assert first != locate()
    assert len(reading) == 3
    (tmp_path / "file").write_text("")
    assert CropCache(tmp_path / "file", SMALL).locate(store, 0, videos) is not None, "it is done without"


# Built ahead, in processes.


def test_building(made: Made, tmp_path: Path, cutting: list[str]) -> None:
    store, videos = made
    jobs = 2
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    (copy / "made05.mkv").write_bytes(b"this is no video")
    (copy / "made04.mkv").unlink()
    cache = CropCache(tmp_path / "c", SMALL)
    steps: list[tuple[int, int]] = []
    rows = np.array([6, 0, 1, 2, 4, 5])
    found = cache.build(store, rows, copy, jobs, lambda done, total: steps.append((done, total)))
    assert set(found) == set(cache.problems) == {"made04", "made05"}
    assert (steps[0], steps[-1]) == ((0, 6), (6, 6))
    for i in (0, 1, 2):
        assert_same(cache.get(store, i, copy), plain(store, i, videos))
    cutting.clear()
    CropCache(tmp_path / "c", SMALL).build(store, range(7), copy)
    assert cutting == ["made03", "made05"]  # this one once more


def build_all(store: Store, videos: Path, folder: Path, config: RoiConfig) -> None:
    CropCache(folder, config).build(store, range(len(store)), videos)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_that_write_at_once(made: Made, tmp_path: Path, fork) -> None:
    store, videos = made
    running = [fork(build_all, store, videos, tmp_path / "c", SMALL) for _ in range(3)]
    for process in running:
        process.join(120)
        assert process.exitcode == 0
    names = files_in(tmp_path / "c")
    assert len(names) == 6
    assert all(name.endswith(".safetensors") and not name.startswith(".") for name in names)
    cache = CropCache(tmp_path / "c", SMALL)
    for i in range(6):
        assert not cache.ensure(store, i, videos)
        assert_same(cache.get(store, i, videos), plain(store, i, videos))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_process_leaves_nothing_that_could_be_taken_for_crops(
    made: Made, tmp_path: Path, fork
) -> None:
    store, videos = made
    config = dataclasses.replace(SMALL, cell=400)  # large files, so that it is killed while it writes one
    cache = CropCache(tmp_path / "c", config)
    for count in (1, 2):
        process = fork(build_all, store, videos, tmp_path / "c", config)
        while len(files_in(tmp_path / "c")) < 2 * count and process.is_alive():
            pass
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        whole = [name for name in files_in(tmp_path / "c") if not name.startswith(".")]
        for i in range(6):
            file = cache.locate(store, i, videos)
            assert file.exists() == (file.name in whole)
            if file.exists():
                assert_same(cache.get(store, i, videos), plain(store, i, videos, config))
    build_all(store, videos, tmp_path / "c", config)
    assert not any(cache.ensure(store, i, videos) for i in range(6))
    assert all(not name.startswith(".") for name in files_in(tmp_path / "c")), "leftovers are removed"
