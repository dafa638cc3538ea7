"""Crops made ahead, in several processes."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hhmnet.files import is_there
from hhmnet.pose.assets import CACHE_VARIABLE
from hhmnet.prepare.workers import in_workers
from hhmnet.store import Store

if TYPE_CHECKING:
    from hhmnet.data.crop_cache import CropCache

_CHUNK = 8


class CacheError(ValueError):
    """A cache that can't be written; the message names its folder and what to do."""


@dataclass
class BuildReport:
    """What came of building crops ahead.

    Attributes:
        clips: number of clips.
        made: for how many the crops were made now.
        found: for how many they were there already.
        without_video: how many have no video.
        bytes: of all their files.
        problems: what is wrong with a clip's video, by the clip's name.
        places: the file of a clip's crops, by the clip's position in the store; None where it has no video.
    """

    clips: int = 0
    made: int = 0
    found: int = 0
    without_video: int = 0
    bytes: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    places: dict[int, Path | None] = field(default_factory=dict, repr=False, compare=False)

    def add(self, other: BuildReport) -> None:
        """Take in what another process did."""
        for name in ("clips", "made", "found", "without_video", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems |= other.problems
        self.places |= other.places


def build_crops(
    cache: CropCache,
    store: Store,
    rows: Sequence[int] | np.ndarray,
    video_folder: Path | None,
    jobs: int,
    progress: Callable[[int, int], None],
) -> BuildReport:
    """:meth:`hhmnet.data.crop_cache.CropCache.build`, which says what the arguments mean and what is raised."""
    rows = [int(row) for row in rows]
    was_there = video_folder is not None and is_there(video_folder)
    _check_space(cache, store, rows, video_folder)
    done = 0
    progress(done, len(rows))

    def count(items: int) -> None:
        nonlocal done
        done += items
        progress(done, len(rows))

    length = max(1, min(_CHUNK, len(rows) // (4 * jobs)))
    chunks = [rows[start : start + length] for start in range(0, len(rows), length)]
    work = _Builder(cache, store, video_folder)
    if jobs == 1 or len(chunks) < 2:
        reports = [work(chunk, lambda: count(1)) for chunk in chunks]
    else:
        reports = in_workers(work, chunks, min(jobs, len(chunks)), count)
    report = BuildReport()
    for part in reports:
        report.add(part)
    if was_there and report.problems and video_folder is not None and not is_there(video_folder):
        raise CacheError(
            f"{video_folder} went away while crops were cut out of its videos; once it is back, the same call goes on"
        )
    return report


@dataclass(frozen=True)
class _Builder:
    """Makes the crops of some clips, in whichever process."""

    cache: CropCache
    store: Store
    video_folder: Path | None

    def __call__(self, rows: Sequence[int], on_item: Callable[[], None]) -> BuildReport:
        if multiprocessing.parent_process() is not None:
            torch.set_num_threads(1)  # the other cores have processes of their own
        report = BuildReport()
        for row in rows:
            report.add(self.cache.ensure(self.store, row, self.video_folder))
            on_item()
        return report


def _check_space(cache: CropCache, store: Store, rows: Sequence[int], video_folder: Path | None) -> None:
    """Raise CacheError if the disk hasn't the space that the missing crops take."""
    free = shutil.disk_usage(cache.folder).free
    if len(rows) * cache.clip_bytes < free:
        return
    files = [cache.locate(store, row, video_folder) for row in rows]
    missing = sum(file is not None and not file.exists() for file in files)
    if missing * cache.clip_bytes >= free:
        raise CacheError(
            f"the crops of {missing:,} clips take {missing * cache.clip_bytes / 1e9:,.1f} GB, and {cache.folder} has "
            f"{free / 1e9:,.1f} GB left; name another folder in {CACHE_VARIABLE}, or choose fewer instants or "
            "smaller cells"
        )
