"""Files of one clip: arrays, JSON and tables as docs/your_own_data.md has them; the order of their axes; faults."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.readers import ReadError
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.readers.clip_files import RawClip
from hhmnet.readers.formats import read_clip
from hhmnet.skeleton import KINECT20
from made_bodies import standing

ONE = np.arange(2 * 3 * 2).reshape(2, 3, 2) / 4  # T, V, C
TWO = np.stack([ONE, ONE + 1])


def read(folder: Path, name: str, content: Any, axes: str = "") -> RawClip:
    """The clip in a file of the kind that its name says."""
    file = folder / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif file.suffix == ".npz":
        np.savez_compressed(file, **content)
    elif file.suffix.lower() == ".npy":
        with open(file, "wb") as handle:
            np.save(handle, content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_clip(file, axes)


@pytest.mark.parametrize("suffix", ["npy", "json", "npz", "NPY"])
@pytest.mark.parametrize("array", [ONE, np.asfortranarray(TWO), ONE.astype(int), TWO.astype(">f4")])
def test_joints_alone(tmp_path: Path, suffix: str, array: np.ndarray) -> None:
    content = {"json": array.tolist(), "npz": {"joints": array}}.get(suffix, array)
    clip = read(tmp_path, f"a.{suffix}", content)
    np.testing.assert_array_equal(clip.joints, array.reshape(-1, 2, 3, 2))
    assert clip.joints.dtype == np.float64
    assert clip.frame_index.tolist() == [0, 1]
    assert clip.confidence is clip.pixels is clip.present is clip.names is None


FIELDS = {
    "joints": TWO,
    "confidence": np.linspace(0, 1, 12).reshape(2, 2, 3),
    "pixels": TWO * 100,
    "present": np.array([[True, False], [True, True]]),
    "frame_index": np.array([3, 9]),
}


@pytest.mark.parametrize("suffix", ["npz", "json"])
@pytest.mark.parametrize("persons", [1, 2])
def test_all_that_a_file_can_say(tmp_path: Path, suffix: str, persons: int) -> None:
    content: dict[str, Any] = FIELDS
    if persons == 1:
        content = {field: array if field == "frame_index" else array[0] for field, array in FIELDS.items()}
    if suffix == "json":
        content = {field: array.tolist() for field, array in content.items()} | {"author": "me"}
    clip = read(tmp_path, f"a.{suffix}", content)
    for field, array in FIELDS.items():
        found = getattr(clip, field)
        np.testing.assert_array_equal(found, array if field == "frame_index" else array[:persons])
    assert clip.present is not None
    assert clip.present.dtype == np.bool_


KINECT = standing(np.random.default_rng(0), KINECT20, persons=2)
KINECT[1, ..., 0] += 1
ALONE = KINECT * [[[[1]]], [[[0]]]]


@pytest.mark.parametrize(
    ("array", "order"),
    [
        (KINECT, "MTVC"),
        (KINECT[0], "TVC"),
        (KINECT.transpose(3, 1, 2, 0), ""),
        (ALONE.transpose(3, 1, 2, 0), "CTVM"),
        (KINECT[:1].transpose(3, 1, 2, 0), "CTVM"),
        (KINECT[0].transpose(2, 0, 1), "CTV"),
    ],
)
def test_the_order_of_the_axes(tmp_path: Path, array: np.ndarray, order: str) -> None:
    """A person who isn't there has no y; else the flag decides."""
    if not order:
        with pytest.raises(ReadError, match=r"3 persons in 2-D \(--axes MTVC\) or 2 persons in 3-D \(--ax"):
            read(tmp_path, "a.npy", array)
    found = read(tmp_path, "a.npy", array, "" if order else "CTVM")
    assert found.axes == (order or "CTVM")
    np.testing.assert_array_equal(found.joints[0], KINECT[0])


def test_axes_that_cannot_be_told_are_asked_for(tmp_path: Path) -> None:
    array = np.ones((9, 4, 20, 3))
    with pytest.raises(ReadError, match=r"9 persons in 4 frames \(--axes MTVC\) or 4 persons in 9 .*TMVC\)"):
        read(tmp_path, "a.npy", array)
    assert read(tmp_path, "a.npy", array, "TMVC").joints.shape == (4, 9, 20, 3)
    with pytest.raises(ReadError, match="--axes TVC names 3 axes"):
        read(tmp_path, "a.npy", array, "TVC")
    with pytest.raises(ValueError, match="field 'axes' must be the letters of TVC or MTVC"):
        ArrayConfig(axes="TVX")


def test_null_and_nan_are_what_is_not_known(tmp_path: Path) -> None:
    """Also a whole joint, and a frame without a body."""
    clip = read(tmp_path, "a.json", "\ufeff[null, [[1, null], [NaN, 2]], [], [null, [3, 4]]]")
    none = [np.nan, np.nan]
    wanted = [[none, none], [[1, np.nan], [np.nan, 2]], [none, none], [none, [3, 4]]]
    np.testing.assert_array_equal(clip.joints[0], wanted)


