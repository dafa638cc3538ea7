"""The format of a store's file: its columns and metadata, samples as Arrow record batches, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from hhmnet.sample import Sample
from hhmnet.skeleton import SkeletonLayout

FORMAT = "hhmnet-store"
VERSION = 2
_METADATA_KEY = b"hhmnet"
_BATCH_SAMPLES = 256
_BATCH_BYTES = 16 * 2**20

# One byte a flag: Arrow packs booleans into bits, which numpy can't view without a copy.
_FLAGS, _INTEGERS, _FLOATS = (pa.large_list(kind) for kind in (pa.uint8(), pa.int32(), pa.float32()))
_COLUMNS = (  # the axes of arrays say their shapes
    ("sample_id", pa.string(), ""),
    ("label", pa.int64(), ""),
    ("subject", pa.string(), ""),
    ("camera", pa.string(), ""),
    ("setup", pa.string(), ""),
    ("split", pa.string(), ""),
    ("video", pa.string(), ""),
    ("persons", pa.int32(), ""),
    ("length", pa.int32(), ""),
    ("frame_index", _INTEGERS, "T"),
    ("present", _FLAGS, "MT"),
    ("joints", _FLOATS, "MTVC"),
    ("pixels", _FLOATS, "MTV2"),
    ("confidence", _FLOATS, "MTV"),
    ("boxes", _FLOATS, "MT4"),
    ("interpolated", _FLAGS, "MT"),
    ("video_frames", _INTEGERS, "T"),
)
_NULLABLE = ("video", "pixels", "confidence", "boxes", "interpolated", "video_frames")
_AXES = {name: axes for name, _, axes in _COLUMNS if axes}
_PLAIN = [name for name, _, axes in _COLUMNS if not axes and name not in ("persons", "length")]
_WEIGHTY = [
    name for name, kind, _ in _COLUMNS if kind == _FLOATS
]  # their size decides where a record batch ends
SCHEMA = pa.schema([pa.field(name, kind, nullable=name in _NULLABLE) for name, kind, _ in _COLUMNS])
T = TypeVar("T")


class FormatError(ValueError):
    """What can't be a store's metadata, or is that of another format or version."""


def store_schema(
    layout: SkeletonLayout, class_names: Sequence[str], protocol: str, provenance: Mapping[str, Any]
) -> pa.Schema:
    """:data:`SCHEMA` with what holds for a whole store; raises FormatError where that can't be written."""
    if len(set(class_names)) != len(class_names) or not class_names:
        raise FormatError("field 'class_names': a store needs class names, each of them once")
    fields = {
        "format": FORMAT,
        "version": VERSION,
        "layout": layout.to_dict(),
        "class_names": list(class_names),
        "protocol": protocol,
        "provenance": dict(provenance),
    }
    try:
        return SCHEMA.with_metadata({_METADATA_KEY: json.dumps(fields, allow_nan=False)})
    except (TypeError, ValueError) as error:
        raise FormatError(f"the store's metadata can't be written as JSON: {error}") from None


def read_metadata(schema: pa.Schema) -> dict[str, Any]:
    """What :func:`store_schema` wrote: layout, class_names, protocol and provenance.

    Raises:
        FormatError: the file is no store, or one of another version.
        KeyError, TypeError, ValueError: the metadata is damaged.
    """
    try:
        fields: dict[str, Any] = json.loads((schema.metadata or {})[_METADATA_KEY])
        is_store = fields["format"] == FORMAT
    except (KeyError, TypeError, ValueError, RecursionError):
        is_store = False
    if not is_store:
        raise FormatError("is an Arrow file, but not one that `hhmnet prepare` wrote")
    if (version := fields.get("version")) != VERSION:
        versions = f"has store version {version}, this hhmnet reads version {VERSION}"
        raise FormatError(f"{versions}; make it again with `hhmnet prepare`")
    fields["layout"] = SkeletonLayout.from_dict(fields["layout"])
    names = fields["class_names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("field 'class_names' is no list of names")
    if not isinstance(fields["protocol"], str) or not isinstance(fields["provenance"], dict):
        raise ValueError("field 'protocol' is no text, or 'provenance' no object")
    return fields


def groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Samples in runs small enough for one record batch."""
    return _runs((sample, _sample_bytes(sample)) for sample in samples)


def regroup(records: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in the record batches that :func:`groups` makes, wherever one ended before."""
    for run in _runs(_rows(records)):
        # Taken, so copied: a slice is a view, and would be written with traces of the rows that it leaves out.
        joined = pa.Table.from_batches(run, SCHEMA).combine_chunks()
        yield from joined.take(pa.array(np.arange(len(run)))).to_batches()


def _rows(records: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, int]]:
    for record in records:
        sizes = [np.diff(record.column(name).offsets.to_numpy()) for name in _WEIGHTY]
        for row, size in enumerate(np.sum(sizes, axis=0).tolist()):
            yield record.slice(row, 1), size * np.dtype(np.float32).itemsize


