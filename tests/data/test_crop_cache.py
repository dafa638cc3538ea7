from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hhmnet.data import crop_cache
from hhmnet.data.crop_building import CacheError
from hhmnet.data.crop_cache import CropCache, VideoProblem, crops_folder
from hhmnet.data.roi import ClipCrops, RoiConfig, crop_clip, empty_crops
from hhmnet.sample import Sample
from hhmnet.store import Store
from hhmnet.video import open_video
from made_crops import made_clip, write_made_store

SMALL = RoiConfig(instants=3, cell=12, scene=16, scene_instants=2)

Made = tuple[Store, Path]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Six clips with videos and one without; only for reading."""
    samples = [made_clip(n) for n in range(6)] + [made_clip(6, video=None, video_frames=None)]
    return write_made_store(tmp_path_factory.mktemp("made"), samples)


@pytest.fixture
def cutting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that are cut from now on."""
    cut: list[str] = []

    def count(sample: Sample, *others: object) -> ClipCrops:
        cut.append(sample.sample_id)
        return crop_clip(sample, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(crop_cache, "crop_clip", count)
    return cut


def assert_same(one: ClipCrops, other: ClipCrops) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def plain(store: Store, i: int, videos: Path) -> ClipCrops:
    sample = store.sample(i)
    with open_video(videos / sample.video) as video:
        return crop_clip(sample, store.layout, video, SMALL)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*"))


def test_crops_are_made_once(made: Made, tmp_path: Path, cutting: list[str]) -> None:
    store, videos = made
    cache = CropCache(tmp_path / "c", SMALL)
    for i in (0, 3, 0):
        assert_same(cache.get(store, i, videos), plain(store, i, videos))
    assert_same(CropCache(tmp_path / "c", SMALL).get(store, 3, videos), plain(store, 3, videos))
    assert cutting == ["made00", "made03"]
    assert len(files_in(tmp_path / "c")) == 2
    assert all(len(path.parent.name) == 2 for path in (tmp_path / "c").glob("*/*"))
    assert cache.problems == {}


def test_crops_are_read_into_their_places(made: Made, tmp_path: Path) -> None:
    store, videos = made
    cache = CropCache(tmp_path, SMALL)
    places = ClipCrops(*(np.full((4, *array.shape), 9, array.dtype) for array in empty_crops(SMALL)))
    for n, i in enumerate((2, 6, 0, 2)):
        cache.fill(store, i, videos, ClipCrops(*(array[n] for array in places)))
    for n, i in enumerate((2, 6, 0, 2)):
        expected = empty_crops(SMALL, 12) if i == 6 else plain(store, i, videos)
        assert_same(ClipCrops(*(array[n] for array in places)), expected)


# What a clip's crops depend on.


def changed(sample: Sample, field: str) -> Sample:
    boxes = np.zeros((1, 12, 4), np.float32)
    confidence = np.ones((1, 12, 20), np.float32)
    present = np.ones((1, 12), bool)
    present[0, 3] = False
    values = {
        "pixels": {"pixels": sample.pixels + np.float32(0.01)},
        "boxes": {"boxes": boxes},
        "confidence": {"confidence": confidence},
        "present": {"present": present, "joints": sample.joints * present[..., None, None]},
        "video_frames": {"video_frames": sample.video_frames[::-1].copy()},
        "label": {"label": 1},
        "joints": {"joints": sample.joints + 1},
        "sample_id": {"sample_id": "renamed"},
    }
    return dataclasses.replace(sample, **values[field])


@pytest.mark.parametrize(
    ("field", "matters"),
    [
        ("pixels", True),
        ("boxes", True),
        ("confidence", True),
        ("present", True),
        ("video_frames", True),
        ("label", False),
        ("joints", False),
        ("sample_id", False),
    ],
)
def test_what_crops_depend_on(
    made: Made, tmp_path: Path, cutting: list[str], field: str, matters: bool
) -> None:
    store, videos = made
    cache = CropCache(tmp_path / "c", SMALL)
    cache.get(store, 0, videos)
    other, _ = write_made_store(tmp_path, [changed(made_clip(0), field)])
    cache.get(other, 0, videos)
    assert len(cutting) == (2 if matters else 1)


def test_settings_and_layout_and_version_matter(
    made: Made, tmp_path: Path, cutting: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, videos = made
    for field in dataclasses.fields(RoiConfig):
        value = getattr(SMALL, field.name)
        other = {"person_scale": "box", "show": "background"}.get(
            field.name, value * 2 if field.name != "margin" else 0.3
        )
        CropCache(tmp_path, dataclasses.replace(SMALL, **{field.name: other})).get(store, 0, videos)
    count = len(dataclasses.fields(RoiConfig))
    assert len(cutting) == count
    CropCache(tmp_path, SMALL).get(store, 0, videos)
    monkeypatch.setattr(crop_cache, "VERSION", crop_cache.VERSION + 1)
    CropCache(tmp_path, SMALL).get(store, 0, videos)
    assert len(cutting) == count + 2


def test_a_video_is_known_by_its_content(made: Made, tmp_path: Path, cutting: list[str]) -> None:
    store, videos = made
    CropCache(tmp_path / "c", SMALL).get(store, 0, videos)
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    os.utime(copy / "made00.mkv", (1, 1))
    CropCache(tmp_path / "c", SMALL).get(store, 0, copy)
    assert len(cutting) == 1
    shutil.copy(videos / "made01.mkv", copy / "made00.mkv")
    crops = CropCache(tmp_path / "c", SMALL).get(store, 0, copy)
    assert len(cutting) == 2
    assert (crops.parts != plain(store, 0, videos).parts).any()


# What goes wrong.


@pytest.mark.parametrize("harm", ["cut", "empty", "noise", "removed"])
def test_a_damaged_file_is_made_again(made: Made, tmp_path: Path, cutting: list[str], harm: str) -> None:
    store, videos = made
    cache = CropCache(tmp_path, SMALL)
    cache.get(store, 0, videos)
    (file,) = tmp_path.glob("*/*.safetensors")
    content = file.read_bytes()
    if harm == "removed":
        file.unlink()
    else:
        file.write_bytes({"cut": content[:-7], "empty": b"", "noise": os.urandom(len(content))}[harm])
    assert_same(cache.get(store, 0, videos), plain(store, 0, videos))
    assert file.read_bytes() == content
    assert cutting == ["made00"] * 2
    file.write_bytes(content[:-1])
    assert cache.ensure(store, 0, videos).made == 1
    assert cache.ensure(store, 0, videos).found == 1


def test_a_video_that_is_not_there(made: Made, tmp_path: Path) -> None:
    store, videos = made
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    (copy / "made02.mkv").unlink()
    cache = CropCache(tmp_path / "c", SMALL)
    assert_same(cache.get(store, 2, copy), empty_crops(SMALL, 12))
    assert list(cache.problems) == ["made02"]
    assert "made02.mkv: No such file" in cache.problems["made02"]
    assert files_in(tmp_path / "c") == [], "nothing may be kept of a video that comes later"
    with pytest.raises(VideoProblem, match=r"sample 'made02'.*made02\.mkv"):
        CropCache(tmp_path / "c", SMALL, strict=True).get(store, 2, copy)
    report = cache.ensure(store, 2, copy)
    assert (report.made, report.found, report.without_video, list(report.problems)) == (0, 0, 0, ["made02"])
    shutil.copy(videos / "made02.mkv", copy)
    assert CropCache(tmp_path / "c", SMALL).get(store, 2, copy).part_mask.any()
    assert (cache.ensure(store, 2, copy).found, cache.problems) == (1, {})


def test_a_video_that_goes_while_it_is_needed(made: Made, tmp_path: Path) -> None:
    store, videos = made
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    cache = CropCache(tmp_path / "c", SMALL)
    file = cache.locate(store, 0, copy)
    (copy / "made00.mkv").unlink()
    assert_same(cache.get(store, 0, copy), empty_crops(SMALL, 12))
    assert not file.exists()
    assert "there is no such file" in cache.problems["made00"]


def test_no_folder_of_videos_and_no_video(made: Made, tmp_path: Path) -> None:
    store, videos = made
    cache = CropCache(tmp_path, SMALL)
    assert_same(cache.get(store, 6, videos), empty_crops(SMALL, 12))
    assert_same(cache.get(store, 6, None), empty_crops(SMALL, 12))
    assert cache.problems == {}
    assert_same(cache.get(store, 1, None), empty_crops(SMALL, 12))
    assert "made01.mkv" in cache.problems["made01"]


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
    assert cutting == ["made02"]
    with pytest.raises(VideoProblem, match="made02"):
        CropCache(tmp_path / "c", SMALL, strict=True).get(store, 2, copy)
    assert CropCache(tmp_path / "c", SMALL).ensure(store, 2, copy).made == 1, "building tries again"


def test_a_folder_that_cannot_be_written(made: Made, tmp_path: Path) -> None:
    store, videos = made
    (tmp_path / "file").write_text("")
    cache = CropCache(tmp_path / "file" / "c", SMALL)
    for call in (lambda: cache.get(store, 0, videos), lambda: cache.build(store, [0], videos)):
        with pytest.raises(CacheError, match=r"can't be written to .*; name another folder in HHMNET_CACHE"):
            call()


def test_too_little_space_is_told_beforehand(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cutting: list[str]
) -> None:
    store, videos = made
    cache = CropCache(tmp_path, SMALL)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 3 * cache.clip_bytes))
    with pytest.raises(CacheError, match=r"the crops of 6 clips take 0\.0 GB.*HHMNET_CACHE"):
        cache.build(store, range(7), videos)
    assert cutting == []
    cache.build(store, range(2), videos)
    cache.build(store, range(4), videos)  # two of them are there already
    assert len(cutting) == 4
    size = next(tmp_path.glob("*/*")).stat().st_size
    assert cache.clip_bytes < size < cache.clip_bytes + 2000


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HHMNET_CACHE", str(tmp_path))
    assert CropCache().folder == crops_folder() == tmp_path / "crops"
    monkeypatch.delenv("HHMNET_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if sys.platform != "win32":
        assert crops_folder() == Path.home() / ".cache" / "hhmnet" / "crops"


# Built ahead, in processes.


@pytest.mark.parametrize("jobs", [1, 2])
def test_building(made: Made, tmp_path: Path, jobs: int) -> None:
    store, videos = made
    copy = Path(shutil.copytree(videos, tmp_path / "copy"))
    (copy / "made05.mkv").write_bytes(b"this is no video")
    (copy / "made04.mkv").unlink()
    cache = CropCache(tmp_path / "c", SMALL)
    steps: list[tuple[int, int]] = []
    report = cache.build(
        store, np.array([6, 0, 1, 2, 4, 5]), copy, jobs, lambda done, total: steps.append((done, total))
    )
    assert (report.clips, report.made, report.found, report.without_video) == (6, 4, 0, 1)
    assert set(report.problems) == set(cache.problems) == {"made04", "made05"}
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "c").glob("*/*"))
    assert steps[0] == (0, 6)
    assert steps[-1] == (6, 6)
    for i in (0, 1, 2):
        assert_same(cache.get(store, i, copy), plain(store, i, videos))
    again = CropCache(tmp_path / "c", SMALL).build(store, range(7), copy, jobs)
    assert (again.made, again.found) == (2, 3)  # made03, and made05 once more
    assert CropCache(tmp_path / "c", SMALL).build(store, [], copy, jobs).clips == 0


