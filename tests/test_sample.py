from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hhmnet.sample import Sample, SampleError


def fields(**changed: Any) -> dict[str, Any]:
    """Two persons, three frames, four joints; the second person is absent in the last frame."""
    joints = np.ones((2, 3, 4, 3), np.float32)
    joints[1, 2] = 0
    present = np.ones((2, 3), bool)
    present[1, 2] = False
    known = {"sample_id": "clip", "label": 1, "joints": joints, "present": present}
    return known | {"frame_index": np.array([0, 1, 5], np.int32)} | changed


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array.flat[0] = value
    return array


BAD: list[tuple[str, Any, str]] = [
    ("sample_id", "", "not empty"),
    ("sample_id", "a\udcff", "UTF-8"),
    ("subject", 3, "must be text, got int"),
    ("video", b"clip.mp4", "must be text, got bytes"),
    ("label", -2, "got -2"),
    ("label", True, "got True"),
    ("joints", [[1.0]], "got list"),
    ("joints", np.ones((2, 3, 4, 3)), "float32 array, got float64"),
    ("joints", np.ones((3, 4, 3), np.float32), r"shape .*got \(3, 4, 3\)"),
    ("joints", with_value(fields()["joints"], np.nan), "NaN or infinity"),
    ("joints", np.ones((2, 3, 4, 3), np.float32), "zero wherever 'present' is False"),
    ("present", np.ones((2, 3), np.uint8), "bool array, got uint8"),
    ("present", np.ones((3, 2), bool), r"shape \(2, 3\), got \(3, 2\)"),
    ("frame_index", np.arange(4, dtype=np.int32), r"shape \(3\), got \(4,\)"),
    ("frame_index", np.array([0, 2, 2], np.int32), "strictly increasing"),
    ("frame_index", np.array([-1, 2, 3], np.int32), "0 or more"),
    ("frame_index", np.array([5, -(2**31), 1 - 2**31], np.int32), "strictly increasing"),
    ("pixels", np.zeros((2, 3, 4, 3), np.float32), r"shape \(2, 3, 4, 2\), got"),
    ("boxes", np.zeros((2, 3, 2), np.float32), r"shape \(2, 3, 4\), got"),
    ("interpolated", np.zeros((2, 3), np.uint8), "must be a bool array, got uint8"),
    ("video_frames", np.zeros(3, np.int32), "needs the field 'video'"),
    ("confidence", np.zeros((2, 3, 5), np.float32), r"shape \(2, 3, 4\), got"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD)
def test_a_bad_field_is_named_with_its_sample(field: str, value: Any, message: str) -> None:
    with pytest.raises(SampleError, match=message) as caught:
        Sample(**fields(**{field: value}))
    assert f"field '{field}'" in str(caught.value)
    name = value if field == "sample_id" else "clip"
    assert str(caught.value).startswith(f"sample {name!r}: ")
    assert "\n" not in str(caught.value)
