"""Crops of one clip as one file, a folder of such files, and which video has which content.

The files are in the safetensors format: raw arrays behind a JSON header that says where each of them lies. They are
read without that library, because a batch is filled several times faster from the file than by way of mapped pages.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from hhmnet import files
from hhmnet.data.roi import ClipCrops, RoiConfig
from hhmnet.files import replacing

SUFFIX = ".safetensors"
INDEX_FILE = "videos.jsonl"

_KEY = "hhmnet"
_TYPES = {"U8": np.dtype(np.uint8), "BOOL": np.dtype(bool), "F32": np.dtype(np.float32)}
_LONGEST_HEADER = 1 << 20


class DamagedError(ValueError):
    """A file that is cut short, or isn't one of ours."""


class Header(NamedTuple):
    """What stands at the beginning of a file of crops.

    Attributes:
        facts: what is told of the crops, by name.
        arrays: type, shape and first byte of each array, by name.
    """

    facts: dict[str, str]
    arrays: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]


def write_crops(file: Path, crops: ClipCrops, facts: Mapping[str, str]) -> None:
    """Write crops and what is told of them; whoever reads meanwhile sees all of the file or none."""
    with replacing(file) as handle:
        # As one entry, since the library writes several in any order: the same crops are the same bytes.
        handle.write(save(crops._asdict(), {_KEY: json.dumps(dict(facts))}))


def read_header(handle: IO[bytes]) -> Header:
    """Read the header of an open file; raises DamagedError unless the file is as long as that says."""
    try:
        length = int.from_bytes(handle.read(8), "little")
        if not 2 <= length <= _LONGEST_HEADER:
            raise ValueError("no header")
        fields = json.loads(handle.read(length))
        facts = json.loads(fields.pop("__metadata__")[_KEY])
        if not isinstance(facts, dict):
            raise ValueError("it doesn't say what its crops are of")
        arrays = {name: _place(entry, 8 + length) for name, entry in fields.items()}
        end = max(8 + length + entry["data_offsets"][1] for entry in fields.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DamagedError(f"{handle.name}: not a file of crops ({error})") from None
    if (size := os.fstat(handle.fileno()).st_size) != end:
        raise DamagedError(f"{handle.name}: has {size} bytes instead of {end}")
    return Header(facts, arrays)


def _place(entry: dict[str, Any], start: int) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape and first byte of an array; raises ValueError unless its bytes are as many as its shape says."""
    dtype, shape, (first, end) = _TYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, first, end)):
        raise ValueError("shapes and offsets must be whole numbers from 0")
    if end - first != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array's bytes don't fit its shape")
    return dtype, shape, start + first


def map_crops(file: Path) -> tuple[ClipCrops, dict[str, str]]:
    """The crops in a file, as read-only arrays that are read when touched, and what is told of them.

    Raises:
        DamagedError: the file is cut short, or isn't one of ours.
        OSError: there is no such file.
    """
    with open(file, "rb") as handle:
        header = read_header(handle)
        pages = np.memmap(handle, np.uint8, "r")
    found = {}
    for name, (dtype, shape, start) in header.arrays.items():
        size = math.prod(shape) * dtype.itemsize
        found[name] = np.asarray(pages[start : start + size]).view(dtype).reshape(shape)
    return _checked(found, file), header.facts


def fill_crops(file: Path, places: ClipCrops) -> dict[str, str]:
    """Read the crops in a file into arrays, one copy from the file to its place; returns what is told of them.

    Args:
        file: the file.
        places: contiguous arrays of the same shapes, such as one clip's place in a batch.

    Raises:
        DamagedError: the file is cut short, isn't one of ours, or its crops have other shapes.
        OSError: there is no such file.
    """
    with open(file, "rb", buffering=0) as handle:
        header = read_header(handle)
        for name, place in places._asdict().items():
            dtype, shape, start = header.arrays.get(name, (None, None, 0))
            if dtype != place.dtype or shape != place.shape:
                raise DamagedError(f"{file}: array '{name}' is {shape}, not {place.shape}")
            handle.seek(start)
            if handle.readinto(memoryview(place).cast("B")) != place.nbytes:
                raise DamagedError(f"{file}: array '{name}' is cut short")
    return header.facts


def read_facts(file: Path) -> dict[str, str]:
    """What is told of the crops in a file; raises as :func:`map_crops` does."""
    with open(file, "rb") as handle:
        return read_header(handle).facts


def _checked(arrays: dict[str, np.ndarray], file: Path) -> ClipCrops:
    if set(arrays) != set(ClipCrops._fields):
        raise DamagedError(f"{file}: holds {', '.join(sorted(arrays))}")
    return ClipCrops(**arrays)


class VideoIndex:
    """The SHA-256 of videos' contents, so that one that hasn't changed since isn't read through again.

    It is a text file of one JSON object a line, which any number of processes add to at once. A video is known by a
    digest of its path, its size and the time of its last change.

    Args:
        file: where it is; it need not exist.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._known: dict[tuple[str, int, int], str] = {}
        self._read = 0

    def digest(self, video: Path) -> str:
        """SHA-256 of a video's content; raises OSError if it can't be read."""
        facts = video.stat()
        name = hashlib.sha256(os.fsencode(video.resolve())).hexdigest()[:24]
        key = (name, facts.st_size, facts.st_mtime_ns)
        if key not in self._known:
            self._refresh()
        if key not in self._known:
            with open(video, "rb") as handle:
                self._known[key] = hashlib.file_digest(handle, "sha256").hexdigest()
            self._add(key)
        return self._known[key]

    def _refresh(self) -> None:
        """Take in what was added to the file."""
        try:
            with open(self.file, "rb") as handle:
                handle.seek(self._read)
                text = handle.read()
        except OSError:
            return
        self._read += len(text)
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._known[entry["video"], entry["bytes"], entry["changed"]] = entry["sha256"]
            except (ValueError, KeyError, TypeError):
                continue  # what a killed process left half written

    def _add(self, key: tuple[str, int, int]) -> None:
        entry = {"video": key[0], "bytes": key[1], "changed": key[2], "sha256": self._known[key]}
        # One write of a short line at the end isn't mixed up with others'. It begins with a line break, in case a
        # killed process left half a line. Where nothing can be written, the video is just read again next time.
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "ab", buffering=0) as handle:
                handle.write(f"\n{json.dumps(entry)}\n".encode())


