"""Which video belongs to a sample, and which of its frames shows the same instant as a frame of the skeleton."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np

from hhmnet.conversion import Camera, project
from hhmnet.readers import SourceError, files_below

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


class Look(NamedTuple):
    """How many frames a video has, and the width and height of its picture."""

    frames: int
    size: tuple[int, int]


def look_at(file: Path, notes: Counter[str]) -> Look | None:
    """Frames and size of the video in a file; None, with a note, if it can't be read."""
    from hhmnet.video import VideoError, open_video  # PyAV is needed for videos alone

    try:
        with open_video(file) as video:
            if video.damage is not None:
                notes[f"{IN_PART}: {video.damage.reason}"] += 1
            return Look(len(video), (video.width, video.height))
    except VideoError as error:
        notes[f"{UNREADABLE}: {error.reason}"] += 1
        return None


def pair_frames(
    count: int, frames: int, delay: float = 0, *, stretch: bool = False
) -> tuple[np.ndarray, str | None]:
    """Which of a video's frames shows each of a skeleton's ``count``, the video so many of those late.

    One to one for what was recorded together: where the numbers differ, nobody knows which frame is missing. With
    ``stretch``, for unequal rates that begin and end together, by relative time: the frame in which the middle of the
    skeleton's falls when both are laid over the same span.

    Returns:
        ``(T,)`` int32, -1 beyond the video's end; and what to note, None if both are equally long.
    """
    if stretch:
        middles = (np.arange(count) + 0.5 + delay) * (frames / count)
        # A middle that falls between two frames belongs to the later one, whatever rounding did to it.
        return np.clip(np.floor(middles + 1e-9), 0, frames - 1).astype(np.int32), STRETCHED
    index = np.arange(count, dtype=np.int32) + int(delay)
    index[index >= frames] = -1
    return index, None if frames == count else SHORTER if frames < count else LONGER


def find_videos(folder: Path, clips: Iterable[str], tail: str = "") -> tuple[dict[str, str], list[str]]:
    """Find clips' videos in a folder and those below it: each is named as its clip, perhaps with ``tail`` behind.

    Returns:
        The path of each clip's video, relative to the folder, with forward slashes; and the videos that are left
        over, which are of no clip or of one that has its own.

    Raises:
        SourceError: there is no such folder, or it can't be listed.
    """
    if not folder.is_dir():
        raise SourceError(f"field 'videos': no folder at {folder}; it should hold the videos")
    named = {normalize("NFC", name): name for name in clips}
    videos: dict[str, str] = {}
    left_over: list[str] = []
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

    Args:
        folder: the folder of videos.
        video: the clip's, relative to it.
        joints: ``(M, T, V, 3)`` metres in the camera's coordinates.
        notes: counts what doesn't fit.
        camera: the camera; its picture was scaled to the video's size, across and down by unequal factors. Joints that
            are missing (zeros), or not in front of it, have pixels of zero.
        delay: as :func:`pair_frames` has it, and ``stretch``.
    """
    look = look_at(folder / video, notes)
    if look is None:
        return {}
    frames, note = pair_frames(joints.shape[1], look.frames, delay, stretch=stretch)
    if note is not None:
        notes[note] += 1
    fields: dict[str, Any] = {"video": video, "video_frames": frames}
    if camera is not None:
        pixels = project(joints, camera.resized(*look.size))
        lost = ~np.isfinite(pixels).all(-1)
        if behind := int((lost & joints.any(-1)).sum()):
            notes[NO_PICTURE] += behind
        pixels[lost] = 0
        fields["pixels"] = pixels
    return fields
