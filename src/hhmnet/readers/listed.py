"""Readers of the clips that a user lists: what is said of them goes into their samples, and some are held out."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np

from hhmnet.readers import Reader, ReaderConfig, ReadError, SourceError, files_below
from hhmnet.readers.joints import motion
from hhmnet.readers.json_poses import clips_among, is_clip
from hhmnet.readers.labels import (
    DEFAULT_TABLE,
    LabelRow,
    Labels,
    folder_labels,
    printable,
    read_labels,
    split_doubts,
)
from hhmnet.sample import UNKNOWN_LABEL, Sample

CUT_SHORT = "segment ends after its recording: it is cut there"
MORE_PERSONS = "persons beyond the table's column 'persons': left out"

_EVERY_GROUP, _EVERY_CLIP = 4, 5
_BY_FRAME = ("frame_index", "video_frames")


class ListedReader(Reader):
    """A reader of the files that a table of labels lists; its configuration has a field ``labels``.

    Where there is no table, the folders in the source are the classes, see :func:`folder_labels`. Files that aren't
    listed are left out. Where no part is said, whole subjects or recordings are tested, or else clips:
    :func:`hold_out`.

    Attributes:
        labels: what is said of the clips.
        split: the part of each clip, as the table says or by :func:`hold_out`.
        rule: says which of the two.
    """

    protocol = "given"
    config: Any

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self.labels = self.find_labels()
        self.class_names = self.labels.class_names or ("unknown",)
        rows = self.labels.rows
        self._spelled = _spelled_on_disk(self.source, {row.path for row in rows.values()})
        if any(row.split for row in rows.values()):
            self.split = {item: row.split for item, row in rows.items()}
            self.rule = f"as {self.labels.file.name} says"
        else:
            self.split, self.rule = hold_out({item: self.group(row) for item, row in rows.items()})

    def find_labels(self) -> Labels:
        """What is said of the clips; raises SourceError if there is neither a table nor folders of classes."""
        beside = self.source / self.config.labels
        file = beside if beside.is_file() else self.config.labels
        if self.config.labels != DEFAULT_TABLE or file.is_file():
            return read_labels(file)
        found = folder_labels(self.source, list(clips_among(super().items())))
        if found is None:
            raise SourceError(
                f"{beside}: No such file or directory; it should list the clips and their labels. Without one, "
                f"{self.source} must hold a folder for each class"
            )
        return found

    def group(self, row: LabelRow) -> str:
        """What must be in one part together, such as the clips of a subject or recording; "" if that isn't known."""
        return row.subject or (row.path if row.is_segment else "")

    def items(self) -> list[str]:
        """The clips that the table lists, sorted."""
        return sorted(self.labels.rows)

    def place(self, item: str) -> str:
        """The path of a clip's file as the disk has it, relative to the source."""
        path = self.labels.rows[item].path
        return self._spelled.get(path, path)

    def file(self, item: str) -> Path:
        """The file of a clip; raises ReadError if there is none."""
        file = self.source / self.place(item)
        if not is_clip(file):
            line = self.labels.rows[item].line
            raise ReadError(f"there is no such file; {self.labels.file.name} names it in line {line}")
        return file

    def describe(self) -> list[str]:
        """What was understood: the table, which files are there, clips a class, what is tested, and what is odd."""
        rows = self.labels.rows
        paths = sorted({self.place(item) for item in rows})
        there = [path for path in paths if is_clip(self.source / path)]
        others = self._others(paths)
        raw = sum(map(self._is_raw, others))
        classes = Counter(row.label for row in rows.values())
        by_class = [f"{name} {classes[label]:,}" for label, name in enumerate(self.labels.class_names)]
        lines = [
            *self.labels.describe(),
            f"files: {len(there):,} of {len(paths):,} listed are in {self.source} ({count_endings(there)}); "
            f"{raw:,} others there are left out",
            f"clips a class: {', '.join(by_class)}",
            f"split: {self.rule}: {count_splits(self.split.values())}; protocol {self.protocol}",
        ]
        if passed := [path.name for path in others if not self._is_raw(path)]:
            lines.append(f"passed over, as no {self.title}s by their endings: {count_endings(passed)}")
        if not there:
            first = self.source / paths[0]
            lines.append(f"none of the listed files is there; the first is looked for at {first}")
        if classes[UNKNOWN_LABEL]:
            lines.append(f"{classes[UNKNOWN_LABEL]:,} clips have no label")
        if self.protocol == "given":
            tested = {item for item, part in self.split.items() if "test" in part.split()}
            trained = [row.label for item, row in rows.items() if item not in tested]
            lines += split_doubts(self.labels.class_names, trained, [rows[item].label for item in tested])
        return lines

    def _others(self, paths: Iterable[str]) -> list[PurePosixPath]:
        """The files, and OpenPose's recordings, in the source that aren't listed."""
        listed = {*paths, PurePosixPath(self.config.labels).as_posix()}
        clips = clips_among(path.as_posix() for path in files_below(self.source))
        return [
            PurePosixPath(path)
            for path, (file, *_) in clips.items()
            if path not in listed and str(PurePosixPath(file).parent) not in listed
        ]

    def sample(
        self, item: str, fields: Mapping[str, Any], notes: Counter[str], rate: float | None = None
    ) -> Sample:
        """A clip's sample: what its file says, cut as the table says, with what the table knows of it.

        Args:
            item: the clip.
            fields: the sample's fields that follow from the file; of the whole recording.
            notes: counts what is cut.
            rate: frames a second, for segments in seconds; None if the file doesn't say.

        Raises:
            ReadError: nobody is there in the segment, or it begins after its recording.
        """
        row = self.labels.rows[item]
        if row.is_segment:
            fields = _segment(fields, *self.frames(row, rate), notes)
        if 0 < row.persons < len(fields["present"]):
            notes[MORE_PERSONS] += len(fields["present"]) - row.persons
            fields = _kept(fields, np.arange(row.persons), slice(None))
        path = PurePosixPath(row.path)
        return Sample(
            sample_id=printable(path.with_suffix("").as_posix() + item.removeprefix(row.path)),
            label=row.label,
            subject=row.subject,
            camera=row.camera,
            setup=row.setup,
            split=self.split[item],
            **fields,
        )

    def frames(self, row: LabelRow, rate: float | None) -> tuple[float, float]:
        """The first frame of a segment, and the first after it; raises ReadError where a rate is needed."""
        if not self.labels.in_seconds:
            return row.start, row.end
        if not rate:
            raise ReadError(
                f"{self.labels.file.name}, line {row.line}: start and end are in seconds, and the file doesn't say how "
                "many frames it has a second; give field 'fps'"
            )
        # The nearest frame: a container's own rate is a little off.
        end = math.floor(row.end * rate + 0.5) if row.end < math.inf else math.inf
        return math.floor(row.start * rate + 0.5), end


