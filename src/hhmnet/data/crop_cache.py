"""The crops of clips, kept on disk: a video is decoded once, however many epochs look at it.

A clip's crops are one safetensors file, named by a digest of all that decides its content: the video, the sample's
positions, boxes and frames, the layout, the settings and a version. So nothing goes stale when a store is made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from hhmnet import files
from hhmnet.data.roi import ClipCrops, RoiConfig, cut_clip, empty_crops
from hhmnet.pose.networks import CACHE_VARIABLE, cache_folder
from hhmnet.prepare.workers import in_workers
from hhmnet.store import Store

VERSION = 1
"""Of what crops are; counted up when the same settings give other crops, so that older ones aren't taken for them."""

_KEY = "hhmnet"
_CHUNK = 8


class CacheError(ValueError):
    """A cache that can't be written."""


class DamagedError(ValueError):
    """A file that is cut short, or isn't one of ours."""


def write_crops(file: Path, crops: ClipCrops, problem: str = "") -> None:
    """Write crops, and what is wrong with their video, at once."""
    facts = json.dumps({"format": f"hhmnet crops {VERSION}", "problem": problem})
    with files.replacing(file) as handle:
        # As one entry, since the library writes several in any order: the same crops are the same bytes.
        handle.write(save(crops._asdict(), {_KEY: facts}))


def read_problem(file: Path) -> str:
    """What was wrong with the video of a file's crops, by its header; raises DamagedError, or OSError."""
    with _undamaged(file), safe_open(file, "numpy") as content:
        return str(json.loads(content.metadata()[_KEY])["problem"])


def read_crops(file: Path) -> tuple[ClipCrops, str]:
    """The crops in a file, and what was wrong with their video; raises as :func:`read_problem` does."""
    with _undamaged(file):
        return ClipCrops(**load(file.read_bytes())), read_problem(file)


