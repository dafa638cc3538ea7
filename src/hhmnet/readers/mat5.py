"""Arrays of numbers in MATLAB files, versions 5 to 7.2 of today's byte order, after MathWorks' *MAT-File Format*.

Ours, because scipy.io.loadmat ended the process (SIGSEGV) on 8 of 4,000 damaged files.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from hhmnet.readers import ReadError

MAX_BYTES = 2**26  # of one variable in memory, 64 MiB; a few kilobytes of compressed zeros can be gigabytes

_HEADER, _TAG = 128, 8
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC = range(6, 16)
_COMPLEX = 0x800
_DAMAGED = "is a damaged MATLAB file, or cut short"

Element = tuple[int, bytes]  # what type it is of, and its bytes


def read_array(content: bytes, name: str) -> np.ndarray:
    """The variable ``name`` of a MATLAB file, as MATLAB shows it; of whatever numbers it is written in. Raises
    ReadError where the file is damaged or of another version, or has no such variable of real numbers.
    """
    if content.startswith(b"MATLAB 7.3"):
        raise ReadError("is a file of MATLAB 7.3; save it again with save(..., '-v7')")
    if content[_HEADER - 2 : _HEADER] != b"IM":
        raise ReadError("is no file of MATLAB 5 to 7.2")
    for kind, data in _elements(content[_HEADER:]):
        if kind == _COMPRESSED:
            kind, data = next(_elements(_decompressed(data)), (0, b""))
        if kind == _MATRIX:
            flags, shape, title, numbers = ([*_elements(data)] + [(0, b"")] * 4)[:4]
            if title[1] == name.encode():
                return _array(name, flags, shape, numbers)
    raise ReadError(f"has no variable '{name}'")


def _elements(data: bytes) -> Iterator[Element]:
    """The elements that stand one after the other in ``data``; raises ReadError if the last is cut short."""
    at = 0
    while at < len(data):
        if at + _TAG > len(data):
            raise ReadError(_DAMAGED)
        kind, count = struct.unpack_from("<2I", data, at)
        start = at + _TAG
        after = start + count + (0 if kind == _COMPRESSED else -count % 8)
        # A small element has its count, its type and up to four bytes of data in the eight of the tag.
        if kind >> 16:
            kind, count = kind & 0xFFFF, kind >> 16
            start, after = at + 4, at + _TAG
        if start + count > min(after, len(data)):
            raise ReadError(_DAMAGED)
        yield kind, data[start : start + count]
        at = after


def _decompressed(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, MAX_BYTES)
    except zlib.error:
        raise ReadError(_DAMAGED) from None
    if not stream.eof:
        raise ReadError(f"is cut short, or a variable is larger than {MAX_BYTES // 2**20} MiB")
    return found


def _array(name: str, flags: Element, shape: Element, numbers: Element) -> np.ndarray:
    """The array of a matrix element, from its parts."""
    if len(flags[1]) != 8 or shape[0] != 5 or len(shape[1]) % 4:
        raise ReadError(_DAMAGED)
    flag = int.from_bytes(flags[1][:4], "little")
    if flag & 0xFF not in _NUMERIC or flag & _COMPLEX:
        raise ReadError(f"variable '{name}' must be an array of real numbers")
    kind, data = numbers
    dtype = np.dtype("<" + _TYPES.get(kind, "u1"))
    sizes = np.frombuffer(shape[1], "<i4").tolist()
    if kind not in _TYPES or min(sizes, default=-1) < 0 or math.prod(sizes) * dtype.itemsize != len(data):
        raise ReadError(_DAMAGED)
    return np.frombuffer(data, dtype).reshape(sizes, order="F")
