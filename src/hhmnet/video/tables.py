"""What the tables of an MP4 or MOV file announce, before FFmpeg makes room for all of it.

A few hundred bytes can announce a thousand million frames, for which FFmpeg takes gigabytes of memory and minutes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

_SMALLEST_FRAME = 8
"""Bytes; no coder of pictures makes fewer of one."""
_ABOVE = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_LARGEST_TABLE = 1 << 26
_MOST_BOXES = 100_000
_HEAD, _LARGE_HEAD = 8, 16


def problem_of(path: Path) -> str:
    """What a file announces beyond what its size allows; "" if nothing, or if it is no such file.

    The boxes are those of ISO/IEC 14496-12: sizes of samples (8.7.3) and how long they last (8.6.1.2 and 8.6.1.3).

    Raises:
        OSError: it can't be read.
    """
    size = path.stat().st_size
    with open(path, "rb") as handle:
        head = handle.read(_HEAD)
        if head[4:8] not in (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip"):
            return ""
        for kind, start, end in islice(_boxes(handle, 0, size, 0), _MOST_BOXES):
            count = _announced(handle, kind, start, end)
            if count > max(size // _SMALLEST_FRAME, 1):
                return f"announces {count:,} frames in {size:,} bytes"
    return ""


def _boxes(handle: IO[bytes], start: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of the boxes on the way to a stream's tables, in the order of the file."""
    while start + _HEAD <= end and depth <= len(_ABOVE):
        handle.seek(start)
        length, kind = struct.unpack(">I4s", handle.read(_HEAD))
        content = start + _HEAD
        if length == 1 and start + _LARGE_HEAD <= end:
            (length,), content = struct.unpack(">Q", handle.read(8)), start + _LARGE_HEAD
        after = end if length == 0 else start + length
        if after < content:
            return
        yield kind, content, min(after, end)
        if kind in _ABOVE:
            yield from _boxes(handle, content, min(after, end), depth + 1)
        start = after


def _announced(handle: IO[bytes], kind: bytes, start: int, end: int) -> int:
    """How many samples a table speaks of; 0 for what is no such table."""
    if kind not in (b"stsz", b"stts", b"ctts") or end - start < _HEAD + 4 * (kind == b"stsz"):
        return 0
    handle.seek(start + 4)
    if kind == b"stsz":
        return int(struct.unpack(">II", handle.read(8))[1])
    (entries,) = struct.unpack(">I", handle.read(4))
    table = handle.read(min(8 * entries, end - start - _HEAD, _LARGEST_TABLE))
    return sum(count for count, _ in struct.iter_unpack(">II", table[: len(table) // 8 * 8]))
