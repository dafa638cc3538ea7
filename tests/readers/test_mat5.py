from __future__ import annotations

import io
import math
import zlib

import numpy as np
import pytest
from damage import FUZZ, damaged
from hypothesis import given, settings

from hhmnet.readers import ReadError
from hhmnet.readers.mat5 import MAX_BYTES, read_array
from made_mat import mat, matrix

CUBE = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compress", [False, True])
def test_arrays(order: str, compress: bool) -> None:
    variables = {
        "first": np.zeros((1, 1)),
        "x": CUBE,
        "flat": np.array([[1, 2, 3]], np.int16),
        "empty": np.zeros((0, 3)),
        "a_long_name": np.array([[2**60]], np.uint64),
    }
    content = mat(variables, order=order, compress=compress)
    for name, array in variables.items():
        found = read_array(content, name)
        assert found.dtype.newbyteorder("=") == array.dtype
        np.testing.assert_array_equal(found, array)
    with pytest.raises(ReadError, match="has no variable 'y'"):
        read_array(content, "y")


def test_whole_numbers_may_be_written_small() -> None:
    # MATLAB stores doubles that are small whole numbers as bytes.
    found = read_array(mat({"x": CUBE}, written="u1"), "x")
    np.testing.assert_array_equal(found, CUBE)


@pytest.mark.parametrize("compress", [False, True])
def test_as_scipy_writes_and_reads_them(compress: bool) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    file = io.BytesIO()
    variables = {"text": "abc", "cells": [1, "a"], "part": {"a": 1}, "x": CUBE, "n": np.float32([[1, 2]])}
    scipy_io.savemat(file, variables, do_compression=compress)
    for name in ("x", "n"):
        found = read_array(file.getvalue(), name)
        expected = scipy_io.loadmat(io.BytesIO(file.getvalue()))[name]
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    for name in ("text", "part"):
        with pytest.raises(ReadError, match=f"variable '{name}' must be an array of real numbers"):
            read_array(file.getvalue(), name)


def test_other_versions_are_named() -> None:
    with pytest.raises(ReadError, match=r"a file of MATLAB 7\.3; save it again"):
        read_array(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", "x")
    with pytest.raises(ReadError, match=r"no file of MATLAB 5 to 7\.2"):
        read_array(b"\0" * 200, "x")
    with pytest.raises(ReadError, match="no file of MATLAB"):
        read_array(b"", "x")


def test_complex_numbers_are_refused() -> None:
    content = mat({}) + matrix("x", CUBE, flags=0x800)
    with pytest.raises(ReadError, match="must be an array of real numbers"):
        read_array(content, "x")


def test_a_little_file_can_not_fill_the_memory() -> None:
    bomb = zlib.compress(bytes(MAX_BYTES + 1), 9)
    content = mat({}) + (15).to_bytes(4, "little") + len(bomb).to_bytes(4, "little") + bomb
    assert len(content) < MAX_BYTES / 500
    with pytest.raises(ReadError, match="larger than 64 MiB"):
        read_array(content, "x")


@pytest.mark.parametrize("shape", [(-1, -24), (2**16, 2**16), (2, 3, 5)])
def test_a_shape_that_does_not_fit_its_numbers_is_refused(shape: tuple[int, ...]) -> None:
    sizes = b"".join(size.to_bytes(4, "little", signed=True) for size in (2, 3, 4)[: len(shape)])
    changed = b"".join(size.to_bytes(4, "little", signed=True) for size in shape)
    content = mat({"x": CUBE})
    assert sizes in content
    with pytest.raises(ReadError, match="damaged MATLAB file"):
        read_array(content.replace(sizes, changed), "x")


WHOLE = [
    mat({"y": np.ones((2, 2)), "x": CUBE}, compress=compress, order=order)
    for compress in (False, True)
    for order in "<>"
]


@settings(FUZZ, max_examples=150)
@given(
    content=damaged(
        *WHOLE, pieces=[b"\x00", b"\x01", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x0f", b"\x0e"]
    )
)
def test_damaged_files_give_an_array_or_a_read_error(content: bytes) -> None:
    try:
        found = read_array(content, "x")
    except ReadError:
        return
    assert found.size == math.prod(found.shape)
    assert found.dtype.kind in "iuf"
