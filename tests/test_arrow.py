from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hhmnet.arrow
from hhmnet.arrow import SCHEMA, groups, record_batch, regroup
from hhmnet.sample import Sample


def make(number: int, persons: int, frames: int, full: bool) -> Sample:
    rng = np.random.default_rng(number)
    shape = (persons, frames, 5)
    more: dict[str, Any] = {}
    if full:
        more = {
            "pixels": rng.random((*shape, 2), np.float32),
            "confidence": rng.random(shape, np.float32),
            "boxes": rng.random((persons, frames, 4), np.float32),
            "interpolated": np.zeros((persons, frames), bool),
            "video": "a.avi",
            "video_frames": np.arange(frames, dtype=np.int32),
        }
    return Sample(
        sample_id=f"clip{number}",
        label=number,
        joints=rng.random((*shape, 3), np.float32),
        present=np.ones((persons, frames), bool),
        frame_index=np.arange(frames, dtype=np.int32),
        **more,
    )


SAMPLES = st.lists(st.tuples(st.integers(1, 2), st.integers(1, 20), st.booleans()), max_size=25).map(
    lambda rows: [make(number, *row) for number, row in enumerate(rows)]
)


def written(records: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        for record in records:
            writer.write_batch(record)
    return sink.getvalue().to_pybytes()


@settings(deadline=None)
@given(
    samples=SAMPLES,
    ends=st.lists(st.integers(0, 25)),
    count=st.integers(1, 9),
    bytes_=st.sampled_from([1, 900, 3000, 9000, 10**6]),
)
def test_regrouping_gives_what_grouping_gives(
    samples: list[Sample], ends: list[int], count: int, bytes_: int
) -> None:
    """However the rows were cut into record batches before, some of them empty."""
    places = [0, *sorted(ends), len(samples)]
    pieces = [samples[start:end] for start, end in pairwise(places)]
    records = [
        record_batch(piece) if piece else record_batch(samples[:1]).slice(1) for piece in pieces if samples
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hhmnet.arrow, "_BATCH_SAMPLES", count)
        patch.setattr(hhmnet.arrow, "_BATCH_BYTES", bytes_)
        expected = [record_batch(group) for group in groups(samples)]
        found = list(regroup(records))
    assert [record.num_rows for record in found] == [record.num_rows for record in expected]
    assert written(found) == written(expected)