PROGRAM = """
import sys
from pathlib import Path
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.roi import RoiConfig
from hhmnet.store import Store

if __name__ == "__main__":
    store, videos, folder, cell, jobs = sys.argv[1:]
    cache = CropCache(Path(folder), RoiConfig(instants=3, cell=int(cell), scene=16, scene_instants=2))
    cache.build(Store(store), range(len(Store(store))), Path(videos), int(jobs))
"""


@pytest.fixture
def program(made: Made, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a program that builds the crops of the made clips in ``tmp_path/c``."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    started = []

    def start(cell: int = 12, jobs: int = 1) -> subprocess.Popen[bytes]:
        words = [str(made[0].path), str(made[1]), str(tmp_path / "c"), str(cell), str(jobs)]
        started.append(
            subprocess.Popen([sys.executable, str(script), *words], env=environment, start_new_session=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_processes_that_write_at_once(made: Made, tmp_path: Path, program) -> None:
    running = [program() for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    names = files_in(tmp_path / "c")
    assert len(names) == 6
    assert all(name.endswith(".safetensors") and not name.startswith(".") for name in names)
    cache = CropCache(tmp_path / "c", SMALL)
    for i in range(6):
        assert cache.ensure(made[0], i, made[1]).found
        assert_same(cache.get(made[0], i, made[1]), plain(made[0], i, made[1]))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_program_leaves_nothing_that_could_be_taken_for_crops(
    made: Made, tmp_path: Path, program
) -> None:
    cell = 720  # large files, so that it is killed while it writes one
    config = dataclasses.replace(SMALL, cell=cell)
    for count in (1, 2, 3):
        process = program(cell)
        end = time.monotonic() + 60
        while len(files_in(tmp_path / "c")) < 2 * count:
            assert process.poll() is None or len(files_in(tmp_path / "c")) >= 2 * count
            assert time.monotonic() < end
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
        whole = [name for name in files_in(tmp_path / "c") if not name.startswith(".")]
        cache = CropCache(tmp_path / "c", config)
        for i in range(6):
            file = cache.locate(made[0], i, made[1])
            assert file.exists() == (file.name in whole)
            if file.exists():
                sample = made[0].sample(i)
                with open_video(made[1] / sample.video) as video:
                    assert_same(
                        cache.get(made[0], i, made[1]), crop_clip(sample, made[0].layout, video, config)
                    )
    assert program(cell).wait(120) == 0
    assert all(CropCache(tmp_path / "c", config).ensure(made[0], i, made[1]).found for i in range(6))
    assert all(not name.startswith(".") for name in files_in(tmp_path / "c")), "leftovers are removed"
