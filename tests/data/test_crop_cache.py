"""Crops on disk: cut once, named by their content, safe from damage, kills and other processes."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
from collections import namedtuple
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.data import crop_cache
from hhmnet.data.crop_cache import CacheError, CropCache, write_crops
from hhmnet.data.roi import ClipCrops, RoiConfig, cut_clip, empty_crops
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store, write_store
from made_crops import made_clip, write_made_store

SMALL = RoiConfig(instants=3, cell=12, scene=16, scene_instants=2)
NAMES = {"layout": KINECT20, "class_names": ["sit", "stand"], "protocol": "given", "provenance": {}}

Made = tuple[Store, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six clips with videos and one without; only for reading."""
    samples = [made_clip(n) for n in range(6)] + [made_clip(6, video=None, video_frames=None)]
    return write_made_store(tmp_path_factory.mktemp("made"), samples)


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the videos; two of them are damaged and one is missing."""
    folder = Path(shutil.copytree(made[1], tmp_path / "copy"))
    (folder / "made01.mkv").write_bytes(b"this is no video")
    os.truncate(folder / "made02.mkv", (folder / "made02.mkv").stat().st_size * 2 // 3)
    (folder / "made04.mkv").unlink()
    return folder


@pytest.fixture
def cutting(monkeypatch):
    """Names of the clips that are cut from now on."""
    cut: list[str] = []

    def count(sample: Sample, *others: object) -> tuple[ClipCrops, str]:
        cut.append(sample.sample_id)
        return cut_clip(sample, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(crop_cache, "cut_clip", count)
    return cut


def check(cache: CropCache, i: int, made: Made) -> None:
    """The cache has what is cut out of the clip's video."""
    sample = made[0].sample(i)
    whole, _ = cut_clip(sample, KINECT20, made[1] / sample.video, cache.config)
    for name, a, b in zip(ClipCrops._fields, cache.get(made[0], i, made[1]), whole, strict=True):
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("??/*"))


def test_crops_are_cut_once_and_a_video_is_known_by_its_content(made, tmp_path, cutting):
    for cache in (CropCache(tmp_path / "c", SMALL), CropCache(tmp_path / "c", SMALL)):
        for i in (0, 3, 0):
            check(cache, i, made)
    assert (cutting, cache.problems, len(files_in(tmp_path / "c"))) == (["made00", "made03"], {}, 2)
    copy = Path(shutil.copytree(made[1], tmp_path / "copy"))
    os.utime(copy / "made00.mkv", (1, 1))
    CropCache(tmp_path / "c", SMALL).get(made[0], 0, copy)
    assert len(cutting) == 2
    for kept in (tmp_path / "c/videos").iterdir():
        assert str(tmp_path) not in kept.name + kept.read_text(), "nobody's paths are kept"
        kept.write_text(kept.read_text()[:20])  # of a killed process
    CropCache(tmp_path / "c", SMALL).get(made[0], 0, copy)
    assert len(cutting) == 2
    shutil.copy(made[1] / "made01.mkv", copy / "made00.mkv")
    CropCache(tmp_path / "c", SMALL).get(made[0], 0, copy)
    assert len(cutting) == 3


def test_crops_that_were_made_earlier_are_found(tmp_path):
    """These names are those of the first version: caches may hold a day's work."""
    frames, shape = np.arange(3, dtype=np.int32), (1, 3, 20)
    sample = Sample("a", 0, np.zeros((*shape, 3), np.float32), np.ones(shape[:2], bool), frames)
    ones = {"pixels": np.ones((*shape, 2), np.float32), "boxes": np.ones((1, 3, 4), np.float32)}
    sample = dataclasses.replace(sample, video="a.mkv", video_frames=frames, **ones)
    write_store(tmp_path / "s", [sample], **NAMES)
    (tmp_path / "a.mkv").write_bytes(b"no video")
    for config, name in (
        (RoiConfig(), "2601a0972746e3522c12185d49c6e03d4470b785"),
        (RoiConfig(show="background", instants=3), "3048b38a92554768a73dbc069ffdfc9f18884d88"),
    ):
        file = CropCache(tmp_path / "c", config).locate(Store(tmp_path / "s"), 0, tmp_path)
        assert file == tmp_path / "c" / name[:2] / f"{name}.safetensors"


