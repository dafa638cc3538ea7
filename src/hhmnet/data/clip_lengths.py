"""How long the clips of a store are: what a model that learned from them expects of a window."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hhmnet.data.places import pictures_of
from hhmnet.sample import Sample
from hhmnet.store import Store
from hhmnet.video import VideoError, open_video
from hhmnet.video_folder import VideoFolderError, find_videos_of

_LOOKS = 5  # videos that are opened to learn the rate


def clip_length(store: Store, rows: np.ndarray, videos: Path | None = None) -> tuple[int, float | None]:
    """Median length of some clips in frames, and how many of those there are in a second.

    A store doesn't say the rate of its skeletons; it is taken from the videos of five of the clips.

    Args:
        store: opened store.
        rows: positions of the clips in it.
        videos: folder of its videos; the store's own note if None.

    Returns:
        Frames, and the rate; None where no video can be had.
    """
    frames = max(round(float(np.median(store.lengths[rows]))), 1)
    try:
        folder = find_videos_of(store, videos)
    except VideoFolderError:
        return frames, None
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, _LOOKS).round().astype(int))]
    rates = [rate for row in chosen if (rate := _rate(store.sample(int(row)), folder)) is not None]
    return frames, round(float(np.median(rates)), 3) if rates else None


def _rate(sample: Sample, folder: Path) -> float | None:
    """Skeletons a second of one clip, by its video's clock; None without a video of two frames or more."""
    if sample.video is None:
        return None
    try:
        with open_video(folder / sample.video) as video:
            times, pictures = video.times, pictures_of(sample, len(video))
    except (VideoError, OSError):
        return None
    shown = np.flatnonzero((pictures >= 0) & (pictures < len(times)))
    if len(shown) < 2:
        return None
    span = float(times[pictures[shown[-1]]] - times[pictures[shown[0]]])
    return float(shown[-1] - shown[0]) / span if span > 0 else None
