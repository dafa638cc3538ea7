"""Clips of skeletons as ``.npz``, ``.npy``, ``.json`` and ``.csv`` files, as docs/your_own_data.md describes them."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from hhmnet.readers import ReadError
from hhmnet.readers.text import read_json, table_lines, to_number

SUFFIXES = (".npz", ".npy", ".json", ".csv")
MAX_PERSONS = 100


FIELDS = ("joints", "confidence", "pixels", "present", "frame_index")
MAX_BYTES = 2**28
"""The most that a file, or an array in it, may take: 256 MiB are eleven hours of a Kinect's joints."""


class RawClip(NamedTuple):
    """What a file says of one clip.

    Attributes:
        joints: ``(M, T, V, C)`` float64; NaN for what isn't there.
        frame_index: ``(T,)`` int64.
        confidence: ``(M, T, V)`` float64, if the file has it.
        pixels: ``(M, T, V, 2)`` float64, likewise.
        present: ``(M, T)`` bool, likewise.
        names: names of the joints, if the file has them.
        layout: name of the skeleton, if the file's format says it; "" if it doesn't.
        notes: what was understood of the file, for the user.
    """

    joints: np.ndarray
    frame_index: np.ndarray
    confidence: np.ndarray | None = None
    pixels: np.ndarray | None = None
    present: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    layout: str = ""
    notes: tuple[str, ...] = ()


