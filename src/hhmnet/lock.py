"""One folder, one process at work in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no flock; there nothing is locked
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
_NO_LOCKS = (
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
)  # some network file systems; there nothing is locked


class LockedError(ValueError):
    """A folder in which another process is at work."""


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Hold the folder's lock file; the system lets go of it even if this process is killed.

    Args:
        folder: the folder; it must exist.
        work: what is done there, such as ``"training"``, for the message to whoever comes second.

    Raises:
        LockedError: another process holds it.
        OSError: the folder can't be written; it names the folder.
    """
    file = folder / LOCK_FILE
    while True:
        with _opened(file) as handle:
            if not _hold(handle, file, work):
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no open file
                    file.unlink()
            return


def _opened(file: Path) -> IO[bytes]:
    try:
        return open(file, "ab")
    except OSError as error:
        error.filename = str(file.parent)  # the user knows of no lock file
        raise


def _hold(handle: IO[bytes], file: Path, work: str) -> bool:
    """Lock ``handle``; False if ``file`` was removed after it was opened, since that lock would be on nothing."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except BlockingIOError:
        raise LockedError(f"{file.parent}: another {work} is at work in this folder") from None
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return True
        raise
