"""Readers of raw data sets: files → Sample, one module a format."""

from __future__ import annotations

from pathlib import Path

from hhmnet.readers.base import (
    PrepareError,
    PrepareReport,
    Reader,
    ReadError,
    Rejected,
    SourceError,
    prepare,
)
from hhmnet.readers.nw_ucla import NWUCLA

__all__ = [
    "READERS",
    "PrepareError",
    "PrepareReport",
    "ReadError",
    "Reader",
    "Rejected",
    "SourceError",
    "get_reader",
    "prepare",
]

READERS: dict[str, type[Reader]] = {reader.name: reader for reader in (NWUCLA,)}


def get_reader(name: str, source: str | Path) -> Reader:
    """The reader ``name`` on the folder ``source``; raises SourceError with the known names."""
    if name not in READERS:
        raise SourceError(f"unknown reader '{name}'; known: {', '.join(READERS)}")
    return READERS[name](Path(source))