def test_what_crops_depend_on(made, tmp_path):
    clip, usual = made_clip(0), CropCache(tmp_path / "c", SMALL).locate(made[0], 0, made[1])
    clip.joints[:, 3] = 0  # where nobody may be
    matters: dict[str, Any] = {
        "pixels": clip.pixels + np.float32(0.01),
        "boxes": np.zeros((1, 12, 4), np.float32),
        "confidence": np.ones((1, 12, 20), np.float32),
        "present": np.arange(12)[None] != 3,
        "video_frames": clip.video_frames[::-1].copy(),
    }
    others = {"label": 1, "joints": clip.joints + 1, "sample_id": "new"}
    for field, value in (matters | others).items():
        write_store(tmp_path / field, [dataclasses.replace(clip, **{field: value})], **NAMES)
        found = CropCache(tmp_path / "c", SMALL).locate(Store(tmp_path / field), 0, made[1])
        assert (found != usual) == (field in matters), field
    for config in (dataclasses.replace(SMALL, margin=0.3), dataclasses.replace(SMALL, instants=4)):
        assert CropCache(tmp_path / "c", config).locate(made[0], 0, made[1]) != usual


@pytest.mark.parametrize("harm", ["longer", "cut", "noise", "other size"])
def test_a_damaged_file_is_made_again(made, tmp_path, cutting, harm):
    cache = CropCache(tmp_path, SMALL)
    cache.get(made[0], 0, made[1])
    (file,) = tmp_path.glob("*/*.safetensors")
    content = file.read_bytes()
    other = {"longer": content + b"\0", "cut": content[:-1], "noise": os.urandom(len(content))}
    if harm == "other size":
        write_crops(file, empty_crops(RoiConfig(instants=2, cell=9)))
    else:
        file.write_bytes(other[harm])
    check(cache, 0, made)
    assert file.read_bytes() == content
    assert cutting == ["made00"] * 2


def test_videos_that_are_missing_or_damaged(made, copy, tmp_path, cutting):
    store, cache = made[0], CropCache(tmp_path / "c", SMALL)
    blind, cut, gone = (cache.get(store, i, copy) for i in (1, 2, 4))
    assert not blind.part_mask.any()
    assert cut.part_mask[0].all()
    assert not cut.part_mask[-1].any()
    for one, empty in zip(gone, empty_crops(SMALL, 12), strict=True):
        np.testing.assert_array_equal(one, empty)
    assert set(cache.problems) == {"made01", "made02", "made04"}
    assert cache.problems["made02"].startswith("made02.mkv: frame ")
    assert "made04.mkv: No such file" in cache.problems["made04"]
    again = CropCache(tmp_path / "c", SMALL)
    assert [again.get(store, i, copy).part_mask.any() for i in (1, 2, 4)] == [False, True, False]
    assert again.problems == cache.problems, "what is wrong is kept with the crops"
    assert cutting == ["made01", "made02"]
    assert len(files_in(tmp_path / "c")) == 2, "nothing may be kept of a video that comes later"
    for name in again.problems:
        shutil.copy(made[1] / f"{name}.mkv", copy)
    assert again.build(store, [1, 2, 4], copy) == again.problems == {}


def test_a_folder_that_cannot_be_written(made, tmp_path):
    (tmp_path / "file").write_text("")
    cache = CropCache(tmp_path / "file" / "c", SMALL)
    with pytest.raises(CacheError, match=r"can't be written to .*; name another folder in HHMNET_CACHE"):
        cache.build(made[0], [0], made[1])


def test_too_little_space_is_noticed_beforehand(made, tmp_path, monkeypatch, cutting):
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


def test_building_in_processes(made, copy, tmp_path, cutting):
    cache, steps = CropCache(tmp_path / "c", SMALL), list[tuple[int, int]]()
    rows = np.array([6, 0, 1, 3, 4, 5])
    found = cache.build(made[0], rows, copy, 2, lambda done, total: steps.append((done, total)))
    assert set(found) == set(cache.problems) == {"made01", "made04"}
    assert (steps[0], steps[-1]) == ((2, 6), (6, 6))
    for i in (0, 3, 5):
        check(cache, i, made)
    cutting.clear()
    CropCache(tmp_path / "c", SMALL).build(made[0], range(7), copy)
    assert cutting == ["made01", "made02"]  # the first once more


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork imports nothing anew")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_that_write_at_once(made, tmp_path, cutting):
    cache = CropCache(tmp_path / "c", SMALL)
    with ProcessPoolExecutor(3, multiprocessing.get_context("fork")) as pool:
        running = [pool.submit(cache.build, made[0], range(7), made[1]) for _ in range(3)]
        assert [process.result() for process in running] == [{}] * 3
    names = files_in(tmp_path / "c")
    assert len(names) == 6
    assert all(name.endswith(".safetensors") and not name.startswith(".") for name in names)
    assert cache.build(made[0], range(7), made[1]) == {}
    assert cutting == []
    for i in range(6):
        check(cache, i, made)
