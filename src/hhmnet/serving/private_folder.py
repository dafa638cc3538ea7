"""A folder of the server's own for uploads, and what servers that were killed have left of theirs."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hhmnet.lock import LOCK_FILE, LockedError, locked

try:
    import fcntl
except ImportError:  # Windows tells nobody whether a folder's server still runs, so there nothing is removed
    fcntl = None  # type: ignore[assignment]

PREFIX = "hhmnet-serve-"


@contextmanager
def private_folder() -> Iterator[Path]:
    """An empty folder that nobody but this user can read; it is gone when the block ends.

    It lies in a folder of the system's for temporary files, beside a lock that the system lets go of when the process
    ends, however it ends. Folders whose lock nobody holds are removed first.
    """
    remove_leftovers(Path(tempfile.gettempdir()))
    with ExitStack() as stack:
        folder = _locked_folder(stack)
        uploads = folder / "uploads"
        uploads.mkdir(mode=0o700)
        yield uploads


def _locked_folder(stack: ExitStack) -> Path:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # mode 700
        try:
            stack.enter_context(locked(folder, "server"))
        except (LockedError, FileNotFoundError):
            continue  # another server, which starts now, took it for a leftover before it was locked
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder


def remove_leftovers(place: Path) -> list[Path]:
    """Remove the folders of this user's servers that don't run any more; returns those.

    A folder counts as one if it has a server's name, is no link, belongs to this user, and holds a lock file, no link
    either, that can be locked. What can't be removed stays.

    Args:
        place: the folder in which servers make theirs.
    """
    removed: list[Path] = []
    if fcntl is None:
        return removed
    for folder in sorted(place.glob(f"{PREFIX}*")):
        with suppress(OSError):
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and _remove_if_dead(folder):
                removed.append(folder)
    return removed


def _remove_if_dead(folder: Path) -> bool:
    """Remove a folder unless its lock is held; raises OSError for one without a lock of ours, or a held one."""
    lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)  # removes links that lie in it, and follows none
    finally:
        os.close(lock)
    return True
