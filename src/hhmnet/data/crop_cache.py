"""The crops of clips, kept on disk: a video is decoded once, however many epochs look at it."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np

from hhmnet.data.crop_building import BuildReport, CacheError, build_crops
from hhmnet.data.crop_files import (
    INDEX_FILE,
    SUFFIX,
    DamagedError,
    VideoIndex,
    fill_crops,
    map_crops,
    read_facts,
    remove_leftovers,
    write_crops,
)
from hhmnet.data.roi import ClipCrops, RoiConfig, crop_clip, empty_crops
from hhmnet.pose.assets import CACHE_VARIABLE, cache_folder
from hhmnet.store import Store
from hhmnet.video import VideoError, open_video

VERSION = 1
"""Of what crops are; counted up when the same settings give other crops, so that older ones aren't taken for them."""


Read = TypeVar("Read")


class VideoProblem(ValueError):
    """A clip whose video isn't there or can't be read; the message names both."""


def crops_folder() -> Path:
    """Where crops are kept by default: ``crops`` in :func:`~hhmnet.pose.assets.cache_folder`."""
    return cache_folder() / "crops"


class CropCache:
    """Crops of clips in a folder, one file a clip, made when they are first asked for.

    A file's name is a digest of all that decides its content: the video's content, the sample's positions, boxes and
    frames, the layout, the settings and a version. So nothing has to be thrown away when a store is made again, and two
    stores of the same clips share their crops. Any number of processes may use a folder at once: files appear whole,
    and one that is cut short or damaged is made again. What a killed process left half written is removed later.

    Where a clip has no video, its crops are empty, and so are those of a video that can't be read, which is a problem.

    Args:
        folder: where the crops are; :func:`crops_folder` if None.
        config: which crops.
        strict: raise VideoProblem at the first problem, instead of keeping it in ``problems``.

    Attributes:
        problems: what is wrong with a clip's video, by the clip's name, as far as was seen.
    """

    def __init__(
        self, folder: Path | None = None, config: RoiConfig | None = None, *, strict: bool = False
    ) -> None:
        self.folder = crops_folder() if folder is None else Path(folder)
        self.config = RoiConfig() if config is None else config
        self.strict = strict
        self.problems: dict[str, str] = {}
        self._videos = VideoIndex(self.folder / INDEX_FILE)
        self._places: dict[tuple[str, int, str], Path | None] = {}

    @property
    def clip_bytes(self) -> int:
        """About how many bytes the crops of one clip take on disk."""
        return sum(array.nbytes for array in empty_crops(self.config))

    def get(self, store: Store, i: int, video_folder: Path | None) -> ClipCrops:
        """Crops of clip ``i`` of a store: read-only arrays on the file, which is made if it isn't there.

        Raises:
            VideoProblem: the video isn't there or can't be read, and the cache is strict.
            CacheError: the crops can't be written.
        """
        found = self._read(store, i, video_folder, map_crops)
        return empty_crops(self.config, int(store.lengths[i])) if found is None else found

    def fill(self, store: Store, i: int, video_folder: Path | None, places: ClipCrops) -> None:
        """Read crops of clip ``i`` into contiguous arrays of the right shapes, as :meth:`get` gives them."""

        def read(file: Path) -> tuple[ClipCrops, dict[str, str]]:
            return places, fill_crops(file, places)

        if self._read(store, i, video_folder, read) is None:
            for place, array in zip(places, empty_crops(self.config, int(store.lengths[i])), strict=True):
                place[...] = array

    def build(
        self,
        store: Store,
        rows: Sequence[int] | np.ndarray,
        video_folder: Path | None,
        jobs: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> BuildReport:
        """See to it that the crops of these clips are there.

        Args:
            store: opened store.
            rows: positions of the clips in it.
            video_folder: where its videos are.
            jobs: number of processes; 1 stays in this one.
            progress: called with (clips done, clips in all), from time to time.

        Raises:
            VideoProblem: see :meth:`get`.
            CacheError: the crops can't be written, there is too little space for them, or the folder of videos went
                away meanwhile.
            WorkerLost: a process was killed.
        """
        self._make_folder()
        remove_leftovers(self.folder)
        report = build_crops(self, store, rows, video_folder, jobs, progress)
        self.problems |= report.problems
        for i, file in report.places.items():
            self._places[_place(store, i, video_folder)] = file
        return report

    def ensure(self, store: Store, i: int, video_folder: Path | None) -> BuildReport:
        """See to it that the crops of one clip are there, and say what was done.

        A video that couldn't be read is tried again: it may have been the disk's fault.
        """
        report = BuildReport(clips=1, places={i: None})
        sample_id = str(store.sample_ids[i])
        self.problems.pop(sample_id, None)
        self._places.pop(_place(store, i, video_folder), None)
        report.places[i] = file = self.locate(store, i, video_folder)
        if file is None:
            report.without_video = int(sample_id not in self.problems)
        else:
            try:
                is_good = not read_facts(file)["problem"]
            except (DamagedError, OSError, KeyError):
                is_good = False
            report.found = int(is_good)
            report.made = int(not is_good and self._make(store, i, video_folder, file))
            report.bytes = file.stat().st_size if report.found or report.made else 0
        report.problems = {name: text for name, text in self.problems.items() if name == sample_id}
        return report

    def locate(self, store: Store, i: int, video_folder: Path | None) -> Path | None:
        """The file of a clip's crops, there or not; None if the clip has no video, or it isn't there."""
        place = _place(store, i, video_folder)
        if place not in self._places:
            self._places[place] = self._locate(store, i, video_folder)
        return self._places[place]

    def _read(
        self,
        store: Store,
        i: int,
        video_folder: Path | None,
        read: Callable[[Path], tuple[Read, dict[str, str]]],
    ) -> Read | None:
        """What ``read`` makes of the clip's file, which is made if need be; None if there is no video to make it of."""
        file = self.locate(store, i, video_folder)
        if file is None:
            return None
        try:
            found, facts = read(file)
        except (DamagedError, OSError):
            if not self._make(store, i, video_folder, file):
                return None
            found, facts = read(file)
        self._note(str(store.sample_ids[i]), facts.get("problem", ""))
        return found

    def _locate(self, store: Store, i: int, video_folder: Path | None) -> Path | None:
        sample = store.sample(i)
        if sample.video is None:
            return None
        if video_folder is None:
            self._note(sample.sample_id, f"no folder of videos is known that has its {sample.video}")
            return None
        try:
            content = self._videos.digest(video_folder / sample.video)
        except OSError as error:
            self._note(sample.sample_id, f"{video_folder / sample.video}: {error.strerror or error}")
            return None
        digest = hashlib.sha256(f"{VERSION} {content} {self._settings()}".encode())
        digest.update(json.dumps(store.layout.to_dict(), sort_keys=True).encode())
        for name in ("pixels", "boxes", "confidence", "present", "video_frames", "frame_index"):
            array = getattr(sample, name)
            digest.update(f"{name} {None if array is None else array.shape} ".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        key = digest.hexdigest()[:40]
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def _settings(self) -> str:
        return json.dumps(asdict(self.config), sort_keys=True)

    def _make(self, store: Store, i: int, video_folder: Path | None, file: Path) -> bool:
        """Cut the crops out of the video, and write them; false if the video is gone."""
        sample = store.sample(i)
        assert sample.video is not None
        assert video_folder is not None
        problems: list[str] = []
        if not (video_folder / sample.video).is_file():
            self._note(sample.sample_id, f"{video_folder / sample.video}: there is no such file")
            return False
        try:
            with open_video(video_folder / sample.video) as video:
                crops = crop_clip(sample, store.layout, video, self.config, problems)
        except VideoError as error:
            crops = empty_crops(self.config, sample.num_frames)
            problems.append(error.reason)
        more = f" ({len(problems)} pictures in all)" if len(problems) > 1 else ""
        facts = {
            "format": f"hhmnet crops {VERSION}",
            "settings": self._settings(),
            "store": store.path.absolute().name,
            "sample": sample.sample_id,
            "problem": f"{sample.video}: {problems[0]}{more}" if problems else "",
        }
        self._note(sample.sample_id, facts["problem"])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_crops(file, crops, facts)
        except OSError as error:
            raise self._refused(error) from None
        return True

    def _note(self, name: str, problem: str) -> None:
        if problem and self.strict:
            raise VideoProblem(f"sample {name!r}: {problem}")
        if problem:
            self.problems[name] = problem

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> CacheError:
        room = "make room there, or " if error.errno == errno.ENOSPC else ""
        return CacheError(
            f"crops can't be written to {self.folder}: {error.strerror or error}; {room}name another folder in "
            f"{CACHE_VARIABLE}"
        )


def _place(store: Store, i: int, video_folder: Path | None) -> tuple[str, int, str]:
    return str(store.path.absolute()), i, str(video_folder)
