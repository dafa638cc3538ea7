from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hhmnet.readers import SourceError
from hhmnet.readers.recorded import find_videos, pair_frames


@given(st.integers(1, 300), st.integers(1, 300), st.floats(-20, 20))
def test_by_time_is_in_order_and_without_delay_the_nearest(skeleton: int, video: int, delay: float) -> None:
    index = pair_frames(skeleton, video, delay, stretch=True)[0]
    assert index.shape == (skeleton,)
    assert index.min() >= 0
    assert index.max() < video
    assert (np.diff(index) >= 0).all()
    middles = (np.arange(video) + 0.5) / video
    distances = np.abs(middles - (np.arange(skeleton)[:, None] + 0.5) / skeleton)
    chosen = distances[np.arange(skeleton), pair_frames(skeleton, video, stretch=True)[0]]
    assert (chosen <= distances.min(1) + 1e-9).all()


def test_videos_are_found_by_their_names(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é.ts")
    names = ["b.mp4", "b.mkv", "deep/a.AVI", "c.txt", "d.mkv", ".e.mp4", ".hidden/e.mp4", "S_rgb.mp4"]
    for name in (*names, decomposed):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    videos, left_over = find_videos(tmp_path, ["a", "b", "e", "z", unicodedata.normalize("NFC", "é")])
    assert videos == {"a": "deep/a.AVI", "b": "b.mkv", "é": decomposed}
    assert left_over == ["S_rgb.mp4", "b.mp4", "d.mkv"]
    with pytest.raises(SourceError, match=r"no folder at .*nothing"):
        find_videos(tmp_path / "nothing", [])
