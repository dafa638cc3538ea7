from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, KINECT20, SkeletonLayout
from hhmnet.store import SAMPLES_FILE, Store, StoreError, write_store

CLASSES = ("sit", "stand", "wave")
ARRAYS = ("joints", "present", "frame_index", "pixels", "confidence", "boxes", "interpolated", "video_frames")
COLUMNS = {
    "sample_ids": "sample_id",
    "subjects": "subject",
    "cameras": "camera",
    "setups": "setup",
    "labels": "label",
    "lengths": "num_frames",
    "persons": "num_persons",
}
TEXTS = ("sample_id", "label", "subject", "camera", "setup", "split", "video")


def make(number: int, layout: SkeletonLayout = KINECT20, frames: int | None = None, **changed: Any) -> Sample:
    """A sample that differs from its neighbours in every field, some of them missing."""
    rng = np.random.default_rng(number)
    persons, frames = 1 + number % 2, frames or 1 + number % 7
    shape = (persons, frames, layout.num_joints)
    present = rng.random(shape[:2]) < 0.8
    joints = rng.normal(size=(*shape, layout.dims)).astype(np.float32) * present[..., None, None]
    fields: dict[str, Any] = {
        "sample_id": f"clip {number} é",
        "label": number % 4 - 1,
        "joints": joints,
        "present": present,
        "frame_index": np.cumsum(rng.integers(1, 5, frames)).astype(np.int32),
        "subject": f"person {number % 3}",
        "camera": str(number % 2),
        "setup": "" if number % 3 else "hall",
        "pixels": rng.normal(size=(*shape, 2)).astype(np.float32) if number % 3 else None,
        "confidence": rng.random(shape).astype(np.float32) if number % 2 else None,
        "split": "xsub_train xview_val" if number % 2 else "",
        "boxes": rng.normal(size=(*shape[:2], 4)).astype(np.float32) if number % 3 == 1 else None,
        "interpolated": present & (rng.random(shape[:2]) < 0.3) if number % 4 else None,
        "video": f"videos/{number}.mp4" if number % 5 else None,
        "video_frames": rng.integers(-1, 90, frames).astype(np.int32) if number % 5 > 1 else None,
    }
    return Sample(**(fields | changed))


def write(folder: Path, samples: Any, **changed: Any) -> int:
    fields: dict[str, Any] = {
        "layout": KINECT20,
        "class_names": CLASSES,
        "protocol": "cross_view",
        "provenance": {"reader": "made", "options": {"depth": 2}},
    }
    return write_store(folder, samples, **(fields | changed))


