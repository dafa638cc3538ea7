"""What a file says of one clip, as arrays; and ``.npz``, ``.npy``, ``.json``, ``.csv`` as in docs/your_own_data.md."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from hhmnet.conversion import Camera
from hhmnet.readers import ReadError
from hhmnet.readers.text import table_lines, to_number

SUFFIXES = (".npz", ".npy", ".json", ".csv")
MAX_PERSONS = 100
FIELDS = ("joints", "confidence", "pixels", "present", "frame_index")
PICTURE = 10.0  # positions beyond this are no metres
MAX_BYTES = 2**28  # of a file, or an array in it: 256 MiB are eleven hours of a Kinect's joints
_AXES = {"confidence": "MTV", "pixels": "MTVC", "present": "MT"}
_CONFIDENCES = ("confidence", "score", "visibility", "likelihood")
_LAST_FRAME = np.iinfo(np.int32).max


class RawClip(NamedTuple):
    """What a file says of one clip.

    Attributes:
        joints: ``(M, T, V, C)`` float64; NaN for what isn't there. C is 2, 3 or 4, as the file has it.
        frame_index: ``(T,)`` int64.
        confidence, pixels, present: ``(M, T, V)`` and ``(M, T, V, 2)`` float64 and ``(M, T)`` bool, if the file has
            them beside the joints.
        names: names of the joints in lower case, if the file has them; then a third number is z.
        axes: the order of the array's axes in the file.
        size, camera, layout: width and height of the picture in pixels, the camera of the clip's video, and the name
            of the skeleton, if the file's format says them.
        notes: what was understood of the file, for the user.
    """

    joints: np.ndarray
    frame_index: np.ndarray
    confidence: np.ndarray | None = None
    pixels: np.ndarray | None = None
    present: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    axes: str = "MTVC"
    size: tuple[float, float] | None = None
    camera: Camera | None = None
    layout: str = ""
    notes: tuple[str, ...] = ()


def to_clip(
    fields: Mapping[str, Any], axes: str = "", called: Mapping[str, str] | None = None, **more: Any
) -> RawClip:
    """A clip from arrays by name, as docs/your_own_data.md has them; ``more`` are other fields of the clip.

    ``axes`` is the order of the axes of ``joints``, by the values if ""; the others have the same, as far as they have
    them. ``called`` is what the file calls them, for messages. Raises ReadError where they don't fit together, or the
    order must be said.
    """
    called = called or {}
    name, array = called.get("joints", "joints"), fields["joints"]
    joints = numbers(name, array)
    if joints.ndim not in (3, 4) or not joints.size:
        hint = "" if joints.size else ": no frame has a body"
        if joints.ndim == 2 and joints.shape[1] % 3 == 0:
            hint = f"; if a row is a frame's x, y, z, x, y, z, …, save array.reshape(-1, {joints.shape[1] // 3}, 3)"
        has = f"has {joints.shape}{hint}"
        raise ReadError(f"field '{name}' must have the shape (T, V, C) or (M, T, V, C), {has}")
    if axes and len(axes) != joints.ndim:
        raise ReadError(f"field '{name}' has the shape {joints.shape}; --axes {axes} names {len(axes)} axes")
    order = axes or _order(name, joints)
    joints = _arranged(joints, order, "MTVC")
    if joints.shape[-1] not in (2, 3, 4):
        fault = f"has {joints.shape[-1]} numbers a joint; there must be 2 to 4"
        raise ReadError(f"field '{name}' of shape {array.shape} {fault}; --axes gives the order of the axes")
    sizes = dict(zip(order, array.shape, strict=True)) | {"C": 2}  # pixels have two
    for field in _AXES.keys() & fields.keys():
        name, own = called.get(field, field), [letter for letter in order if letter in _AXES[field]]
        shape = tuple(sizes[letter] for letter in own)
        if fields[field].shape != shape:
            raise ReadError(f"field '{name}' must have the shape {shape}, has {fields[field].shape}")
        more[field] = numbers(name, _arranged(fields[field], own, _AXES[field]), truths=field == "present")
    return RawClip(joints, _frame_index(fields.get("frame_index"), joints.shape[1]), axes=order, **more)


def _order(name: str, joints: np.ndarray) -> str:
    """The order of an array's axes, as its values tell; raises ReadError where they tell two."""
    first, second, *_, last = joints.shape
    if last not in (2, 3, 4) and first in (2, 3):
        return "CTV" if joints.ndim == 3 else "CTVM"
    if joints.ndim == 3:
        return "TVC"
    two = ""
    if first == 3 and last == 2:
        # Coordinates in front, persons behind: a second person who isn't there has no y.
        values = np.nan_to_num(joints, posinf=0, neginf=0)
        if not values[..., 1].any():
            return "CTVM"
        if values.min() < 0 and np.abs(values).max() < PICTURE:
            two = "3 persons in 2-D (--axes MTVC) or 2 persons in 3-D (--axes CTVM)"
    if not two and first > second and first != 1:
        two = f"{first} persons in {second} frames (--axes MTVC) or {second} persons in {first} frames (--axes TMVC)"
    if two:
        raise ReadError(f"field '{name}' of shape {joints.shape} is {two}")
    return "MTVC"