def _segment(fields: Mapping[str, Any], start: float, end: float, notes: Counter[str]) -> dict[str, Any]:
    """A sample's fields from the frame ``start`` up to, but without, ``end``; who moves most there comes first.

    Raises:
        ReadError: nobody is there.
    """
    frames = fields["frame_index"]
    times = np.flatnonzero((frames >= start) & (frames < end))
    span = f"frames {start:g} to {end:g}"
    if not len(times):
        raise ReadError(
            f"the segment has none of the recording's frames: {span}, and it has {frames[0]} to {frames[-1]}"
        )
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


def _spelled_on_disk(source: Path, paths: Iterable[str]) -> dict[str, str]:
    """The names of files as the disk has them, where the same letters are written in another Unicode form there."""
    odd = [path for path in paths if not path.isascii() and not (source / path).exists()]
    if not odd:
        return {}
    files = {place.as_posix() for file in files_below(source) for place in (file, *file.parents)}
    there = {normalize("NFC", name): name for name in files}
    return {path: there[path] for path in odd if path in there}


def count_endings(names: Iterable[str]) -> str:
    """How many files have which ending, such as ``.txt 3, .mp4 12``; ``none`` of none."""
    return _counted(printable(PurePosixPath(name).suffix.lower() or "without") for name in names) or "none"


def count_splits(splits: Iterable[str]) -> str:
    """How many clips each part has, such as ``test 3, train 9``."""
    return _counted(part for split in splits for part in split.split() or ["(none)"])


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {count:,}" for word, count in sorted(Counter(words).items()))


def hold_out(groups: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Train and test clips, by whole groups where that can be.

    Of the groups, sorted as people do ("2" before "10"), every fourth is tested; of two or three, the last. Clips
    without a group train. Without two groups, about every fifth clip is tested, by a hash of its name, so that a clip
    stays where it is when others are added.

    Args:
        groups: the group of each clip, such as its subject; "" if it has none.

    Returns:
        ``train`` or ``test`` for each clip, and a sentence that says by which rule.
    """
    names = sorted(set(groups.values()) - {""}, key=_as_people_sort)
    if len(names) < 2:
        split = {clip: "test" if _hash(clip) % _EVERY_CLIP == 0 else "train" for clip in groups}
        return split, (
            "one clip in five is tested, by a hash of its path. Warning: the same persons may be in training and test, "
            "and results will look better than they are; a column 'subject' or 'split' avoids that"
        )
    tested = set(names[_EVERY_GROUP - 1 :: _EVERY_GROUP] or names[-1:])
    split = {clip: "test" if group in tested else "train" for clip, group in groups.items()}
    alone = sum(not group for group in groups.values())
    warning = f". Warning: {alone:,} clips have no subject or group; they train" if alone else ""
    shown = ", ".join(sorted(tested, key=_as_people_sort)[:8]) + (", …" if len(tested) > 8 else "")
    return split, f"tested are the groups {shown}, {len(tested)} of {len(names)}{warning}"


def _as_people_sort(name: str) -> list[tuple[int, int, str]]:
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:8], "big")
