"""Made MATLAB files, written after MathWorks' MAT-File Format, version 5."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_CLASSES = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14, "u8": 15}
_TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}


def mat(
    variables: dict[str, np.ndarray], *, order: str = "<", compress: bool = False, written: str = ""
) -> bytes:
    """A whole file; ``written``: the type its numbers are stored as, where that isn't their own."""
    marks = {"<": b"\x00\x01IM", ">": b"\x01\x00MI"}
    content = b"MATLAB 5.0 MAT-file, made".ljust(124) + marks[order]
    for name, array in variables.items():
        whole = matrix(name, array, order, written)
        content += _element(15, zlib.compress(whole), order, padded=False) if compress else whole
    return content


def matrix(name: str, array: np.ndarray, order: str = "<", written: str = "", flags: int = 0) -> bytes:
    """One variable."""
    kind = array.dtype.str[1:]
    stored = written or kind
    return _element(
        14,
        _element(6, struct.pack(f"{order}II", _CLASSES[kind] | flags, 0), order)
        + _element(5, struct.pack(f"{order}{array.ndim}i", *array.shape), order)
        + _element(1, name.encode(), order)
        + _element(_TYPES[stored], array.astype(order + stored).tobytes(order="F"), order),
        order,
    )


def _element(kind: int, data: bytes, order: str, *, padded: bool = True) -> bytes:
    if 0 < len(data) <= 4 and kind != 15:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    padding = b"\0" * (-len(data) % 8) if padded else b""
    return struct.pack(f"{order}II", kind, len(data)) + data + padding
