"""Which video has which content, remembered from one run to the next."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path


class VideoIndex:
    """The SHA-256 of videos' contents, so that one that hasn't changed since isn't read through again.

    It is a text file of one JSON object a line, which any number of processes add to at once. A video is known by a
    digest of its path, its size and the time of its last change.

    Args:
        file: where it is; it need not exist.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._known: dict[tuple[str, int, int], str] = {}
        self._read = 0

    def digest(self, video: Path) -> str:
        """SHA-256 of a video's content; raises OSError if it can't be read."""
        stat = video.stat()
        name = hashlib.sha256(os.fsencode(video.resolve())).hexdigest()[:24]
        key = (name, stat.st_size, stat.st_mtime_ns)
        if key not in self._known:
            with suppress(OSError):
                self._take_in_what_was_added()
        if key not in self._known:
            with open(video, "rb") as handle:
                self._known[key] = hashlib.file_digest(handle, "sha256").hexdigest()
            self._add(key)
        return self._known[key]

    def _take_in_what_was_added(self) -> None:
        with open(self.file, "rb") as handle:
            handle.seek(self._read)
            text = handle.read()
        self._read += len(text)
        for line in text.splitlines():
            with suppress(ValueError, KeyError, TypeError):  # what a killed process left half written
                entry = json.loads(line)
                self._known[entry["video"], entry["bytes"], entry["changed"]] = entry["sha256"]

    def _add(self, key: tuple[str, int, int]) -> None:
        entry = {"video": key[0], "bytes": key[1], "changed": key[2], "sha256": self._known[key]}
        # One write of a short line at the end isn't mixed up with others'. It begins with a line break, in case a
        # killed process left half a line. Where nothing can be written, the video is just read again next time.
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "ab", buffering=0) as handle:
                handle.write(f"\n{json.dumps(entry)}\n".encode())
