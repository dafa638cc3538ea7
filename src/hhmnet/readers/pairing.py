"""Which video belongs to a sample, and which of its frames shows the same instant as a frame of the skeleton."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
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
    """Find clips' videos in a folder and those below it: each is named as its clip, perhaps with ``tail`` behind.

    Returns the path of each clip's video, relative to the folder, with forward slashes; and the videos that are left
    over. Raises SourceError where there is no such folder, or it can't be listed.
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
