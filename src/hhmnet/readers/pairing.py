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


def pair_frames(skeleton_frames: int, video_frames: int, delay: int = 0) -> tuple[np.ndarray, str | None]:
    """Pair frame with frame, for skeletons and videos that were recorded together, the video ``delay`` frames late.

    Nothing is rescaled: where the numbers differ, nobody knows which frame is missing.

    Returns:
        The video's frame for every frame of the skeleton, ``(T,)`` int32, -1 beyond the video's end; and what
        to note about it, None if both are equally long.
    """
    index = np.arange(delay, skeleton_frames + delay, dtype=np.int32)
    index[index >= video_frames] = -1
    if skeleton_frames == video_frames:
        return index, None
    return index, SHORTER if video_frames < skeleton_frames else LONGER


def by_time(skeleton_frames: int, video_frames: int, delay: float = 0.0) -> np.ndarray:
    """Pair frames by relative time, for skeletons and videos of unequal rates that begin and end together.

    The skeleton's frame t is paired with the video's frame in which the middle of t falls when both are laid over the
    same span; ``delay`` is how many frames of the skeleton the video comes late.

    Returns:
        The video's frame for every frame of the skeleton, ``(T,)`` int32.
    """
    middles = (np.arange(skeleton_frames) + 0.5 + delay) * (video_frames / skeleton_frames)
    # A middle that falls between two frames belongs to the later one, whatever rounding did to it.
    return np.clip(np.floor(middles + 1e-9), 0, video_frames - 1).astype(np.int32)


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
    """A sample's fields ``video``, ``video_frames`` and, if its camera is known, ``pixels``.

    Args:
        folder: the folder of videos.
        video: the clip's, relative to it.
        joints: ``(M, T, V, 3)`` metres in the camera's coordinates.
        notes: counts what doesn't fit.
        camera: the camera; its picture was scaled to the video's size, across and down by unequal factors.
        delay: how many frames of the skeleton the video comes late.
        stretch: whether frames are paired by relative time, and not one to one.

    Returns:
        The fields; none if the video can't be read. Joints that are missing (zeros), or not in front of the camera,
        have pixels of zero.
    """
    look = look_at(folder / video, notes)
    if look is None:
        return {}
    frames, note = pair_frames(joints.shape[1], look.frames, int(delay))
    if stretch:
        frames, note = by_time(joints.shape[1], look.frames, delay), STRETCHED
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