@contextmanager
def _undamaged(file: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise DamagedError(f"{file}: not a file of crops ({error})") from None


class CropCache:
    """Crops of clips in a folder, made when they are first needed.

    Any number of processes may use a folder at once: files appear whole, and one that is damaged is made again. Where a
    clip has no video, its crops are empty, and so are those of a video that can't be read, which is a problem.

    Args:
        folder: where the crops are; ``crops`` in :func:`~hhmnet.pose.networks.cache_folder` if None.
        config: which crops.

    Attributes:
        problems: what is wrong with a clip's video, by the clip's name, as far as was seen.
    """

    def __init__(self, folder: Path | None = None, config: RoiConfig | None = None) -> None:
        self.folder = cache_folder() / "crops" if folder is None else Path(folder)
        self.config = config or RoiConfig()
        self.problems: dict[str, str] = {}
        self._located: dict[tuple[Path, int, Path | None], Path | None] = {}

    def get(self, store: Store, i: int, video_folder: Path | None) -> ClipCrops:
        """Crops of clip ``i`` of a store; their file is made if it isn't there. Raises CacheError if it can't be."""
        empty = empty_crops(self.config, int(store.lengths[i]))
        file = self.locate(store, i, video_folder)
        if file is None:
            return empty
        with suppress(DamagedError, OSError):
            crops, problem = read_crops(file)
            if all(one.shape == other.shape for one, other in zip(crops, empty, strict=True)):
                self._note(str(store.sample_ids[i]), problem)
                return crops
        return self._make(store, i, video_folder, file) or empty

    def build(
        self,
        store: Store,
        rows: Sequence[int] | np.ndarray,
        video_folder: Path | None,
        jobs: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, str]:
        """See to it that the crops of these clips are there; returns what is wrong with a clip's video, by its name.

        Args:
            store: opened store.
            rows: positions of the clips in it.
            video_folder: where its videos are.
            jobs: number of processes.
            progress: called with (clips done, clips in all), from time to time.

        Raises:
            CacheError: the crops can't be written, don't fit on the disk, or the folder of videos went away.
            WorkerLost: a process was killed.
        """
        with self._refusals():
            self.folder.mkdir(parents=True, exist_ok=True)
        for below in self.folder.glob("??/"):
            files.remove_leftovers(below)
        was_there = video_folder is not None and files.is_there(video_folder)
        missing = [row for row in map(int, rows) if self._is_missing(store, row, video_folder)]
        done = len(rows) - len(missing)
        progress(done, len(rows))
        self._check_space(len(missing))
        length = max(1, min(_CHUNK, len(missing) // (4 * jobs)))
        chunks = [missing[start : start + length] for start in range(0, len(missing), length)]
        for chunk, found in in_workers(partial(_build_chunk, self, store, video_folder), chunks, jobs):
            self.problems |= found
            progress(done := done + len(chunk), len(rows))
        names = map(str, store.sample_ids[np.asarray(rows, int)])
        problems = {name: self.problems[name] for name in names if name in self.problems}
        if was_there and problems and not files.is_there(video_folder):  # type: ignore[arg-type]
            raise CacheError(
                f"{video_folder} went away while crops were cut out of its videos; once it is back, the same call "
                "goes on"
            )
        return problems

    def _is_missing(self, store: Store, i: int, video_folder: Path | None) -> bool:
        """Whether a clip's crops are to be made; those of a video that couldn't be read are tried again."""
        self.problems.pop(str(store.sample_ids[i]), None)
        self._located.pop((store.path, i, video_folder), None)
        file = self.locate(store, i, video_folder)
        try:
            return file is not None and bool(read_problem(file))
        except (DamagedError, OSError):
            return True

    def locate(self, store: Store, i: int, video_folder: Path | None) -> Path | None:
        """The file of a clip's crops, there or not; None if the clip has no video, or it isn't there."""
        key = store.path, i, video_folder
        if key not in self._located:
            self._located[key] = self._file_of(store, i, video_folder)
        return self._located[key]

    def _file_of(self, store: Store, i: int, video_folder: Path | None) -> Path | None:
        sample = store.sample(i)
        if sample.video is None:
            return None
        if video_folder is None:
            self._note(sample.sample_id, f"no folder of videos is known that has its {sample.video}")
            return None
        try:
            content = self._content_digest(video_folder / sample.video)
        except OSError as error:
            self._note(sample.sample_id, f"{video_folder / sample.video}: {error.strerror or error}")
            return None
        # Earlier files have a setting more in their names.
        settings = json.dumps(asdict(self.config) | {"person_scale": "bones"}, sort_keys=True)
        digest = hashlib.sha256(f"{VERSION} {content} {settings}".encode())
        digest.update(json.dumps(store.layout.to_dict(), sort_keys=True).encode())
        for name in ("pixels", "boxes", "confidence", "present", "video_frames", "frame_index"):
            array = getattr(sample, name)
            digest.update(f"{name} {None if array is None else array.shape} ".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        key = digest.hexdigest()[:40]
        return self.folder / key[:2] / f"{key}.safetensors"

    def _content_digest(self, video: Path) -> str:
        """SHA-256 of a video's content, kept so that one that hasn't changed since isn't read through again.

        It is kept under a digest of the video's path, size and time of change. Raises OSError if it can't be read.
        """
        stat = video.stat()
        name = os.fsencode(video.resolve()) + f" {stat.st_size} {stat.st_mtime_ns}".encode()
        file = self.folder / "videos" / hashlib.sha256(name).hexdigest()[:40]
        with suppress(OSError, ValueError):
            kept = file.read_text("ascii")
            if len(kept) == 64:  # else a process was killed while it wrote
                return kept
        with open(video, "rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        with suppress(OSError):  # where nothing can be written, the video is read again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, "ascii")
        return content

    def _make(self, store: Store, i: int, video_folder: Path | None, file: Path) -> ClipCrops | None:
        """Cut the crops out of the video, and write them; None if the video is gone."""
        sample = store.sample(i)
        video = Path(video_folder or "", sample.video or "")
        if not video.is_file():
            self._note(sample.sample_id, f"{video}: there is no such file")
            return None
        crops, problem = cut_clip(sample, store.layout, video, self.config)
        problem = f"{sample.video}: {problem}" if problem else ""
        self._note(sample.sample_id, problem)
        with self._refusals():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_crops(file, crops, problem)
        return crops

    def _note(self, name: str, problem: str) -> None:
        if problem:
            self.problems[name] = problem

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What the system refuses, as a CacheError."""
        try:
            yield
        except OSError as error:
            room = "make room there, or " if error.errno == errno.ENOSPC else ""
            raise CacheError(
                f"crops can't be written to {self.folder}: {error.strerror or error}; {room}name another folder in "
                f"{CACHE_VARIABLE}"
            ) from None

    def _check_space(self, count: int) -> None:
        """Raise CacheError if the disk hasn't the space that the crops of so many clips take."""
        needed = count * sum(array.nbytes for array in empty_crops(self.config))
        free = shutil.disk_usage(self.folder).free
        if needed and needed >= free:
            raise CacheError(
                f"the crops of {count:,} clips take {needed / 1e9:,.1f} GB, and {self.folder} has {free / 1e9:,.1f} GB "
                f"left; name another folder in {CACHE_VARIABLE}, or choose fewer instants or smaller cells"
            )


def _build_chunk(cache: CropCache, store: Store, videos: Path | None, rows: Sequence[int]) -> dict[str, str]:
    """Make the crops of some clips, in a process of several; returns what is wrong with their videos."""
    torch.set_num_threads(1)  # the other cores have processes of their own
    for row in rows:
        # Another process may have made them meanwhile.
        if cache._is_missing(store, row, videos) and (file := cache.locate(store, row, videos)) is not None:
            cache._make(store, row, videos, file)
    return cache.problems