def _arranged(array: np.ndarray, order: Sequence[str], wanted: str) -> np.ndarray:
    """An array with its axes in the ``wanted`` order; of one person if it has no axis of persons."""
    arranged = array.transpose([order.index(letter) for letter in wanted if letter in order])
    return arranged if "M" in order else arranged[None]


def _frame_index(index: np.ndarray | None, frames: int) -> np.ndarray:
    if index is None:
        return np.arange(frames)
    if index.shape != (frames,) or index.dtype.kind not in "iu":
        raise ReadError(f"field 'frame_index' must be {frames} whole numbers, one a frame")
    if index.min() < 0 or index.max() > _LAST_FRAME or (np.diff(index.astype(np.int64)) <= 0).any():
        raise ReadError("field 'frame_index' must be 0 or more and strictly increasing")
    return index.astype(np.int64)


def numbers(field: str, array: np.ndarray, truths: bool = False) -> np.ndarray:
    """An array as float64 of its own, or as ``truths``; raises ReadError unless it holds that."""
    if truths:
        if array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all():
            raise ReadError(f"field '{field}' must be true or false")
        return array.astype(np.bool_)
    if array.dtype.kind not in "iuf":
        raise ReadError(f"field '{field}' must be numbers, is of type {array.dtype}")
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one, which no later step warns of
        return array.astype(np.float64) + 0.0


def nested(field: str, value: Any) -> np.ndarray:
    """Nested lists of numbers, or of true and false, as an array; NaN for null. A list that is null or empty beside
    others, such as a frame without a body, is one of nulls. Raises ReadError, with the place, for anything else.
    """
    shape: list[int] = []
    level = [value]
    while any(isinstance(inner, list) for inner in level):
        count = next((len(inner) for inner in level if inner and isinstance(inner, list)), 0)
        for place, inner in enumerate(level):
            if inner is not None and (not isinstance(inner, list) or len(inner) not in (0, count)):
                where = "".join(f"[{index}]" for index in np.unravel_index(place, shape)) if shape else ""
                raise ReadError(f"field '{field}'{where} must be a list of {count} as those before it")
        if len(shape) == 4:
            raise ReadError(f"field '{field}' must be lists, four deep at the most")
        if len(level) * count > MAX_BYTES // 8:
            raise ReadError(f"field '{field}' is no single clip: it has more than {MAX_BYTES // 8:,} numbers")
        shape.append(count)
        level = list(chain.from_iterable(inner or [None] * count for inner in level))
    kinds = set(map(type, level))
    if not kinds <= {int, float, type(None)} and kinds != {bool}:
        raise ReadError(f"field '{field}' must be lists of numbers")
    try:
        with np.errstate(over="ignore"):
            array = np.array(level, bool if kinds == {bool} else np.int64 if kinds == {int} else np.float64)
    except OverflowError:
        raise ReadError(f"field '{field}': a number is too large") from None
    return array.reshape(shape)


def from_json(content: Any, axes: str = "") -> RawClip:
    """The clip in a JSON document: nested lists of joints, or an object with arrays by name; raises ReadError."""
    fields = content if isinstance(content, dict) else {"joints": content}
    fields = {field: value for field, value in fields.items() if value is not None}
    if "joints" not in fields:
        raise ReadError(f"has no field 'joints'; it has {', '.join(map(str, fields))[:80] or 'none'}")
    return to_clip({field: nested(field, fields[field]) for field in FIELDS if field in fields}, axes)


