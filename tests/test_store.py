from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from hhmnet import store as stores
from hhmnet.arrow import SCHEMA
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, KINECT20, SkeletonLayout
from hhmnet.store import SAMPLES_FILE, Store, StoreError, VideoFolderError

CLASSES = ("sit", "stand", "wave")
WRONG_LAYOUTS: tuple[dict[str, Any], ...] = ({"parts": "head"}, {"edges": [[0, 1e400]]})


def make(number: int, layout: SkeletonLayout = KINECT20, frames: int | None = None, **changed: Any) -> Sample:
    """A sample that differs from its neighbours in every field, some of them missing."""
    rng = np.random.default_rng(number)
    persons, frames = 1 + number % 2, frames or 1 + number % 7
    shape = (persons, frames, layout.num_joints)
    present = rng.random(shape[:2]) < 0.8
    joints = rng.normal(size=(*shape, layout.dims)).astype(np.float32) * present[..., None, None]
    fields: dict[str, Any] = {
        "frame_index": np.cumsum(rng.integers(1, 5, frames)).astype(np.int32),
        "subject": f"person {number % 3}",
        "camera": str(number % 2),
        "setup": "" if number % 3 else "hall",
        "split": "xsub_train xview_val" if number % 2 else "",
        "pixels": rng.normal(size=(*shape, 2)).astype(np.float32) if number % 3 else None,
        "confidence": rng.random(shape).astype(np.float32) if number % 2 else None,
        "boxes": rng.normal(size=(*shape[:2], 4)).astype(np.float32) if number % 3 == 1 else None,
        "interpolated": present & (rng.random(shape[:2]) < 0.3) if number % 4 else None,
        "video": f"videos/{number}.mp4" if number % 5 else None,
        "video_frames": rng.integers(-1, 90, frames).astype(np.int32) if number % 5 > 1 else None,
    }
    label = changed.pop("label", number % 4 - 1)
    return Sample(f"clip {number} é", label, joints, present, **(fields | changed))


def write(folder: Path, samples: Any, **changed: Any) -> int:
    fields: dict[str, Any] = {"layout": KINECT20, "class_names": CLASSES, "protocol": "cross_view"}
    fields["provenance"] = {"reader": "made", "options": {"depth": 2}}
    return stores.write_store(folder, samples, **(fields | changed))


def assert_same(found: Sample, expected: Sample) -> None:
    for field in dataclasses.fields(Sample):
        got, wanted = getattr(found, field.name), getattr(expected, field.name)
        assert type(got) is type(wanted)
        np.testing.assert_array_equal(got, wanted, strict=True)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [make(number) for number in range(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "made"
    assert write(folder, samples) == 300
    return folder


def test_everything_comes_back(folder: Path, samples: list[Sample], tmp_path: Path) -> None:
    store = Store(folder)
    assert len(store) == len(samples)
    for i, expected in enumerate(samples):
        assert_same(store[i], expected)
        np.testing.assert_array_equal(store.joints(i), expected.joints)
        np.testing.assert_array_equal(store.present(i), expected.present)
    assert (store.layout, store.class_names, store.protocol) == (KINECT20, CLASSES, "cross_view")
    assert store.provenance == {"reader": "made", "options": {"depth": 2}}
    for field in ("sample_id", "subject", "camera", "setup", "label"):
        assert getattr(store, f"{field}s").tolist() == [getattr(sample, field) for sample in samples]
    shapes = zip(store.persons.tolist(), store.lengths.tolist(), strict=True)
    assert [*shapes] == [sample.present.shape for sample in samples]
    write(tmp_path, iter(samples))
    assert (tmp_path / SAMPLES_FILE).read_bytes() == (folder / SAMPLES_FILE).read_bytes(), "the same bytes"


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_read_the_same(folder: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another folder, and without the data on the way."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system can't {method}")
    monkeypatch.chdir(folder.parent)
    store = Store(folder.name)
    expected = store.joints(7)  # opened and used before the worker starts, as a loader does
    monkeypatch.chdir("/")
    assert len(pickle.dumps(store)) < 1000
    with multiprocessing.get_context(method).Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(Store.joints, (store, 7)), expected)
        assert pool.apply(Store.sample, (store, 299)).sample_id == "clip 299 é"


def test_opening_allocates_nothing_for_the_joints(tmp_path: Path) -> None:
    write(tmp_path, (make(2 * number, frames=300, pixels=None) for number in range(100)))
    assert (tmp_path / SAMPLES_FILE).stat().st_size > 5 * 2**20
    before = pa.total_allocated_bytes()
    store = Store(tmp_path)
    assert np.isfinite([store.joints(i)[0, 0, 0, 0] for i in range(len(store))]).all()
    assert store.lengths.sum() == 100 * 300
    assert pa.total_allocated_bytes() - before < 2**20
    for view in (store.joints, store.present):
        assert np.shares_memory(view(3), view(3))
        assert not view(3).flags.writeable


def test_positions_and_names(folder: Path) -> None:
    store = Store(folder)
    with pytest.raises(IndexError, match=r"0\.\.299"):
        store.joints(-1)
    assert store.index("clip 231 é") == 231
    with pytest.raises(StoreError, match="made has no sample 'clip 2331 é'; the nearest are clip 233 é"):
        store.index("clip 2331 é")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (make(0), "'clip 0 é': field 'sample_id': there are two"),
        (make(9, COCO17), "'clip 9 é': field 'joints': layout kinect20 has 20 joints, the data has 17"),
        (make(9, label=3), r"'clip 9 é': field 'label': 3 is outside 0\.\.2"),
    ],
)
def test_a_sample_that_does_not_fit_changes_nothing(tmp_path: Path, broken: Sample, message: str) -> None:
    folder = tmp_path / "store"
    with pytest.raises(StoreError, match=message):
        write(folder, [make(0), make(1), broken])
    assert not folder.exists()
    write(folder, [make(5)])
    with pytest.raises(StoreError, match=message):
        write(folder, [make(0), make(1), broken])
    assert os.listdir(folder) == [SAMPLES_FILE]
    old = Store(folder)
    write(folder, [make(2), make(3)])
    assert_same(old[0], make(5))  # it stays open while a new one takes its place
    assert len(Store(folder)) == 2