def read_clip(file: Path) -> RawClip:
    """Read one file, by the ending of its name.

    Raises:
        ReadError: it isn't a clip; says what is wrong, with the line if there is one.
        OSError: it can't be read.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise ReadError(f"'{suffix}' is none of the endings {', '.join(SUFFIXES)}")
    if file.stat().st_size > MAX_BYTES:
        raise ReadError(f"is larger than {MAX_BYTES // 2**20} MiB, so it is no single clip")
    if suffix == ".csv":
        return _read_csv(file)
    if suffix == ".json":
        return from_json(read_json(file, nan=True))
    return _to_clip({".npz": _read_npz, ".npy": _read_npy_file}[suffix](file))


class _Columns(NamedTuple):
    """Where things stand in a table's line; -1 for what isn't there.

    Attributes:
        names: the joints, in the order of their first columns.
        places: the columns of each joint: coordinates, then confidence.
    """

    frame: int
    person: int
    names: tuple[str, ...]
    places: list[list[int]]


def _read_csv(file: Path) -> RawClip:
    """Read a table with the headings ``frame``, perhaps ``person``, and for each joint ``NAME_x``, ``NAME_y``,
    ``NAME_z`` (not in 2-D) and perhaps ``NAME_confidence``. Other columns are left alone.

    An empty cell, or ``nan``, is a coordinate that isn't known; joints without a column of confidence have 1. Persons
    are in the order in which they first come.
    """
    lines = table_lines(file.read_bytes())
    columns = _columns(next(lines)[1])
    bodies: dict[tuple[str, int], list[float]] = {}
    for line, cells in lines:
        person, frame, numbers = _body(columns, cells, line)
        if (person, frame) in bodies:
            who = f" for person '{person}'" if person else ""
            raise ReadError(f"frame {frame} stands there twice{who}", line)
        bodies[person, frame] = numbers
    if not bodies:
        raise ReadError("has no lines under its headings")
    persons = list(dict.fromkeys(person for person, _ in bodies))
    if len(persons) > MAX_PERSONS:
        raise ReadError(f"has {len(persons)} persons; a clip has {MAX_PERSONS} at the most")
    frames = sorted({frame for _, frame in bodies})
    at = {frame: place for place, frame in enumerate(frames)}
    shape = np.shape(columns.places)
    values = np.full((len(persons), len(frames), *shape), np.nan)
    for (person, frame), numbers in bodies.items():
        values[persons.index(person), at[frame]] = np.reshape(numbers, shape)
    known = any(places[-1] >= 0 for places in columns.places)
    confidence = values[..., -1] if known else None
    return RawClip(values[..., :-1], np.array(frames), confidence, names=columns.names)


def _columns(headings: Sequence[str]) -> _Columns:
    places = {heading.strip().lower(): place for place, heading in enumerate(headings)}
    if len(places) < len(headings):
        raise ReadError("two columns have the same heading", 1)
    if "frame" not in places:
        raise ReadError("has no column 'frame'", 1)
    names = tuple(heading.removesuffix("_x") for heading in places if heading.endswith("_x"))
    axes = "xyz" if any(f"{name}_z" in places for name in names) else "xy"
    for name in names:
        for axis in axes:
            if f"{name}_{axis}" not in places:
                raise ReadError(f"has a column '{name}_x', but no column '{name}_{axis}'", 1)
    if not names:
        raise ReadError("has no joints, which are columns such as 'head_x', 'head_y', 'head_z'", 1)
    ends = [*axes, "confidence"]
    joints = [[places.get(f"{name}_{end}", -1) for end in ends] for name in names]
    return _Columns(places["frame"], places.get("person", -1), names, joints)


def _body(columns: _Columns, cells: Sequence[str], line: int) -> tuple[str, int, list[float]]:
    """Person, frame and the numbers of all joints in one line."""
    used = list(chain(*columns.places))
    if len(cells) <= max(columns.frame, columns.person, *used):
        raise ReadError(f"has only {len(cells)} columns", line)
    frame = _number(cells[columns.frame], line)
    if not 0 <= frame <= np.iinfo(np.int32).max or frame != int(frame):
        raise ReadError("column 'frame' must be a whole number from 0", line)
    person = cells[columns.person].strip() if columns.person >= 0 else ""
    return person, int(frame), [_number(cells[place], line) if place >= 0 else 1.0 for place in used]


def _number(cell: str, line: int) -> float:
    try:
        return to_number(cell)
    except ValueError:
        raise ReadError(f"'{cell[:40]}' is no number", line) from None


def _to_clip(fields: dict[str, np.ndarray]) -> RawClip:
    """A clip from arrays by name; raises ReadError unless they fit together."""
    if "joints" not in fields:
        raise ReadError("has no field 'joints'")
    joints = _numbers("joints", fields["joints"])
    if joints.ndim not in (3, 4) or not joints.size:
        raise ReadError(f"field 'joints' must have the shape (T, V, C) or (M, T, V, C), has {joints.shape}")
    alone = joints.ndim == 3
    shape = joints.shape if not alone else (1, *joints.shape)
    wanted = {"confidence": shape[:3], "pixels": (*shape[:3], 2), "present": shape[:2]}
    others: dict[str, Any] = {}
    for field in wanted.keys() & fields.keys():
        array = fields[field]
        array = array[None] if alone and array.ndim == len(wanted[field]) - 1 else array
        if array.shape != wanted[field]:
            raise ReadError(f"field '{field}' must have the shape {wanted[field]}, has {array.shape}")
        others[field] = _truths(field, array) if field == "present" else _numbers(field, array)
    return RawClip(joints.reshape(shape), _frame_index(fields.get("frame_index"), shape[1]), **others)


def _frame_index(index: np.ndarray | None, frames: int) -> np.ndarray:
    if index is None:
        return np.arange(frames)
    if index.shape != (frames,) or index.dtype.kind not in "iu":
        raise ReadError(f"field 'frame_index' must be {frames} whole numbers, one a frame")
    if (
        index.min() < 0
        or index.max() > np.iinfo(np.int32).max
        or (np.diff(index.astype(np.int64)) <= 0).any()
    ):
        raise ReadError("field 'frame_index' must be 0 or more and strictly increasing")
    return index.astype(np.int64)


def _numbers(field: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iuf":
        raise ReadError(f"field '{field}' must be numbers, is of type {array.dtype}")
    return array.astype(np.float64)


def _truths(field: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all():
        raise ReadError(f"field '{field}' must be true or false")
    return array.astype(np.bool_)


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    content = io.BytesIO(file.read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:
            held = {name.removesuffix(".npy"): name for name in archive.namelist()}
            found = {}
            for field in FIELDS:
                if field in held:
                    with archive.open(held[field]) as member:
                        found[field] = _read_npy(member, f"field '{field}': ")
    except ReadError:
        raise
    except Exception as error:  # nearly anything, if the file is damaged
        raise ReadError(f"is no .npz file, or a damaged one ({error})") from None
    if "joints" not in found:
        raise ReadError(f"has no array 'joints'; it has {', '.join(held) or 'none'}")
    return found


def _read_npy_file(file: Path) -> dict[str, np.ndarray]:
    with open(file, "rb") as handle:
        return {"joints": _read_npy(handle, "")}


def _read_npy(handle: IO[bytes], where: str) -> np.ndarray:
    """The array that NumPy has written; unlike ``np.load`` this reads no pickles and no more than the file holds."""
    try:
        version = np.lib.format.read_magic(handle)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        with warnings.catch_warnings(action="ignore"):  # about Python 2, which may have written it
            shape, fortran, dtype = read_header[version](handle)
    except OSError:
        raise
    except Exception:  # nearly anything, if the file is damaged
        raise ReadError(f"{where}is no array that NumPy has written, or a damaged one") from None
    if dtype.kind not in "biuf":
        raise ReadError(f"{where}must be an array of numbers, is of type {dtype}")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > MAX_BYTES:
        raise ReadError(f"{where}an array of shape {shape} is no single clip")
    content = handle.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize or handle.read(1):
        raise ReadError(f"{where}is cut short, or too long for its shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def from_json(content: Any) -> RawClip:
    """The clip in a JSON document: nested lists of joints, or an object with arrays by name; raises ReadError."""
    fields = content if isinstance(content, dict) else {"joints": content}
    if "joints" not in fields:
        raise ReadError(f"has no field 'joints'; it has {', '.join(map(str, fields))[:80] or 'none'}")
    return _to_clip(
        {field: _nested(field, fields[field]) for field in FIELDS if fields.get(field) is not None}
    )


def _nested(field: str, value: Any) -> np.ndarray:
    """Nested lists of numbers, null for NaN, or of true and false, as an array; raises ReadError for anything else."""
    shape: list[int] = []
    level = [value]
    while any(isinstance(inner, list) for inner in level):
        lengths = {len(inner) if isinstance(inner, list) else None for inner in level}
        if len(lengths) > 1 or len(shape) == 4:
            raise ReadError(f"field '{field}' must be lists of equal lengths, four deep at the most")
        shape.append(lengths.pop() or 0)
        level = list(chain.from_iterable(level))
    kinds = set(map(type, level))
    if not kinds <= {int, float, type(None)} and kinds != {bool}:
        raise ReadError(f"field '{field}' must be lists of numbers")
    try:
        with np.errstate(over="ignore"):
            array = np.array(level, bool if kinds == {bool} else np.int64 if kinds == {int} else np.float64)
    except OverflowError:
        raise ReadError(f"field '{field}': a number is too large") from None
    return array.reshape(shape)
