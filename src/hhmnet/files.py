"""Writing files so that nobody ever sees half of one, whatever happens meanwhile; one process at work in a folder."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from unicodedata import normalize

try:
    import fcntl
except ImportError:  # Windows has no flock; there no other process removes a file that is open
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of some network file systems
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = {
    **dict.fromkeys(_FULL, "make room there and give the same command again, or name another place"),
    errno.EROFS: "name a place that can be written",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "see to its permissions, or name another place"),
}


class LockedError(ValueError):
    """A folder in which another process is at work."""


def remedy(error: OSError) -> str:
    """What the user can do about what the system refuses, as the end of a line: ``"; make room ..."`` or nothing."""
    known = _REMEDIES.get(error.errno or 0)
    return f"; {known}" if known else ""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends well, and vanishes when it doesn't.

    It lies in the same folder until then, since only there is replacing atomic. What a killed process left of the
    same file is removed. A full disk's OSError names ``path`` too, which the system doesn't.
    """
    path = Path(path)
    remove_leftovers(path.parent, path.name)
    file = _created(path)
    temporary = Path(file.name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # before the lock goes, lest another process takes it for a leftover
                os.replace(temporary, path)
        if fcntl is None:
            os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            error.filename = str(path)
        raise


def write_json(path: Path, document: Any) -> None:
    """Write a document for programs and people; it appears whole, see :func:`replacing`."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder for results; it goes again if it is new and nothing comes into it."""
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if created:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def append(path: Path, text: bytes) -> None:
    """Add to the end of a file, all or nothing: a full disk leaves no half of it, and its OSError names ``path``."""
    with open(path, "ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            written = file.write(text)
            if written != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with suppress(OSError):
                file.truncate(end)
            error.filename = str(path)
            raise


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the temporary files that killed processes left in a folder: of the file of this name, or of all.

    A living process holds a lock on its own, so neither clocks nor ages matter. What can't be removed stays.
    """
    start = f".{name}." if name else "."
    with suppress(OSError):
        for one in os.listdir(folder) if fcntl is not None else ():
            if one.startswith(start) and one.endswith(".tmp"):
                with suppress(OSError), open(folder / one, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(folder / one)


def is_there(place: Path) -> bool:
    """Whether a file, or a folder with something in it, can be seen: a network drive that was lost is an empty one."""
    try:
        return any(place.iterdir()) if place.is_dir() else place.exists()
    except OSError:
        return False


def on_disk(path: Path) -> Path:
    """``path`` as the disk spells it, where the same letters stand there in another Unicode form (é as one or as two).

    A path that exists, or of which nothing alike does, is returned as it is.
    """
    if str(path).isascii() or path.exists():
        return path
    folder = on_disk(path.parent)
    wanted = normalize("NFC", path.name)
    with suppress(OSError):
        return next((place for place in folder.iterdir() if normalize("NFC", place.name) == wanted), path)
    return path


def _created(path: Path) -> IO[bytes]:
    """A new temporary file beside ``path``, locked where the file system can."""
    while True:
        file = open(path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp"), "xb")  # noqa: SIM115
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(file.name)):
                return file
        except FileNotFoundError:  # another process took it for a leftover before it was locked
            pass
        except OSError:  # no locks on this file system; then nobody can lock a leftover to remove it either
            return file
        file.close()


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Hold the lock file of a folder that exists; the system lets go of it even if this process is killed.

    Raises LockedError where another process holds it, which says what ``work`` is done there, such as ``"training"``;
    OSError, naming the folder, where it can't be written.
    """
    from filelock import FileLock, Timeout  # brings asyncio along, which light commands do without

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
