"""A request's upload: from its bytes to a file in a private folder, for as long as the request lasts.

Nothing that the client wrote decides what is opened: the file's name is ours, and its ending follows from its content.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from hhmnet.files import LOCK_FILE, LockedError, locked
from hhmnet.serving import MEGABYTE, Limits, Refused
from hhmnet.serving.schema import FILE_FIELD, TAKEN

PREFIX = "hhmnet-serve-"
HEAD = 4096
"""Bytes that tell what a file is."""

# Bytes at an offset → ending. Formats that can name other files or addresses (playlists, concatenations) are not
# here: FFmpeg would open what they name.
MAGIC = (
    (4, b"ftyp", ".mp4"),
    (4, b"moov", ".mov"),
    (4, b"wide", ".mov"),
    (4, b"mdat", ".mov"),
    (0, b"\x1a\x45\xdf\xa3", ".mkv"),
    (8, b"AVI ", ".avi"),
    (0, b"\x00\x00\x01\xba", ".mpg"),
    (0, b"GIF8", ".gif"),
    (0, b"FLV\x01", ".flv"),
    (0, b"OggS", ".ogv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ".wmv"),
    (0, b"PK\x03\x04", ".npz"),
    (0, b"\x93NUMPY", ".npy"),
)


class Upload(NamedTuple):
    """One received file, alone in a folder of its own; its name is the client's, fit to be shown and never opened;
    and the form's other fields."""

    path: Path
    name: str
    fields: dict[str, list[str]]

    def job(self, kind: str) -> dict[str, str]:
        """What a worker is told of it."""
        return {"kind": kind, "path": str(self.path), "name": self.name}


def ending(head: bytes) -> str | None:
    """The file name ending that goes with a file's first bytes; None if it is nothing that is taken."""
    for offset, magic, suffix in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return suffix
    try:
        # The last character may be cut, which is no fault here.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head).lstrip()
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        # A transport stream is packets of 188 bytes, cameras put four before each, that begin with the same one.
        return ".ts" if b"GGG" in (head[::188][:3], head[4::192][:3]) else None
    if text[0] in "{[":
        return ".json"
    line = text.splitlines()[0]
    if re.fullmatch(r"\d+\s*", line):
        return ".skeleton"
    return ".csv" if "," in line else None


def shown_name(name: str | None) -> str:
    """A client's file name without folders and control characters, and not too long; ``upload`` if nothing is left."""
    last = re.split(r"[/\\]", name or "")[-1]
    kept = "".join(character for character in last if character.isprintable())[:100].strip()
    return kept if kept.strip(".") else "upload"


@contextmanager
def private_folder() -> Iterator[Path]:
    """An empty folder that nobody but this user can read; it is gone when the block ends.

    It lies in the folder for temporary files, beside a lock that the system lets go of when the process ends, however
    it ends. Folders whose lock nobody holds are removed first.
    """
    remove_leftovers(Path(tempfile.gettempdir()))
    with ExitStack() as stack:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # mode 700
            with suppress(LockedError, FileNotFoundError):  # a server that starts now took it for a leftover
                stack.enter_context(locked(folder, "server"))
                break
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        uploads = folder / "uploads"
        uploads.mkdir(mode=0o700)
        yield uploads


def remove_leftovers(place: Path) -> list[Path]:
    """Remove the folders of this user's servers that don't run any more from the folder of temporary files.

    A folder counts as one if it has a server's name, is no link, belongs to this user, and holds a lock file, no link
    either, that can be locked. What can't be removed stays; what is removed is returned.
    """
    removed = []
    for folder in sorted(place.glob(f"{PREFIX}*")):
        with suppress(OSError, LockedError):
            found, lock = folder.lstat(), (folder / LOCK_FILE).lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_ISREG(lock.st_mode):
                with locked(folder, "server"):
                    shutil.rmtree(folder)  # removes links that lie in it, and follows none
                removed.append(folder)
    return removed


@asynccontextmanager
async def received(request: Request, folder: Path, limits: Limits) -> AsyncIterator[Upload]:
    """The one file of a request's form, in a folder below ``folder`` that is gone when the block ends. Raises
    Refused: the request is too large or too slow, no form, or its file is nothing that is taken; ClientDisconnect.
    """
    form = await _form(request, limits)
    try:
        file = form.get(FILE_FIELD)
        if not isinstance(file, UploadFile):
            others = [shown_name(name) for name, value in form.items() if isinstance(value, UploadFile)]
            wrong = "".join(f", but one in the field '{name}'" for name in others)
            what = "put a video or a skeleton file there"
            raise Refused(422, f"the form has no file in the field '{FILE_FIELD}'{wrong}; {what}")
        name, head = shown_name(file.filename), await file.read(HEAD)
        if not head:
            raise Refused(422, f"'{name}' is empty")
        suffix = ending(head)
        if suffix is None:
            raise Refused(415, f"'{name}' is nothing that this server takes: {TAKEN}")
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
            path = Path(place, f"upload{suffix}")
            copying = asyncio.ensure_future(asyncio.to_thread(_copy, file, path))
            try:
                await asyncio.shield(copying)
            except asyncio.CancelledError:
                await copying  # else the file could appear after its folder was removed
                raise
            texts = {key: [one for one in form.getlist(key) if isinstance(one, str)] for key in form}
            yield Upload(path, name, {key: found for key, found in texts.items() if found})
    finally:
        await form.close()


def _copy(source: UploadFile, path: Path) -> None:
    source.file.seek(0)
    with open(path, "xb") as target:
        shutil.copyfileobj(source.file, target, 1 << 20)


class _Parser(MultiPartParser):
    """Knows whether the form came to its end."""

    complete = False

    def on_end(self) -> None:
        self.complete = True


async def _form(request: Request, limits: Limits) -> FormData:
    """A request's form; raises as :func:`received`."""
    closing, most = {"Connection": "close"}, limits.upload_mb * MEGABYTE
    too_large = Refused(413, f"the upload is larger than {limits.upload_mb:g} MB", closing)

    async def limited() -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise too_large
            yield chunk

    kind, length = (request.headers.get(name, "") for name in ("content-type", "content-length"))
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refused(415, f"send a form (multipart/form-data) with the file in the field '{FILE_FIELD}'")
    if length.isdecimal() and int(length) > most:
        raise too_large
    parser = _Parser(request.headers, limited(), max_files=1, max_fields=8, max_part_size=4096)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"the form can't be read: {error.message}") from None
    except TimeoutError:
        detail = f"the upload took longer than {limits.upload_seconds:g} seconds"
        raise Refused(408, detail, closing) from None
    if not parser.complete:
        for unfinished in parser._files_to_close_on_error:
            unfinished.close()
        raise Refused(400, "the upload ends in the middle")
    return form
