"""One folder, one process at work in it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"
# Some network file systems know no locks; there nothing is locked.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


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
    lock = FileLock(file, blocking=False, fallback_to_soft=False)
    try:
        file.touch()  # fails where the folder is gone; filelock would make it anew
        lock.acquire()
    except Timeout:
        raise LockedError(f"{folder}: another {work} is at work in this folder") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            error.filename = str(folder)  # the user knows of no lock file
            raise
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            file.unlink()
        lock.release()