def test_a_signalling_nan_is_not_known_either_unwarned(tmp_path: Path) -> None:
    for bits, size in ((0x7C01, 2), (0x7F800001, 4), (0x7FF0000000000001, 8)):
        joints = np.full((2, 20, 3), bits, f"u{size}").view(f"f{size}")
        assert np.isnan(read(tmp_path, "a.npy", joints).joints * 0.001).all()


CSV = """\
frame,person,Head_x,Head_y,hand_x,hand_y,time,head_confidence
7,ann,1,2,3,4,x,0.5
5,bob, 5,6,,nan,,1

5,ann,-1,0,2e1,.5,y,0
"""


def test_a_table(tmp_path: Path) -> None:
    clip = read(tmp_path, "a.csv", "\ufeff" + CSV.replace("\n", "\r\n"))
    assert clip.names == ("head", "hand")
    assert clip.frame_index.tolist() == [5, 7]
    none = [np.nan, np.nan]
    wanted = [[[[-1, 0], [20, 0.5]], [[1, 2], [3, 4]]], [[[5, 6], none], [none, none]]]
    np.testing.assert_array_equal(clip.joints, wanted)
    np.testing.assert_array_equal(clip.confidence, [[[0, 1], [0.5, 1]], [[1, 1], [np.nan, np.nan]]])


HEAD = "frame,a_x,a_y\n"
CROWD = "frame,person,a_x,a_y\n" + "".join(f"1,{n},2,3\n" for n in range(101))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a_x,a_y\n1,2\n", 1, "no column 'frame'"),
        ("frame,a_x\n1,2\n", 1, "a column 'a_x', but no column 'a_y'"),
        ("frame,a_x,A_x,a_y\n1,2,3,4\n", 1, "two columns have the same heading"),
        (HEAD, None, "no lines under its headings"),
        (HEAD + "1,2,3\n2,3\n", 3, "only 2 columns"),
        (HEAD + "1,2,three\n", 2, "'three' is no number"),
        (HEAD + "1.5,2,3\n", 2, "column 'frame' must be a whole number"),
        (HEAD + "1,2,3\n1,2,3\n", 3, "frame 1 stands there twice"),
        (CROWD, None, "101 persons; a clip has 100"),
    ],
)
def test_bad_tables_name_the_line(tmp_path: Path, text: str, line: int | None, reason: str) -> None:
    with pytest.raises(ReadError, match=reason) as caught:
        read(tmp_path, "a.csv", text)
    assert caught.value.line == line


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(joints: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", joints)
    return file.getvalue()


def as_if(shape: bytes) -> bytes:
    """An array whose head names another shape."""
    return npy(ONE).replace(b"(2, 3, 2), ", shape)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.npy", b"", "no array that NumPy has written"),
        ("a.npy", npy(ONE)[:-1], r"cut short, or too long for its shape \(2, 3, 2\)"),
        ("a.npy", np.array([{}]), "must be an array of numbers, is of type object"),
        ("a.npy", as_if(b"(99999999,)"), "is no single clip"),
        ("a.npy", ONE[0], r"'joints' must have the shape \(T, V, C\) or .* has \(3, 2\)"),
        ("a.npy", ONE[:0], r"has \(0, 3, 2\)"),
        ("a.npz", b"PK\x03\x04 no archive", "no .npz file, or a damaged one"),
        ("a.npz", {"keypoints": ONE}, "no array 'joints'; it has keypoints"),
        ("a.npz", npz(as_if(b"(99999999,)")), "is no single clip"),
        ("a.npz", {"joints": np.array([{}])}, "field 'joints': must be an array of numbers"),
        ("a.npz", FIELDS | {"confidence": ONE}, r"'confidence' must have the shape \(2, 2, 3\)"),
        ("a.npz", FIELDS | {"present": np.full((2, 2), 0.5)}, "'present' must be true or false"),
        ("a.npz", FIELDS | {"frame_index": np.arange(3)}, "'frame_index' must be 2 whole numbers"),
        ("a.npz", FIELDS | {"frame_index": np.array([2, 1])}, "strictly increasing"),
        ("a.json", "[[[1, 2", "not valid JSON|cut short"),
        ("a.json", "[" * 200_000, "nested too deeply|not valid JSON|cut short"),
        ("a.json", {"keypoints": []}, "no field 'joints'; it has keypoints"),
        ("a.json", [[[1, True]]], "'joints' must be lists of numbers"),
        ("a.json", [[[1, 2], [3]]], r"'joints'\[0\]\[1\] must be a list of 2"),
        ("a.json", [[[[[1]]]]], "four deep at the most"),
        ("a.json", [[[10**400, 1]]], "a number is too large"),
        ("a.json", [{"pose_world_landmarks": 0.5}] * 2, "frame 0: landmarks: must be a list"),
        ("a.json", {"joints": None, "author": 1}, "no field 'joints'; it has author"),
        ("a.txt", "1 2 3", "'.txt' is none of the endings .npz, .npy, .json, .csv"),
    ],
)
def test_bad_files_are_refused_with_a_reason(tmp_path: Path, name: str, content: Any, reason: str) -> None:
    with pytest.raises(ReadError, match=reason) as caught:
        read(tmp_path, name, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with open(file, "wb") as handle:
        handle.truncate(2**28 + 1)
    with pytest.raises(ReadError, match="larger than 256 MiB, so it is no single clip"):
        read_clip(file)
