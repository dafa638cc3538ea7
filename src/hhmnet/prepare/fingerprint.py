"""Digests by which a later call knows whether what an earlier one left is still good."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from hhmnet.arrow import VERSION
from hhmnet.readers import Reader


def fingerprint_work(reader: Reader, items: Sequence[str], chunk: int) -> str:
    """A digest of all that decides what reading these items gives, but for the content of their files.

    That is the reader with its code, its choices and what it has read at construction, the source, the items
    and how they are cut into chunks, and the versions of hhmnet and the store.
    """
    digest = hashlib.sha256()
    for thing in (
        (package_version(), VERSION, chunk, reader.source.resolve(), list(items)),
        type(reader).__qualname__,
        [_code(kind) for kind in type(reader).__mro__ if issubclass(kind, Reader) and kind is not Reader],
        reader.__getstate__(),
    ):
        _feed(digest, thing)
    return digest.hexdigest()[:24]


def fingerprint_files(source: Path, items: Sequence[str]) -> str:
    """A digest of the items' file sizes and times of change: equal if no file was touched in between."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{_size_and_time(source, item)};".encode())
    return digest.hexdigest()[:24]


def package_version() -> str:
    """The version of hhmnet."""
    try:
        return metadata.version("hhmnet")
    except metadata.PackageNotFoundError:
        return "unknown"


def _size_and_time(source: Path, item: str) -> tuple[int, int]:
    # One of many clips in a file is named file#clip, but a file's own name may hold a # too.
    for name in (item, item.rpartition("#")[0]):
        try:
            facts = (source / name).stat()
        except (OSError, ValueError):
            continue
        return facts.st_size, facts.st_mtime_ns
    return 0, 0


def _code(kind: type) -> str:
    """The text of the module a class is written in and of those beside it; "" where there is none."""
    try:
        file = Path(inspect.getsourcefile(kind) or "")
        return "".join(path.read_text(encoding="utf-8") for path in sorted(file.parent.glob("*.py")))
    except (OSError, TypeError, ValueError):
        return ""


def _feed(digest: Any, value: Any) -> None:
    """Put a value into a digest, so that equal values give equal digests in every process."""
    if isinstance(value, (list, tuple, set, frozenset)):
        # The order of a set of texts changes from process to process.
        inner = list(value) if isinstance(value, (list, tuple)) else sorted(value, key=repr)
    elif isinstance(value, dict):
        inner = [part for pair in value.items() for part in pair]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, np.ndarray) and value.dtype != np.object_:
        inner = [value.dtype.str, value.shape, value.tobytes()]
    else:
        known = isinstance(value, (str, bytes, bool, int, float, PurePath, np.generic, type(None)))
        # Any other object's repr may hold its address, which is another one in every process.
        text = repr(value) if known else ""
        digest.update(f"{type(value).__qualname__}:{text};".encode(errors="surrogatepass"))
        return
    digest.update(f"{type(value).__qualname__}({len(inner)}:".encode())
    for part in inner:
        _feed(digest, part)
