"""Published data sets: a file a clip, named after who does what, perhaps with a video of the same name."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from hhmnet.readers import Reader, ReaderConfig, ReadError
from hhmnet.readers.pairing import NO_VIDEO, find_videos, video_fields
from hhmnet.sample import Sample


@dataclass
class RecordedConfig(ReaderConfig):
    """What can be chosen for such a data set."""

    videos: Path | None = None
    """Folder of the videos, which are named like the clips; without it, no clip has a video."""


class RecordedReader(Reader):
    """A reader of a data set whose files' names say who does what. A format gives its parser and these attributes."""

    config_class: ClassVar[type[ReaderConfig]] = RecordedConfig
    config: Any
    pattern: ClassVar[re.Pattern[str]]
    """A file's name without its ending, with a named group for what it tells of action, subject, camera and setup."""
    form: ClassVar[str]
    """How such a name looks, for messages."""
    known: Mapping[str, Collection[int]]
    """The numbers that there can be, by group."""
    tail: ClassVar[str] = ""
    """What a file's name has behind the clip's; ``video_tail`` is what a video's name has."""
    video_tail: ClassVar[str] = ""

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self._videos: dict[str, str] = {}
        self._left_over: list[str] = []
        if self.video_folder is not None:
            clips = [self._clip(item) for item in self.items()]
            self._videos, self._left_over = find_videos(self.video_folder, clips, self.video_tail)

    @property
    def video_folder(self) -> Path | None:
        """The folder of videos, if one is given."""
        return self.config.videos

    def describe(self) -> list[str]:
        """What was found: files and videos."""
        if self.video_folder is None:
            return super().describe()
        found = f"videos for {len(self._videos):,} of {len(self.items()):,} clips in {self.video_folder}"
        return [*super().describe(), f"{found}; {len(self._left_over):,} videos of no clip"]

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError, with the reason, if it can't be used."""
        told = self.told_by(PurePosixPath(item).stem)
        fields, clip = self.parse(self.source / item, told, notes), self._clip(item)
        if clip in self._videos and self.video_folder is not None:
            video, aligned = self._videos[clip], self.alignment(told)
            fields |= video_fields(self.video_folder, video, fields["joints"], notes, **aligned)
        elif self.config.videos is not None:
            notes[NO_VIDEO] += 1
        recorded = {name: str(told.get(name, "")) for name in ("subject", "camera", "setup")}
        return Sample(clip, self.label(told), **recorded, **fields)  # type: ignore[arg-type]

    def label(self, told: Mapping[str, int]) -> int:
        """The class index of a clip, by what its name says: the place of its action among those that are known."""
        return list(self.known["action"]).index(told["action"])

    @abstractmethod
    def parse(self, file: Path, told: Mapping[str, int], notes: Counter[str]) -> dict[str, Any]:
        """A sample's fields that a file gives: joints, who is there, frames; ``told`` is what its name says, by group.
        Raises ReadError if it can't be used.
        """

    def alignment(self, told: Mapping[str, int]) -> dict[str, Any]:
        """How a clip's video lies to its skeleton: keywords of :func:`~hhmnet.readers.pairing.video_fields`."""
        return {}

    def told_by(self, stem: str) -> dict[str, int]:
        """What a file's name says, by group; raises ReadError if it can't be in this data set."""
        named = self.pattern.fullmatch(stem)
        if named is None:
            raise ReadError(f"the file's name is not of the form {self.form}")
        told = {group: int(number) for group, number in named.groupdict().items()}
        for group, known in self.known.items():
            if (number := told[group]) not in known:
                numbers = f"1 to {len(known)}" if isinstance(known, range) else ", ".join(map(str, known))
                reason = f"{group} {number} in the file's name is not in {self.title} ({numbers})"
                raise ReadError(f"{reason}{self.remedy(group, number)}")
        return told

    def remedy(self, group: str, number: int) -> str:
        """What to do about a number that isn't known, for the message."""
        return ""

    def _clip(self, item: str) -> str:
        return PurePosixPath(item).stem.removesuffix(self.tail)
