"""Text files of others: UTF-8, tables of comma-separated values, JSON; each fault with its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from hhmnet.readers import ReadError


def decode(content: bytes) -> str:
    """UTF-8 with a byte order mark or without; raises ReadError, with the line, for anything else."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ReadError(f"not UTF-8 text (byte {error.start})", line) from None


def table_lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table with commas, each with its number: first the headings, then those that hold anything.

    Raises:
        ReadError: it isn't such a table; with the line.
    """
    table = csv.reader(io.StringIO(decode(content), newline=""), strict=True)
    try:
        yield 1, next(table, [])
        for cells in table:
            if any(cell.strip() for cell in cells):
                yield table.line_num, cells
    except csv.Error as error:
        raise ReadError(f"not a CSV table ({error})", table.line_num) from None


def read_json(file: Path, *, nan: bool = False) -> Any:
    """What a JSON file holds; raises ReadError if it can't be read, or holds NaN or Infinity unless ``nan`` lets it."""
    try:
        text = decode(file.read_bytes())
    except OSError as error:
        raise ReadError(f"can't be read: {error.strerror or error}") from None
    try:
        return json.loads(text, parse_constant=None if nan else _refuse_constant)
    except json.JSONDecodeError as error:
        end = {"{": "}", "[": "]"}.get(text.strip()[:1], "")
        whole = text[error.pos :].strip() and text.rstrip().endswith(end)
        reason = "not valid JSON" if whole else "cut short"
        raise ReadError(f"{reason}: {error.msg} (column {error.colno})", error.lineno) from None
    except RecursionError:
        raise ReadError("not valid JSON: nested too deeply") from None
    except ReadError:
        raise
    except ValueError as error:
        raise ReadError(f"not valid JSON: {error}") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ReadError(f"holds {constant}, which is no number")
