"""A clip of skeletons as a table: one line a frame and person, three columns a joint."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hhmnet.readers.base import ReadError

MAX_PERSONS = 100

_AXES = ("x", "y", "z")
_TRUST = "confidence"


class Table(NamedTuple):
    """What the table says.

    Attributes:
        names: the joints, in the order of their first columns.
        joints: ``(M, T, V, C)`` float64; NaN for what isn't there.
        frame_index: ``(T,)`` int64.
        confidence: ``(M, T, V)`` float64, 1 for joints without such a column; None if none has one.
    """

    names: tuple[str, ...]
    joints: np.ndarray
    frame_index: np.ndarray
    confidence: np.ndarray | None


class _Columns(NamedTuple):
    """Where things stand in a line; -1 for what isn't there."""

    frame: int
    person: int
    names: tuple[str, ...]
    joints: list[list[int]]
    trust: list[int]


def read_csv(content: bytes) -> Table:
    """Read a table with the headings ``frame``, perhaps ``person``, and for each joint ``NAME_x``, ``NAME_y``,
    ``NAME_z`` (not in 2-D) and perhaps ``NAME_confidence``. Other columns are left alone.

    An empty cell, or ``nan``, is a coordinate that isn't known. Persons are in the order in which they first come.

    Raises:
        ReadError: it isn't such a table; with the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ReadError("not UTF-8 text", line) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    bodies: dict[tuple[str, int], tuple[list[float], list[float]]] = {}
    try:
        columns = _columns(next(reader, []))
        for cells in reader:
            if any(cell.strip() for cell in cells):
                _add(bodies, columns, cells, reader.line_num)
    except csv.Error as error:
        raise ReadError(f"not a CSV table: {error}", reader.line_num) from None
    if not bodies:
        raise ReadError("has no lines under its headings")
    return _table(bodies, columns)


def _columns(headings: Sequence[str]) -> _Columns:
    places = {heading.strip().lower(): place for place, heading in enumerate(headings)}
    if len(places) < len(headings):
        raise ReadError("two columns have the same heading", 1)
    if "frame" not in places:
        raise ReadError("has no column 'frame'", 1)
    names = tuple(heading.removesuffix("_x") for heading in places if heading.endswith("_x"))
    dims = 3 if any(f"{name}_z" in places for name in names) else 2
    for name in names:
        for axis in _AXES[:dims]:
            if f"{name}_{axis}" not in places:
                raise ReadError(f"has a column '{name}_x', but no column '{name}_{axis}'", 1)
    if not names:
        raise ReadError("has no joints, which are columns such as 'head_x', 'head_y', 'head_z'", 1)
    return _Columns(
        places["frame"],
        places.get("person", -1),
        names,
        [[places[f"{name}_{axis}"] for axis in _AXES[:dims]] for name in names],
        [places.get(f"{name}_{_TRUST}", -1) for name in names],
    )


def _add(
    bodies: dict[tuple[str, int], tuple[list[float], list[float]]],
    columns: _Columns,
    cells: Sequence[str],
    line: int,
) -> None:
    """Put one line into ``bodies``, by person and frame."""
    used = [
        columns.frame,
        columns.person,
        *columns.trust,
        *(place for joint in columns.joints for place in joint),
    ]
    if len(cells) <= max(used):
        raise ReadError(f"has only {len(cells)} columns", line)
    frame = _number(cells[columns.frame], line)
    if not 0 <= frame <= np.iinfo(np.int32).max or frame != int(frame):
        raise ReadError("column 'frame' must be a whole number from 0", line)
    person = cells[columns.person].strip() if columns.person >= 0 else ""
    if (person, int(frame)) in bodies:
        raise ReadError(
            f"frame {int(frame)} stands there twice" + (f" for person '{person}'" if person else ""), line
        )
    bodies[person, int(frame)] = (
        [_number(cells[place], line) for joint in columns.joints for place in joint],
        [_number(cells[place], line) if place >= 0 else 1.0 for place in columns.trust],
    )


def _number(cell: str, line: int) -> float:
    try:
        return float(cell.strip() or "nan")
    except ValueError:
        raise ReadError(f"'{cell[:40]}' is no number", line) from None


def _table(bodies: dict[tuple[str, int], tuple[list[float], list[float]]], columns: _Columns) -> Table:
    persons = list(dict.fromkeys(person for person, _ in bodies))
    frames = sorted({frame for _, frame in bodies})
    places = {frame: place for place, frame in enumerate(frames)}
    count, dims = len(columns.names), len(columns.joints[0])
    if len(persons) > MAX_PERSONS:
        raise ReadError(f"has {len(persons)} persons; a clip has {MAX_PERSONS} at the most")
    joints = np.full((len(persons), len(frames), count, dims), np.nan)
    trust = np.full(joints.shape[:3], np.nan)
    for (person, frame), (position, confidence) in bodies.items():
        place = persons.index(person), places[frame]
        joints[place] = np.reshape(position, (count, dims))
        trust[place] = confidence
    known = any(place >= 0 for place in columns.trust)
    return Table(columns.names, joints, np.array(frames), trust if known else None)
