from __future__ import annotations

from pathlib import Path

import numpy as np

from hhmnet.data.dataset import clip_length
from made_crops import made_clip, write_made_store


def test_frames_are_the_median_and_the_rate_is_the_videos(tmp_path: Path) -> None:
    # The videos have 25 pictures a second, the skeletons of all clips but the first half as many or none.
    every_second = 2 * np.arange(6, dtype=np.int32)
    halved = [made_clip(number, 6, video_frames=every_second) for number in (1, 2)]
    store, videos = write_made_store(
        tmp_path, [made_clip(0), *halved, made_clip(3, 8, video=None, video_frames=None)]
    )
    assert clip_length(store, np.array([1, 2]), videos) == (6, 12.5)
    assert clip_length(store, np.array([0, 3]), videos) == (10, 25.0)
    assert clip_length(store, np.arange(4), videos) == (7, 12.5)


def test_without_videos_there_are_frames_alone(tmp_path: Path) -> None:
    store, videos = write_made_store(tmp_path, [made_clip(0), made_clip(1, 6)])
    assert clip_length(store, np.arange(2)) == (9, None)
    for file in videos.iterdir():
        file.unlink()
    assert clip_length(store, np.arange(2), videos) == (9, None)
