"""The bytes of a pickle: read one after the other, or left in the file until they are wanted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from struct import Struct
from typing import Any


class UnpicklingError(ValueError):
    """A pickle that is damaged, or that wants something else than arrays and plain containers."""


class ByteText(str):
    """A short string of Python 2: text for whoever wants text, ``raw`` bytes for whoever wants those."""

    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> ByteText:
        """The string as text: UTF-8, or Latin-1 where it isn't that."""
        try:
            text = cls(raw.decode())
        except UnicodeDecodeError:
            text = cls(raw.decode("latin1"))
        text.raw = raw
        return text


@dataclass(frozen=True, slots=True)
class StoredText:
    """Text in a pickle, left where it is.

    Attributes:
        file: the pickle.
        start: where in the file the text begins.
        count: how many bytes of the file it takes.
        coding: how it is coded.
    """

    file: Path
    start: int
    count: int
    coding: str

    def load(self) -> str:
        """The text; raises UnpicklingError if it isn't any."""
        try:
            return _read(self.file, self.start, self.count).decode(self.coding, "surrogatepass")
        except UnicodeError:
            raise UnpicklingError(f"holds damaged text (byte {self.start})") from None


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """Bytes in a pickle, left where they are.

    Attributes:
        file: the pickle.
        start: where in the file they begin.
        count: how many bytes of the file they take.
        text: the text whose Latin-1 code they are, as protocols 0 to 2 have it; None if they stand there as they are.
    """

    file: Path
    start: int
    count: int
    text: StoredText | None = None

    def load(self) -> bytes:
        """The bytes; raises UnpicklingError if they aren't any."""
        if self.text is None:
            return _read(self.file, self.start, self.count)
        try:
            return self.text.load().encode("latin1")
        except UnicodeError:
            raise UnpicklingError(f"holds damaged bytes (byte {self.start})") from None


def _read(file: Path, start: int, count: int) -> bytes:
    # Opened anew each time: a handle's position would be shared with forked processes.
    with open(file, "rb") as handle:
        handle.seek(start)
        return handle.read(count)


class Tape:
    """A pickle from its begin to its end. Whatever lies beyond the end is an EOFError.

    Attributes:
        file: the pickle.
        handle: the same, opened.
        size: its number of bytes.
    """

    def __init__(self, file: Path, handle: BufferedReader) -> None:
        self.file = file
        self.handle = handle
        self.size = os.fstat(handle.fileno()).st_size

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        found = self.handle.read(min(count, self.size))
        if len(found) != count:
            raise EOFError
        return found

    def skip(self, count: int) -> int:
        """Place of the next ``count`` bytes, which are passed over."""
        start = self.handle.tell()
        if count > self.size - start:
            raise EOFError
        self.handle.seek(count, os.SEEK_CUR)
        return start

    def number(self, kind: Struct) -> Any:
        """The next number, of this kind."""
        return kind.unpack(self.take(kind.size))[0]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def line(self) -> bytes:
        """Everything up to the next line break, with which protocol 0 ends what it writes."""
        found = self.handle.readline()
        if not found.endswith(b"\n"):
            raise EOFError
        return found[:-1]