class Holding(NamedTuple):
    """Crops in a folder that were made for one store with one choice of settings."""

    store: str
    settings: RoiConfig
    clips: int
    bytes: int


def holdings(folder: Path) -> tuple[list[Holding], int]:
    """What crops a folder holds, by store and settings, the largest first; and how many files there can't be read."""
    clips: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    damaged = 0
    for file in _files(folder):
        try:
            facts = read_facts(file)
            key = facts["store"], facts["settings"]
            RoiConfig(**json.loads(key[1]))
        except (DamagedError, OSError, ValueError, KeyError, TypeError):
            damaged += 1
            continue
        clips[key] += 1
        sizes[key] += file.stat().st_size
    found = [
        Holding(store, RoiConfig(**json.loads(settings)), clips[store, settings], size)
        for (store, settings), size in sizes.most_common()
    ]
    return found, damaged


def clear(folder: Path, older_than: float | None = None) -> tuple[int, int]:
    """Remove crops from a folder, all or those made more than so many seconds ago; returns how many files and bytes."""
    remove_leftovers(folder)
    count = size = 0
    for file in _files(folder):
        facts = file.stat()
        if older_than is None or facts.st_mtime < time.time() - older_than:
            file.unlink(missing_ok=True)
            count, size = count + 1, size + facts.st_size
    if older_than is None:
        (folder / INDEX_FILE).unlink(missing_ok=True)
    return count, size


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that killed processes left behind."""
    for below in folder.glob("??/"):
        files.remove_leftovers(below)


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.glob(f"??/*{SUFFIX}") if not file.name.startswith("."))
