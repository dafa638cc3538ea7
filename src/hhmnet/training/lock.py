"""One run folder, one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock; there nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"


class LockedError(ValueError):
    """A folder in which another process is at work."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file; the system lets go of it even if this process is killed.

    Raises:
        LockedError: another process holds it.
    """
    with open(folder / LOCK_FILE, "ab") as handle:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(f"{folder}: another training is at work in this folder") from None
        yield
