"""NW-UCLA's depth videos: which belongs to a clip, which frame shows which instant, and where the joints are on it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.conversion import KINECT_V1_COLOR, Camera, project
from hhmnet.fields import one_of, within
from hhmnet.readers.base import ReaderConfig, SourceError
from hhmnet.readers.pairing import STRETCHED, by_time, find_videos, pair_frames

ALIGNED = "aligned"
DELAYS = {1: 1.0, 2: 3.5, 3: 1.0}
"""How many frames of the skeleton the depth videos of each view come late.

Measured in two ways that agree within a frame: by how well projected bodies cover the walking persons (124 clips of
action 4), and by the correlation of the joints' speed with the change between pictures (420 clips of other actions).
"""

_NO_PICTURE = "joint that isn't in front of the camera: pixels set to 0"
_UNREADABLE = "video left out: it can't be read"


@dataclass
class NWUCLAConfig(ReaderConfig):
    """What can be chosen when NW-UCLA is read: whether its depth videos go with it, and how."""

    videos: Path | None = None
    """Folder of depth videos named like the clips (a01_s01_e00_v01.avi); without it, no clip has a video."""
    pairing: Path | None = None
    """Table with the columns name and aligned; a clip whose aligned is 1 belongs to the part "aligned"."""
    alignment: str = "index"
    """How frames are paired: index (one to one), stretch (by relative time, as the depth videos have about one frame
    to two of the skeleton) or measured (stretch, and as late as the videos of each view were measured to be)."""
    focal: float = 560.0
    """Focal length of the camera in pixels at 640 x 480; 560 fits the depth videos best, 545 to 575 nearly as well."""

    def __post_init__(self) -> None:
        one_of(self, "alignment", ("index", "stretch", "measured"))
        within(self, 100, 10_000, "focal")


class DepthVideos:
    """The depth videos of a set of clips.

    Args:
        config: where they are, and how they are paired.
        clips: the clips' names.

    Raises:
        SourceError: the folder or the table is missing or can't be used.
    """

    def __init__(self, config: NWUCLAConfig, clips: Iterable[str]) -> None:
        self.config = config
        self._aligned = frozenset() if config.pairing is None else _read_aligned(config.pairing)
        self._found = None if config.videos is None else find_videos(config.videos, clips)

    def describe(self) -> list[str]:
        """What was found, and how frames are paired."""
        lines = []
        if self._found is not None:
            lines.append(f"{self._found}; alignment of their frames: {self.config.alignment}")
        if self.config.pairing is not None:
            lines.append(f"{len(self._aligned):,} clips are '{ALIGNED}' by {self.config.pairing}")
        return lines

    def fields(self, clip: str, view: int, joints: np.ndarray, notes: Counter[str]) -> dict[str, Any]:
        """A sample's fields ``split``, ``video``, ``video_frames`` and ``pixels``, as far as the clip has them.

        Args:
            clip: its name.
            view: the camera that saw it.
            joints: ``(T, V, 3)`` metres; zeros in frames without a body.
            notes: counts what doesn't fit.
        """
        fields: dict[str, Any] = {"split": ALIGNED} if clip in self._aligned else {}
        video = None if self._found is None else self._found.videos.get(clip)
        if video is None or self.config.videos is None:
            return fields
        from hhmnet.video import VideoError, open_video  # PyAV is needed for videos alone

        try:
            with open_video(self.config.videos / video) as opened:
                count, size = len(opened), (opened.width, opened.height)
        except VideoError:
            notes[_UNREADABLE] += 1
            return fields
        fields["video"] = video
        fields["video_frames"] = self._paired(len(joints), count, view, notes)
        fields["pixels"] = _pixels(joints, self.config.focal, size, notes)[None]
        return fields

    def _paired(self, frames: int, count: int, view: int, notes: Counter[str]) -> np.ndarray:
        if self.config.alignment == "index":
            index, note = pair_frames(frames, count)
        else:
            delay = DELAYS.get(view, 0.0) if self.config.alignment == "measured" else 0.0
            index, note = by_time(frames, count, delay), STRETCHED
        if note is not None:
            notes[note] += 1
        return index


def _pixels(joints: np.ndarray, focal: float, size: tuple[int, int], notes: Counter[str]) -> np.ndarray:
    """Where joints ``(T, V, 3)`` are on a video of this width and height, ``(T, V, 2)`` float32.

    The camera's picture of 640 x 480 was scaled to the video's size, across and down by unequal factors.
    """
    full = KINECT_V1_COLOR
    pixels = project(joints, Camera(focal, focal, full.cx, full.cy, full.size).resized(*size))
    lost = ~np.isfinite(pixels).all(-1)
    has_body = (joints != 0).any(axis=(1, 2))
    if missing := int(lost[has_body].sum()):
        notes[_NO_PICTURE] += missing
    pixels[lost] = 0
    return pixels


def _read_aligned(file: Path) -> frozenset[str]:
    """Names of the clips whose ``aligned`` is 1; raises SourceError, with the line, for a table that can't be used."""
    try:
        rows = csv.DictReader(io.StringIO(file.read_bytes().decode("utf-8-sig")))
        if not {"name", "aligned"} <= set(rows.fieldnames or ()):
            raise SourceError(f"{file}, line 1: must name the columns 'name' and 'aligned'")
        aligned = set()
        for row in rows:
            if row["aligned"] not in ("0", "1") or not row["name"]:
                raise SourceError(f"{file}, line {rows.line_num}: needs a name, and 0 or 1 for 'aligned'")
            if row["aligned"] == "1":
                aligned.add(row["name"])
    except OSError as error:
        raise SourceError(
            f"{file}: {error.strerror or error}; it should say which clips are aligned"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{file}: not a table of comma-separated values ({error})") from None
    return frozenset(aligned)
