"""Published data sets, a file a clip, named after who does what; and their videos, frame by frame."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from unicodedata import normalize

import numpy as np

from hhmnet.conversion import Camera, project
from hhmnet.readers import Reader, ReaderConfig, ReadError, SourceError, files_below
from hhmnet.sample import Sample

VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".gif", ".3gp"),
    *(".3g2", ".ts", ".mts", ".m2ts", ".m2t", ".flv", ".f4v", ".ogv", ".ogg", ".ogm", ".asf"),
    *(".qt", ".mpe", ".m1v", ".m2v", ".vob", ".divx", ".mxf", ".dv", ".rm", ".rmvb", ".y4m"),
    *(".nut", ".wtv", ".mjpg", ".mjpeg", ".h264", ".264", ".hevc", ".h265"),
)
"""Endings, in lower case, of what every command takes for a video: whatever FFmpeg opens, but no playlists, which can
name other files, and no single pictures."""

UNREADABLE = "video left out: it can't be read"
IN_PART = "video read in part: what comes after its damage is left out"
NO_VIDEO = "clip without a video"
LISTED = (UNREADABLE, IN_PART, NO_VIDEO)
"""Notes of which ``rejected.csv`` has a line a clip; the first two go on with ``: `` and the damage."""
NO_PICTURE = "joint that isn't in front of the camera: pixels set to 0"
SHORTER = "video has fewer frames than its skeleton: the skeleton's last ones have no picture; not rescaled"
LONGER = "video has more frames than its skeleton: its last ones are unused; not rescaled"
STRETCHED = "video frames were paired by relative time"


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
    form: ClassVar[str]  # how such a name looks, for messages
    known: Mapping[str, Collection[int]]  # the numbers that there can be, by group
    tail: ClassVar[str] = ""  # what a file's name has behind the clip's
    video_tail: ClassVar[str] = ""  # what a video's name has

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self._videos, self._left_over = dict[str, str](), list[str]()
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
        """How a clip's video lies to its skeleton: keywords of :func:`video_fields`."""
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


def pair_frames(
    count: int, frames: int, delay: float = 0, *, stretch: bool = False
) -> tuple[np.ndarray, str | None]:
    """Which of a video's frames shows each of a skeleton's ``count``, the video so many of those late.

    One to one for what was recorded together: where the numbers differ, nobody knows which frame is missing. With
    ``stretch``, for unequal rates that begin and end together, the frame in which the middle of the skeleton's falls
    when both are laid over the same span. Returns ``(T,)`` int32, -1 beyond the video's end; and what to note, if
    anything.
    """
    if stretch:
        middles = (np.arange(count) + 0.5 + delay) * (frames / count)
        # A middle that falls between two frames belongs to the later one, whatever rounding did to it.
        return np.clip(np.floor(middles + 1e-9), 0, frames - 1).astype(np.int32), STRETCHED
    index = np.arange(count, dtype=np.int32) + int(delay)
    index[index >= frames] = -1
    return index, None if frames == count else SHORTER if frames < count else LONGER


def find_videos(folder: Path, clips: Iterable[str], tail: str = "") -> tuple[dict[str, str], list[str]]:
    """Clips' videos in a folder and those below it, each named as its clip, perhaps with ``tail`` behind: the path of
    each, relative to the folder, with forward slashes; and the videos that are left over. Raises SourceError where no
    such folder is there, or it can't be listed.
    """
    if not folder.is_dir():
        raise SourceError(f"field 'videos': no folder at {folder}; it should hold the videos")
    named = {normalize("NFC", name): name for name in clips}
    videos, left_over = dict[str, str](), list[str]()
    for path in sorted(path for path in files_below(folder) if path.suffix.lower() in VIDEO_SUFFIXES):
        clip = named.get(normalize("NFC", path.stem).removesuffix(tail))
        if clip is None or clip in videos:
            left_over.append(path.as_posix())
        else:
            videos[clip] = path.as_posix()
    return videos, left_over


def video_fields(
    folder: Path,
    video: str,
    joints: np.ndarray,
    notes: Counter[str],
    *,
    camera: Camera | None = None,
    delay: float = 0,
    stretch: bool = False,
) -> dict[str, Any]:
    """A sample's fields ``video``, ``video_frames`` and, if its camera is known, ``pixels``; none if it can't be read.

    ``video`` is relative to ``folder``, ``joints (M, T, V, 3)`` are metres in the coordinates of the ``camera``, whose
    picture was scaled to the video's size. Joints that are missing (zeros), or not in front of it, have pixels of zero.
    ``notes`` counts what doesn't fit; :func:`pair_frames` has the rest.
    """
    from hhmnet.video import VideoError, open_video  # PyAV is needed for videos alone

    try:
        with open_video(folder / video) as opened:
            if opened.damage is not None:
                notes[f"{IN_PART}: {opened.damage.reason}"] += 1
            count, size = len(opened), (opened.width, opened.height)
    except VideoError as error:
        notes[f"{UNREADABLE}: {error.reason}"] += 1
        return {}
    frames, note = pair_frames(joints.shape[1], count, delay, stretch=stretch)
    if note is not None:
        notes[note] += 1
    fields: dict[str, Any] = {"video": video, "video_frames": frames}
    if camera is not None:
        pixels = project(joints, camera.resized(*size))
        lost = ~np.isfinite(pixels).all(-1)
        if behind := int((lost & joints.any(-1)).sum()):
            notes[NO_PICTURE] += behind
        pixels[lost] = 0
        fields["pixels"] = pixels
    return fields
