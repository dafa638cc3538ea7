"""Readers of the clips that a user lists: what is said of them goes into their samples, and some are held out."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.files import on_disk
from hhmnet.readers import Reader, ReaderConfig, ReadError, files_below, printable
from hhmnet.readers.arrays import ArrayConfig, clip_fields, survey
from hhmnet.readers.clip_files import SUFFIXES, RawClip
from hhmnet.readers.formats import clips_among, is_clip, is_msr, read_clip
from hhmnet.readers.joints import motion
from hhmnet.readers.labels import DEFAULT_TABLE, LabelRow, folder_labels, hold_out, read_labels, split_doubts
from hhmnet.sample import UNKNOWN_LABEL, Sample

CUT_SHORT = "segment ends after its recording: it is cut there"
MORE_PERSONS = "persons beyond the table's column 'persons': left out"

_BY_FRAME = ("frame_index", "video_frames")


class ListedReader(Reader):
    """A reader of the files that a table of labels lists; its configuration has a field ``labels``.

    Without a table, the folders in the source are the classes, see :func:`folder_labels`. Files that aren't listed are
    left out. ``split`` is the part of each clip and ``rule`` says why: as the table says, or else by :func:`hold_out`.
    """

    protocol = "given"
    config: Any

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        beside = self.source / self.config.labels
        file = beside if beside.is_file() else self.config.labels
        if self.config.labels != DEFAULT_TABLE or file.is_file():
            self.labels = read_labels(file)
        else:
            self.labels = folder_labels(self.source, list(clips_among(super().items())))
        self.class_names = self.labels.class_names or ("unknown",)
        rows = self.labels.rows
        self.split, self.rule = hold_out({item: self.group(row) for item, row in rows.items()})
        if any(row.split for row in rows.values()):
            self.split = {item: row.split for item, row in rows.items()}
            self.rule = f"as {self.labels.file.name} says"

    def group(self, row: LabelRow) -> str:
        """What must be in one part together, such as the clips of a subject or recording; "" if that isn't known."""
        return row.subject or (row.path if row.is_segment else "")

    def items(self) -> list[str]:
        """The clips that the table lists, sorted."""
        return sorted(self.labels.rows)

    def place(self, item: str) -> str:
        """The path of a clip's file as the disk has it, relative to the source."""
        return on_disk(self.source / self.labels.rows[item].path).relative_to(self.source).as_posix()

    def file(self, item: str) -> Path:
        """The file of a clip; raises ReadError if there is none."""
        file = self.source / self.place(item)
        if not is_clip(file):
            line = self.labels.rows[item].line
            raise ReadError(f"there is no such file; {self.labels.file.name} names it in line {line}")
        return file

    def describe(self) -> list[str]:
        """What was understood: the table, which files are there, clips a class, what is tested, and what is odd."""
        rows, names = self.labels.rows, self.labels.class_names
        paths = sorted({self.place(item) for item in rows})
        there = [path for path in paths if is_clip(self.source / path)]
        listed = {*paths, PurePosixPath(self.config.labels).as_posix()}
        clips = clips_among(map(str, files_below(self.source)))
        others = [path for path, files in clips.items() if not {path, os.path.dirname(files[0])} & listed]
        passed = [path for path in others if not self._is_raw(PurePosixPath(path))]
        classes = Counter(row.label for row in rows.values())
        by_class = ", ".join(f"{name} {classes[label]:,}" for label, name in enumerate(names))
        by_part = _counted(" ".join(part or "(none)" for part in self.split.values()).split())
        lines = [
            *self.labels.describe(),
            f"files: {len(there):,} of {len(paths):,} listed are in {self.source} ({count_endings(there)}); "
            f"{len(others) - len(passed):,} others there are left out",
            f"clips a class: {by_class}",
            f"split: {self.rule}: {by_part}; protocol {self.protocol}",
        ]
        if passed:
            lines.append(f"passed over, as no {self.title}s by their endings: {count_endings(passed)}")
        if not there:
            first = self.source / paths[0]
            lines.append(f"none of the listed files is there; the first is looked for at {first}")
        if classes[UNKNOWN_LABEL]:
            lines.append(f"{classes[UNKNOWN_LABEL]:,} clips have no label")
        if self.protocol == "given":
            tested = {item for item, part in self.split.items() if "test" in part.split()}
            trained = [row.label for item, row in rows.items() if item not in tested]
            lines += split_doubts(names, trained, [rows[item].label for item in tested])
        return lines

    def sample(
        self, item: str, fields: Mapping[str, Any], notes: Counter[str], rate: float | None = None
    ) -> Sample:
        """A clip's sample: what its file says of the whole recording, cut as the table says, with what the table adds.
        ``rate`` are the frames a second, for segments in seconds; None if the file doesn't say. Raises ReadError where
        nobody is there in the segment, or it begins after its recording.
        """
        row = self.labels.rows[item]
        if row.is_segment:
            fields = _segment(fields, *self.frames(row, rate), notes)
        if 0 < row.persons < len(fields["present"]):
            notes[MORE_PERSONS] += len(fields["present"]) - row.persons
            fields = _kept(fields, np.arange(row.persons), slice(None))
        name = PurePosixPath(row.path).with_suffix("").as_posix() + item.removeprefix(row.path)
        recorded: dict[str, Any] = {"subject": row.subject, "camera": row.camera, "setup": row.setup}
        return Sample(printable(name), row.label, split=self.split[item], **recorded, **fields)

    def frames(self, row: LabelRow, rate: float | None) -> tuple[float, float]:
        """The first frame of a segment, and the first after it; raises ReadError where a rate is needed."""
        if not self.labels.in_seconds:
            return row.start, row.end
        if not rate:
            fault = "start and end are in seconds, and the file doesn't say how many frames it has a second"
            raise ReadError(f"{self.labels.file.name}, line {row.line}: {fault}; give field 'fps'")
        # The nearest frame: a container's own rate is a little off.
        return float(np.floor(row.start * rate + 0.5)), float(np.floor(row.end * rate + 0.5))


