"""Which video belongs to a sample, and which of its frames shows the same instant as a frame of the skeleton."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np

from hhmnet.readers import SourceError, files_below

VIDEO_SUFFIXES = (
    *(
        ".mp4",
        ".avi",
        ".mov",
        ".mkv",
        ".webm",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".gif",
        ".3gp",
        ".3g2",
        ".ts",
        ".mts",
    ),
    *(
        ".m2ts",
        ".m2t",
        ".flv",
        ".f4v",
        ".ogv",
        ".ogg",
        ".ogm",
        ".asf",
        ".qt",
        ".mpe",
        ".m1v",
        ".m2v",
        ".vob",
        ".divx",
    ),
    *(
        ".mxf",
        ".dv",
        ".rm",
        ".rmvb",
        ".y4m",
        ".nut",
        ".wtv",
        ".mjpg",
        ".mjpeg",
        ".h264",
        ".264",
        ".hevc",
        ".h265",
    ),
)
"""Endings, in lower case, of what every command takes for a video: whatever FFmpeg opens, but no playlists, which can
name other files, and no single pictures."""

UNREADABLE = "video left out: it can't be read"
SHORTER = "video has fewer frames than its skeleton: the skeleton's last ones have no picture; not rescaled"
LONGER = "video has more frames than its skeleton: its last ones are unused; not rescaled"
STRETCHED = "video frames were paired by relative time"


class Look(NamedTuple):
    """How many frames a video has, and the width and height of its picture."""

    frames: int
    size: tuple[int, int]


def look_at(file: Path, notes: Counter[str]) -> Look | None:
    """Frames and size of the video in a file; None, with a note, if it can't be read."""
    from hhmnet.video import VideoError, open_video  # PyAV is needed for videos alone

    try:
        with open_video(file) as video:
            return Look(len(video), (video.width, video.height))
    except VideoError:
        notes[UNREADABLE] += 1
        return None


def pair_frames(skeleton_frames: int, video_frames: int) -> tuple[np.ndarray, str | None]:
    """Pair frame with frame, for skeletons and videos that were recorded together.

    Nothing is rescaled: where the numbers differ, nobody knows which frame is missing.

    Args:
        skeleton_frames: number of frames of the skeleton, T.
        video_frames: number of frames of the video.

    Returns:
        The video's frame for every frame of the skeleton, ``(T,)`` int32, -1 beyond the video's end; and what
        to note about it, None if both are equally long.
    """
    index = np.arange(skeleton_frames, dtype=np.int32)
    index[video_frames:] = -1
    if skeleton_frames == video_frames:
        return index, None
    return index, SHORTER if video_frames < skeleton_frames else LONGER


def by_time(skeleton_frames: int, video_frames: int, delay: float = 0.0) -> np.ndarray:
    """Pair frames by relative time, for skeletons and videos of unequal rates that begin and end together.

    Each frame lasts from its index to the next; the skeleton's frame t is paired with the video's frame in which the
    middle of t falls, when both are laid over the same span.

    Args:
        skeleton_frames: number of frames of the skeleton, T.
        video_frames: number of frames of the video.
        delay: how many frames of the skeleton the video comes late.

    Returns:
        The video's frame for every frame of the skeleton, ``(T,)`` int32.

    Raises:
        ValueError: the video has no frames.
    """
    if video_frames < 1:
        raise ValueError("a video without frames can't be paired")
    middles = (np.arange(skeleton_frames) + 0.5 + delay) * (video_frames / skeleton_frames)
    # A middle that falls between two frames belongs to the later one, whatever rounding did to it.
    return np.clip(np.floor(middles + 1e-9), 0, video_frames - 1).astype(np.int32)


class VideoFolder(NamedTuple):
    """Videos found for samples.

    Attributes:
        videos: path of the video of each sample id, relative to the folder, with forward slashes.
        without_video: ids of the samples that have none, sorted.
        left_over: videos of no sample, and further videos of one that has its own, sorted.
    """

    videos: dict[str, str]
    without_video: list[str]
    left_over: list[str]

    def __str__(self) -> str:
        count = len(self.videos) + len(self.without_video)
        return f"videos for {len(self.videos):,} of {count:,} samples; {len(self.left_over):,} videos of no sample"


def find_videos(folder: Path, sample_ids: Iterable[str], pattern: str = "{id}") -> VideoFolder:
    """Find samples' videos by their names, in a folder and those below it; hidden ones are left out.

    Args:
        folder: where to look.
        sample_ids: the samples.
        pattern: the videos' name without its ending, with ``{id}`` for the sample's id: ``{id}_rgb``.

    Raises:
        SourceError: there is no such folder, it can't be listed, or the pattern has no ``{id}``.
    """
    if pattern.count("{id}") != 1:
        raise SourceError(f"a pattern of videos' names must hold {{id}} once, got '{pattern}'")
    before, after = (re.escape(normalize("NFC", part)) for part in pattern.split("{id}"))
    form = re.compile(f"{before}(.+){after}")
    ids = {normalize("NFC", name): name for name in sample_ids}
    videos: dict[str, str] = {}
    left_over = []
    if not folder.is_dir():
        raise SourceError(f"no folder at {folder}; it should hold the videos")
    for path in sorted(path for path in files_below(folder) if path.suffix.lower() in VIDEO_SUFFIXES):
        named = form.fullmatch(normalize("NFC", path.stem))
        sample_id = None if named is None else ids.get(named[1])
        if sample_id is not None and sample_id not in videos:
            videos[sample_id] = path.as_posix()
        else:
            left_over.append(path.as_posix())
    return VideoFolder(videos, sorted(set(ids.values()) - set(videos)), left_over)