def _sample_bytes(sample: Sample) -> int:
    arrays = (getattr(sample, name) for name in _WEIGHTY)
    return sum(array.nbytes for array in arrays if array is not None)


def _runs(items: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """Items, given with their bytes, in runs that one record batch holds."""
    run: list[T] = []
    size = 0
    for item, bytes_ in items:
        if run and (len(run) == _BATCH_SAMPLES or size + bytes_ > _BATCH_BYTES):
            yield run
            run, size = [], 0
        run.append(item)
        size += bytes_
    if run:
        yield run


def record_batch(samples: Sequence[Sample]) -> pa.RecordBatch:
    """Samples as rows of :data:`SCHEMA`."""
    columns: dict[str, Any] = {name: [getattr(sample, name) for sample in samples] for name in _PLAIN}
    columns["persons"] = [sample.num_persons for sample in samples]
    columns["length"] = [sample.num_frames for sample in samples]
    for name in _AXES:
        columns[name] = _ragged([getattr(sample, name) for sample in samples])
    return pa.record_batch(columns, schema=SCHEMA)


def _ragged(arrays: Sequence[np.ndarray | None]) -> pa.LargeListArray:
    """Arrays of any shape as one list column, each flattened; None becomes null."""
    known = [array.ravel() for array in arrays if array is not None]
    known = [array.view(np.uint8) if array.dtype == np.bool_ else array for array in known]
    values = np.concatenate(known) if known else np.empty(0, np.float32)
    offsets = np.fromiter(accumulate((0 if a is None else a.size for a in arrays), initial=0), np.int64)
    mask = pa.array([array is None for array in arrays]) if len(known) < len(arrays) else None
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values), mask=mask)


def view(record: pa.RecordBatch, row: int, name: str, layout: SkeletonLayout) -> np.ndarray | None:
    """An array of one row as a read-only view on the file; None if it has none.

    Args:
        record: a record batch of :data:`SCHEMA`, validated.
        row: which of its rows.
        name: a list column.
        layout: the layout of its joints.

    Raises:
        pyarrow.ArrowInvalid: the columns contradict each other or the layout.
    """
    values = record.column(name)[row].values
    if values is None:
        return None
    sizes = {"M": record.column("persons")[row].as_py() or 0, "T": record.column("length")[row].as_py() or 0}
    sizes |= {"V": layout.num_joints, "C": layout.dims, "2": 2, "4": 4}
    shape = [sizes[axis] for axis in _AXES[name]]
    array = values.to_numpy()
    if min(shape) < 1 or len(array) != math.prod(shape):
        raise pa.ArrowInvalid(f"column '{name}' does not have the samples' persons, frames and joints")
    array = array.reshape(shape)
    return array.view(np.bool_) if array.dtype == np.uint8 else array


def read_row(record: pa.RecordBatch, row: int, layout: SkeletonLayout) -> Sample:
    """All that one row says; raises SampleError where that contradicts itself, and as :func:`view`."""
    plain = {name: record.column(name)[row].as_py() for name in _PLAIN}
    arrays: dict[str, Any] = {name: view(record, row, name, layout) for name in _AXES}
    return Sample(**plain, **arrays)