def _segment(fields: Mapping[str, Any], start: float, end: float, notes: Counter[str]) -> dict[str, Any]:
    """A sample's fields from the frame ``start`` up to, but without, ``end``; who moves most there comes first."""
    frames = fields["frame_index"]
    times = np.flatnonzero((frames >= start) & (frames < end))
    span = f"frames {start:g} to {end:g}"
    if not len(times):
        has = f"{frames[0]} to {frames[-1]}"
        raise ReadError(f"the segment has none of the recording's frames: {span}, and it has {has}")
    if math.inf > end > frames[-1] + 1:
        notes[CUT_SHORT] += 1
    persons = np.flatnonzero(fields["present"][:, times].any(1))
    if not len(persons):
        raise ReadError(f"nobody is there in the segment, {span}")
    motions = motion(fields["joints"][persons][:, times], fields["present"][persons][:, times])
    return _kept(fields, persons[np.argsort(-motions, kind="stable")], times)


def _kept(fields: Mapping[str, Any], persons: np.ndarray, times: np.ndarray | slice) -> dict[str, Any]:
    """A sample's fields of some persons at some times."""
    kept = dict(fields)
    for name, array in fields.items():
        if isinstance(array, np.ndarray):
            kept[name] = array[times] if name in _BY_FRAME else array[persons][:, times]
    return kept


def count_endings(names: Iterable[str]) -> str:
    """How many files have which ending, such as ``.txt 3, .mp4 12``; ``none`` of none."""
    return _counted(printable(PurePosixPath(name).suffix.lower() or "without") for name in names) or "none"


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {count:,}" for word, count in sorted(Counter(words).items()))


@dataclass
class FolderConfig(ArrayConfig):
    """What can be chosen for a folder of skeletons."""

    labels: Path = DEFAULT_TABLE
    """The table of the clips and their labels; a relative path is looked for in the source folder first."""
    fps: float = 0.0
    """Frames a second, for a table whose columns start and end are in seconds."""


class Folder(ListedReader):
    """Skeletons of your own, in files of a common format, a file a clip; docs/your_own_data.md has examples.

    A joint whose position is NaN (empty, null) is missing. A table says what the clips are, see its base class.
    """

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "skeleton"
    citation: ClassVar[str] = "Your own data."
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    config_class: ClassVar[type[ReaderConfig]] = FolderConfig
    config: FolderConfig

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self.form, self._found = survey(self.items(), self._raw, self.config, self.source)
        self.layout = self.form.layout

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen, with what was found."""
        return super().options | self.form.options

    def describe(self) -> list[str]:
        """What was understood: the table, the files, the skeleton, the classes, and what is tested."""
        return [*super().describe(), *self._found]

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError, with the reason, if it can't be used."""
        return self.sample(item, clip_fields(self._raw(item), self.form, notes), notes, self.config.fps)

    def _is_raw(self, path: PurePosixPath) -> bool:
        return super()._is_raw(path) or is_msr(path)

    def _raw(self, item: str) -> RawClip:
        return read_clip(self.file(item), self.config.axes)