def read_csv(file: Path) -> RawClip:
    """Read a table with the headings ``frame``, perhaps ``person``, and for each joint ``NAME_x``, ``NAME_y``,
    ``NAME_z`` (not in 2-D) and perhaps ``NAME_confidence`` (also ``_score``, ``_visibility``, ``_likelihood``).

    An empty cell, or ``nan``, is a coordinate that isn't known; joints without a column of confidence have 1. Persons
    are in the order in which they first come. MediaPipe's tables have no frames: there each line is one.
    """
    (_, headings), *lines = table_lines(file.read_bytes())
    places, joints = _columns(headings)
    used = list(chain(*joints.values()))
    frame_at, person_at = places.get("frame"), places.get("person")
    persons: dict[str, dict[int, list[float]]] = {}
    for number, (line, cells) in enumerate(lines):
        if len(cells) <= max(frame_at or 0, person_at or 0, *used):
            raise ReadError(f"has only {len(cells)} columns", line)
        frame = number if frame_at is None else _number(cells[frame_at], line)
        if not 0 <= frame <= _LAST_FRAME or frame != int(frame):
            raise ReadError("column 'frame' must be a whole number from 0", line)
        person = "" if person_at is None else cells[person_at].strip()
        bodies = persons.setdefault(person, {})
        if frame in bodies:
            who = f" for person '{person}'" if person else ""
            raise ReadError(f"frame {int(frame)} stands there twice{who}", line)
        bodies[int(frame)] = [_number(cells[place], line) if place >= 0 else 1.0 for place in used]
    if not persons:
        raise ReadError("has no lines under its headings")
    if len(persons) > MAX_PERSONS:
        raise ReadError(f"has {len(persons)} persons; a clip has {MAX_PERSONS} at the most")
    frames, absent = np.array(sorted(set(chain(*persons.values())))), [np.nan] * len(used)
    rows = [[bodies.get(frame, absent) for frame in frames.tolist()] for bodies in persons.values()]
    values = np.array(rows).reshape(len(persons), len(frames), len(joints), -1)
    is_rated = any(columns[-1] >= 0 for columns in joints.values())
    rest = [head for head, place in places.items() if place not in {frame_at, person_at, *used} and head]
    notes = (f"columns not used: {', '.join(rest)}",) if rest else ()
    confidence = values[..., -1] if is_rated else None
    return RawClip(values[..., :-1], frames, confidence, names=tuple(joints), notes=notes)


def _columns(headings: Sequence[str]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """The place of each heading, and of each joint's columns: coordinates, then confidence, -1 without one."""
    places = {heading.strip().lower(): place for place, heading in enumerate(headings)}
    if len(places) < len(headings):
        raise ReadError("two columns have the same heading", 1)
    if "frame" not in places and "nose_visibility" not in places:
        raise ReadError("has no column 'frame'", 1)
    names = [heading.removesuffix("_x") for heading in places if heading.endswith("_x")]
    if not names:
        raise ReadError("has no joints, which are columns such as 'head_x', 'head_y', 'head_z'", 1)
    axes = "xyz" if any(f"{name}_z" in places for name in names) else "xy"
    joints = {}
    for name in names:
        if lacking := [axis for axis in axes if f"{name}_{axis}" not in places]:
            raise ReadError(f"has a column '{name}_x', but no column '{name}_{lacking[0]}'", 1)
        trusts = [places[f"{name}_{word}"] for word in _CONFIDENCES if f"{name}_{word}" in places]
        joints[name] = [*(places[f"{name}_{axis}"] for axis in axes), trusts[0] if trusts else -1]
    return places, joints


def _number(cell: str, line: int) -> float:
    try:
        return to_number(cell)
    except ValueError:
        raise ReadError(f"'{cell[:40]}' is no number", line) from None


def read_npz(file: Path, axes: str = "") -> RawClip:
    """The clip in an ``.npz`` file; raises ReadError if it isn't one."""
    try:
        with zipfile.ZipFile(file) as archive:
            held, found = {name.removesuffix(".npy"): name for name in archive.namelist()}, {}
            for field in held.keys() & FIELDS:
                with archive.open(held[field]) as member:
                    found[field] = npy_array(member, f"field '{field}': ")
    except ReadError:
        raise
    except Exception as error:  # nearly anything, if the file is damaged
        raise ReadError(f"is no .npz file, or a damaged one ({error})") from None
    if "joints" not in found:
        raise ReadError(f"has no array 'joints'; it has {', '.join(held) or 'none'}")
    return to_clip(found, axes)


def npy_header(handle: IO[bytes], where: str = "") -> tuple[tuple[int, ...], str, np.dtype[Any]]:
    """Shape, order ("C" or "F") and type of the array that NumPy has written; raises ReadError."""
    try:
        is_first = np.lib.format.read_magic(handle) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings(action="ignore"):  # about Python 2, which may have written it
            shape, is_fortran, dtype = read(handle)
        return shape, "F" if is_fortran else "C", dtype
    except OSError:
        raise
    except Exception:  # nearly anything, if the file is damaged
        raise ReadError(f"{where}is no array that NumPy has written, or a damaged one") from None


def npy_array(handle: IO[bytes], where: str = "") -> np.ndarray:
    """The array that NumPy has written; unlike ``np.load`` this reads no pickles and no more than the file holds."""
    shape, order, dtype = npy_header(handle, where)
    if dtype.kind not in "biuf":
        raise ReadError(f"{where}must be an array of numbers, is of type {dtype}")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > MAX_BYTES:
        raise ReadError(f"{where}an array of shape {shape} is no single clip")
    content = handle.read(size)
    if len(content) != size or handle.read(1):
        raise ReadError(f"{where}is cut short, or too long for its shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape, order=order)  # type: ignore[call-overload]
