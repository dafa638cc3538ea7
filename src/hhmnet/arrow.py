"""The columns of a store's file: samples as Arrow record batches, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from hhmnet.sample import Sample
from hhmnet.skeleton import SkeletonLayout

VERSION = 2
_BATCH_SAMPLES = 256
_BATCH_BYTES = 16 * 2**20

# One byte a flag: Arrow packs booleans into bits, which numpy can't view without a copy.
_FLAGS, _INTEGERS, _FLOATS = (pa.large_list(kind) for kind in (pa.uint8(), pa.int32(), pa.float32()))
_COLUMNS = (  # the axes of arrays say their shapes
    ("sample_id", pa.string(), ""),
    ("label", pa.int64(), ""),
    *((name, pa.string(), "") for name in ("subject", "camera", "setup", "split", "video")),
    *((name, pa.int32(), "") for name in ("persons", "length")),
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
# Their size decides where a record batch ends.
_WEIGHTY = [name for name, kind, _ in _COLUMNS if kind == _FLOATS]
SCHEMA = pa.schema([pa.field(name, kind, nullable=name in _NULLABLE) for name, kind, _ in _COLUMNS])
T = TypeVar("T")


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


class Rows:
    """The rows of a record batch of :data:`SCHEMA`, whose arrays are read-only views on the file. Raises
    pyarrow.ArrowInvalid where the columns contradict each other or the layout.
    """

    def __init__(self, record: pa.RecordBatch, layout: SkeletonLayout) -> None:
        record.validate(full=True)
        for field, column in zip(SCHEMA, record.columns, strict=True):
            if column.null_count and not field.nullable:
                raise pa.ArrowInvalid(f"column '{field.name}' has gaps")
        persons, lengths = (record.column(name).to_numpy().astype(np.int64) for name in ("persons", "length"))
        sizes = {"M": persons, "T": lengths, "V": layout.num_joints, "C": layout.dims, "2": 2, "4": 4}
        if (persons < 1).any() or (lengths < 1).any():
            raise pa.ArrowInvalid("a sample has no persons or no frames")
        self._bodies = list(zip(persons.tolist(), lengths.tolist(), strict=True))
        self._plain = {name: record.column(name) for name in _PLAIN}
        # By name: values, offsets, which rows have any, shape behind persons and frames.
        self._arrays: dict[str, Any] = {}
        for name, axes in _AXES.items():
            column = record.column(name)
            offsets, values = column.offsets.to_numpy(), column.values.to_numpy()
            known = column.is_valid().to_numpy(zero_copy_only=False)
            if (np.diff(offsets) != known * math.prod(sizes[axis] for axis in axes)).any():
                fault = "does not have the samples' persons, frames and joints"
                raise pa.ArrowInvalid(f"column '{name}' {fault}")
            tail = tuple(sizes[axis] for axis in axes.lstrip("MT"))
            is_flags = values.dtype == np.uint8
            self._arrays[name] = values.view(np.bool_) if is_flags else values, offsets, known, tail

    def array(self, row: int, name: str) -> Any:
        """An array of one row, a column of :data:`SCHEMA`; None if it has none."""
        values, offsets, known, tail = self._arrays[name]
        if not known[row]:
            return None
        flat = values[offsets[row] : offsets[row + 1]]
        return flat.reshape(self._bodies[row] + tail) if _AXES[name].startswith("M") else flat

    def sample(self, row: int) -> Sample:
        """All that one row says; raises SampleError where that contradicts itself."""
        plain: dict[str, Any] = {name: column[row].as_py() for name, column in self._plain.items()}
        return Sample(**plain, **{name: self.array(row, name) for name in _AXES})