def test_what_can_not_be_written(tmp_path: Path) -> None:
    for samples, changed, reason in (
        ([], {}, "no samples to write"),
        ([make(1)], {"class_names": ("sit", "sit")}, "class_names"),
        ([make(1)], {"provenance": {"rate": float("nan")}}, "JSON"),
    ):
        with pytest.raises(StoreError, match=reason):
            write(tmp_path / "none", samples, **changed)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"can't write .*below.samples\.arrow: "):
        write(tmp_path / "file" / "below", [make(1)])


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, [make(number) for number in range(3)])
    file = tmp_path / SAMPLES_FILE
    whole = file.read_bytes()
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"samples\.arrow is cut short or damaged") as caught:
            Store(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "change", "reason"),
    [
        ({"layout": {}}, {}, "damaged .*layout"),
        ({"version": 99}, {}, "version 99, this hhmnet reads version 2; make it"),
        ({"format": "run"}, {}, "is an Arrow file, but not one"),
        (b"[" * 100_000, {}, "is an Arrow file, but not one"),
        *(({"class_names": wrong}, {}, "'class_names' is no list of names") for wrong in ("abc", [1, 2], [])),
        *(({field: None}, {}, "'protocol' is no text, or 'prov") for field in ("protocol", "provenance")),
        *(({"layout": KINECT20.to_dict() | wrong}, {}, "damaged .*layout") for wrong in WRONG_LAYOUTS),
        ({}, {"drop_columns": (["pixels"],)}, "columns"),
        ({}, {"slice": (0, 0)}, "no samples"),
        (
            {},
            {"set_column": (8, SCHEMA.field("length"), pa.array([2, 4], pa.int32()))},
            "not have the samples'",
        ),
    ],
)
def test_what_is_no_store_says_why(
    tmp_path: Path, metadata: dict[str, Any] | bytes, change: dict[str, Any], reason: str
) -> None:
    write(tmp_path, [make(1), make(2)])
    file = tmp_path / SAMPLES_FILE
    with pa.ipc.open_file(file.read_bytes()) as reader:
        told, batch = json.loads(reader.schema.metadata[b"hhmnet"]), reader.get_batch(0)
    for method, values in change.items():
        batch = getattr(batch, method)(*values)
    text = metadata if isinstance(metadata, bytes) else json.dumps(told | metadata)
    batch = batch.replace_schema_metadata({"hhmnet": text})
    with pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(StoreError, match=reason):
        Store(tmp_path).sample(1)


def test_the_note_on_videos_is_relative_so_both_may_be_moved(tmp_path: Path) -> None:
    filmed = tmp_path / "here/store"
    (tmp_path / "here/videos").mkdir(parents=True)
    write(filmed, [make(1)])
    assert Store(filmed).video_folder is None
    with pytest.raises(VideoFolderError, match=r"store .* doesn't say where its videos are; .* --videos DIR"):
        Store(filmed).find_videos()
    assert Store(filmed).find_videos(tmp_path) == tmp_path
    stores.write_video_folder(filmed, filmed.parent / "videos")
    (tmp_path / "deep/down").mkdir(parents=True)
    (tmp_path / "deep/down/link").symlink_to(filmed)
    assert Store(tmp_path / "deep/down/link").find_videos() == (filmed.parent / "videos").resolve()
    there = Path(shutil.move(filmed.parent, tmp_path / "there"))
    assert Store(there / "store").find_videos() == (there / "videos").resolve()
    shutil.rmtree(there / "videos")
    with pytest.raises(VideoFolderError, match=r"no folder at .*videos, where store .*; .* --videos DIR"):
        Store(there / "store").find_videos()
    for text in (b"[]", b'{"folder": 3}', b"\xff"):
        (there / "store" / stores.VIDEOS_FILE).write_bytes(text)
        with pytest.raises(VideoFolderError, match=r"videos\.json should hold"):
            Store(there / "store").find_videos()
    stores.write_video_folder(there / "store", None)
    assert Store(there / "store").video_folder is None
