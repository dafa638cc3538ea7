"""Small disks that can be filled, and folders that can't be written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PAGE = 4096


def _mount(*words: str | Path) -> None:
    try:
        subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting isn't permitted here")


class Disk:
    """A disk in memory.

    Args:
        folder: where it is mounted; it is made.
        size: in bytes.
    """

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
        self.folder, self._filler = folder, folder / "filler"

    @property
    def free(self) -> int:
        """Bytes that are left."""
        facts = os.statvfs(self.folder)
        return facts.f_bavail * facts.f_frsize

    def fill(self, leave: int) -> None:
        """Fill it up but for some bytes."""
        with open(self._filler, "wb") as file:
            file.write(bytes(self.free - leave // PAGE * PAGE))
        assert leave - PAGE < self.free <= leave

    def make_room(self) -> None:
        """Remove what fills it."""
        self._filler.unlink()

    def seal(self, sealed: bool = True) -> None:
        """Let nobody write, or again."""
        _mount("-o", f"remount,{'ro' if sealed else 'rw'}", self.folder)

    def remove(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)