def assert_same(found: Sample, expected: Sample) -> None:
    for name in TEXTS:
        assert getattr(found, name) == getattr(expected, name)
    for name in ARRAYS:
        got, wanted = getattr(found, name), getattr(expected, name)
        assert (got is None) == (wanted is None)
        if wanted is not None:
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [make(number) for number in range(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "made"
    assert write(folder, samples) == 300
    return folder


def test_everything_comes_back(folder: Path, samples: list[Sample]) -> None:
    store = Store(folder)
    assert len(store) == len(samples)
    for i, expected in enumerate(samples):
        assert_same(store[i], expected)
        assert_same(store.sample(i), expected)
        np.testing.assert_array_equal(store.joints(i), expected.joints)
        np.testing.assert_array_equal(store.present(i), expected.present)
    assert (store.layout, store.class_names, store.protocol) == (KINECT20, CLASSES, "cross_view")
    assert store.provenance == {"reader": "made", "options": {"depth": 2}}
    for column, field in COLUMNS.items():
        assert getattr(store, column).tolist() == [getattr(sample, field) for sample in samples]


def test_joints_are_views_that_nobody_can_change(folder: Path) -> None:
    store = Store(folder)
    for view in (store.joints, store.present):
        assert np.shares_memory(view(3), view(3))
        assert not np.shares_memory(view(3), view(4))
        assert not view(3).flags.writeable


def test_opening_allocates_nothing_for_the_joints(tmp_path: Path) -> None:
    write(tmp_path, (make(2 * number, frames=300, pixels=None) for number in range(400)))
    assert (tmp_path / SAMPLES_FILE).stat().st_size > 20 * 2**20
    before = pa.total_allocated_bytes()
    store = Store(tmp_path)
    total = sum(float(store.joints(i)[0, 0, 0, 0]) for i in range(len(store)))
    assert np.isfinite(total)
    assert store.lengths.sum() == 400 * 300
    assert pa.total_allocated_bytes() - before < 2**20


def test_writing_holds_two_batches_at_most(tmp_path: Path) -> None:
    alive: weakref.WeakSet[Sample] = weakref.WeakSet()
    most = 0

    def stream() -> Iterator[Sample]:
        nonlocal most
        for number in range(60):
            sample = make(number, frames=4000, pixels=None, confidence=None)
            alive.add(sample)
            most = max(most, len(alive))
            yield sample
            del sample

    assert write(tmp_path, stream()) == 60
    assert most <= 30  # 16 MiB are about 11 of these; one batch is written while the next fills
    assert Store(tmp_path).lengths.tolist() == [4000] * 60


def test_same_samples_same_bytes(tmp_path: Path, folder: Path, samples: list[Sample]) -> None:
    write(tmp_path, iter(samples))
    assert (tmp_path / SAMPLES_FILE).read_bytes() == (folder / SAMPLES_FILE).read_bytes()


@pytest.mark.parametrize("i", [-1, 300, 10**9])
def test_positions_outside_are_index_errors(folder: Path, i: int) -> None:
    store = Store(folder)
    for method in (store.joints, store.present, store.sample, store.__getitem__):
        with pytest.raises(IndexError, match=r"0\.\.299"):
            method(i)
    with pytest.raises(TypeError):
        store.joints(1.5)  # type: ignore[arg-type]


def test_index_by_name(folder: Path) -> None:
    store = Store(folder)
    assert store.index("clip 231 é") == 231
    with pytest.raises(StoreError, match="no sample 'clip 2331 é'; the nearest are clip 233 é") as caught:
        store.index("clip 2331 é")
    assert str(folder) in str(caught.value)
    with pytest.raises(StoreError, match=r"no sample '~~~~~~~~'$"):
        store.index("~~~~~~~~")


def test_pickle_holds_the_place_only(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(folder.parent)
    store = Store(folder.name)
    store.joints(0)
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(store)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).joints(5), store.joints(5))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_read_the_same(folder: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system can't {method}")
    store = Store(folder)
    expected = store.joints(7)  # opened and used before the worker starts, as a loader does
    with multiprocessing.get_context(method).Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(Store.joints, (store, 7)), expected)
        assert pool.apply(Store.sample, (store, 299)).sample_id == "clip 299 é"


BROKEN: list[tuple[Sample, str]] = [
    (make(0), "'clip 0 é': field 'sample_id': there are two"),
    (make(9, COCO17), "'clip 9 é': field 'joints': layout kinect20 has 20 joints, the data has 17"),
    (make(9, label=3), r"'clip 9 é': field 'label': 3 is outside 0\.\.2"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
@pytest.mark.parametrize("older", [False, True])
def test_a_sample_that_does_not_fit_leaves_all_as_it_was(
    tmp_path: Path, broken: Sample, message: str, older: bool
) -> None:
    folder = tmp_path / "store"
    if older:
        write(folder, [make(5)])
    with pytest.raises(StoreError, match=message):
        write(folder, [make(0), make(1), broken])
    if older:
        assert os.listdir(folder) == [SAMPLES_FILE]
        assert_same(Store(folder)[0], make(5))
    else:
        assert not folder.exists()


def test_a_new_store_replaces_an_open_one(tmp_path: Path) -> None:
    write(tmp_path, [make(1)])
    old = Store(tmp_path)
    write(tmp_path, [make(2), make(3)])
    assert_same(old[0], make(1))
    assert len(Store(tmp_path)) == 2


def test_what_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no samples to write"):
        write(tmp_path / "none", [])
    with pytest.raises(StoreError, match="class_names"):
        write(tmp_path / "none", [make(1)], class_names=("sit", "sit"))
    with pytest.raises(StoreError, match="class_names"):
        write(tmp_path / "none", [make(1)], class_names=())
    with pytest.raises(StoreError, match="JSON"):
        write(tmp_path / "none", [make(1)], provenance={"source": Path()})
    with pytest.raises(StoreError, match="JSON"):
        write(tmp_path / "none", [make(1)], provenance={"rate": float("nan")})
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=r"can't make the folder .*file"):
            write(place, [make(1)])


def test_missing_stores(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .*nowhere; make one with `hhmnet prepare`"):
        Store(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"no store at .*no samples\.arrow.*`hhmnet prepare`"):
        Store(tmp_path)


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, [make(number) for number in range(3)])
    file = tmp_path / SAMPLES_FILE
    whole = file.read_bytes()
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"samples\.arrow is cut short or damaged") as caught:
            Store(tmp_path)
        assert "\n" not in str(caught.value)


def test_other_files_are_no_stores(tmp_path: Path) -> None:
    file = tmp_path / SAMPLES_FILE
    file.write_text("sample_id,label\n" * 100)
    with pytest.raises(StoreError, match="damaged"):
        Store(tmp_path)
    for metadata in ({}, {"hhmnet": "no json"}, {"hhmnet": "[1]"}, {"hhmnet": '{"format": "run"}'}):
        write_arrow(file, metadata, [])
        with pytest.raises(StoreError, match="is an Arrow file, but not one"):
            Store(tmp_path)


@pytest.mark.parametrize("field", ["layout", "class_names", "protocol", "provenance"])
def test_missing_metadata_and_columns_are_noticed(tmp_path: Path, field: str) -> None:
    write(tmp_path, [make(1)])
    fields, batches = read_arrow(tmp_path / SAMPLES_FILE)
    metadata = {"hhmnet": json.dumps(fields)}
    for batch, reason in (
        (batches[0].drop_columns(["pixels"]), "columns"),
        (batches[0].slice(0, 0), "no samples"),
    ):
        write_arrow(tmp_path / SAMPLES_FILE, metadata, [batch])
        with pytest.raises(StoreError, match=reason):
            Store(tmp_path)
    del fields[field]
    write_arrow(tmp_path / SAMPLES_FILE, {"hhmnet": json.dumps(fields)}, batches)
    with pytest.raises(StoreError, match=f"damaged .*{field}"):
        Store(tmp_path)


def test_another_version_names_both(tmp_path: Path) -> None:
    write(tmp_path, [make(1)])
    fields, batches = read_arrow(tmp_path / SAMPLES_FILE)
    write_arrow(tmp_path / SAMPLES_FILE, {"hhmnet": json.dumps(fields | {"version": 99})}, batches)
    with pytest.raises(StoreError, match="store version 99, this hhmnet reads version 2; make it again"):
        Store(tmp_path)


def test_lengths_that_do_not_fit_the_joints_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, [make(1), make(2)])
    fields, batches = read_arrow(tmp_path / SAMPLES_FILE)
    place = batches[0].schema.get_field_index("length")
    batch = batches[0].set_column(place, batches[0].schema.field(place), pa.array([2, 4], pa.int32()))
    write_arrow(tmp_path / SAMPLES_FILE, {"hhmnet": json.dumps(fields)}, [batch])
    store = Store(tmp_path)
    for method in (store.joints, store.present, store.sample):
        with pytest.raises(StoreError, match=r"damaged .*does not have the samples' persons, frames"):
            method(1)


def test_changed_bytes_never_end_in_another_error(tmp_path: Path) -> None:
    write(tmp_path, [make(number) for number in range(4)])
    file = tmp_path / SAMPLES_FILE
    whole = file.read_bytes()
    chance = random.Random(0)
    refused = 0
    for _ in range(200):
        changed = bytearray(whole)
        for _ in range(chance.choice([1, 2, 8])):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        file.write_bytes(changed)
        try:
            store = Store(tmp_path)
            for sample in store:
                assert isinstance(sample, Sample)
            assert len(store.sample_ids) == len(store.labels) == len(store)
        except StoreError:
            refused += 1
    assert refused > 25


def read_arrow(file: Path) -> tuple[dict[str, Any], list[pa.RecordBatch]]:
    with pa.ipc.open_file(file.read_bytes()) as reader:
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        return json.loads(reader.schema.metadata[b"hhmnet"]), batches


def write_arrow(file: Path, metadata: dict[str, str], batches: list[pa.RecordBatch]) -> None:
    schema = batches[0].schema if batches else pa.schema([("x", pa.int8())])
    with pa.ipc.new_file(file, schema.with_metadata(metadata)) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(metadata))
