"""A folder of your own skeletons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from hhmnet.readers import ReaderConfig
from hhmnet.readers.arrays import ArrayConfig, clip_fields, survey
from hhmnet.readers.clip_files import SUFFIXES, RawClip
from hhmnet.readers.formats import read_clip
from hhmnet.readers.kinect_text import is_kinect_text
from hhmnet.readers.labels import DEFAULT_TABLE
from hhmnet.readers.listed import ListedReader
from hhmnet.sample import Sample


@dataclass
class FolderConfig(ArrayConfig):
    """What can be chosen for a folder of skeletons."""

    labels: Path = DEFAULT_TABLE
    """The table of the clips and their labels; a relative path is looked for in the source folder first."""
    fps: float = 0.0
    """Frames a second, for a table whose columns start and end are in seconds."""


class Folder(ListedReader):
    """Skeletons of your own, in files of a common format.

    Format: a file a clip, ``.npz``, ``.npy``, ``.json`` or ``.csv``, and a table ``labels.csv`` with a line a clip;
    docs/your_own_data.md has examples. Files that the table doesn't name are left out. A joint whose position is NaN
    (empty, null) is missing.

    Splits: those of the table. If it has none, whole subjects or groups are tested, or, if it has none of those either,
    clips: see :func:`~hhmnet.readers.listed.hold_out`.

    Args:
        source: folder of the files.
        config: see :class:`FolderConfig`.

    Raises:
        SourceError: there is no such folder or table, or the skeleton must be named.
    """

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "skeleton"
    citation: ClassVar[str] = "Your own data."
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    config_class: ClassVar[type[ReaderConfig]] = FolderConfig
    config: FolderConfig

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self.form, self._found = survey(self.items(), self._raw, self.config, str(self.source))
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
        fields = clip_fields(self._raw(item), self.form, notes)
        return self.sample(item, fields, notes, self.config.fps)

    def _is_raw(self, path: PurePosixPath) -> bool:
        return super()._is_raw(path) or is_kinect_text(Path(path))

    def _raw(self, item: str) -> RawClip:
        return read_clip(self.file(item), self.config.axes)
