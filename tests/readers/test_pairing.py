from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hhmnet.readers import SourceError
from hhmnet.readers.pairing import LONGER, SHORTER, by_time, find_videos, pair_frames


class TestPairFrames:
    @pytest.mark.parametrize(
        ("skeleton", "video", "expected", "note"),
        [
            (3, 3, [0, 1, 2], None),
            (5, 3, [0, 1, 2, -1, -1], SHORTER),
            (3, 5, [0, 1, 2], LONGER),
            (2, 0, [-1, -1], SHORTER),
        ],
    )
    def test_index_by_index(self, skeleton: int, video: int, expected: list[int], note: str | None) -> None:
        index, told = pair_frames(skeleton, video)
        assert index.dtype == np.int32
        assert index.tolist() == expected
        assert told == note


class TestByTime:
    @pytest.mark.parametrize(
        ("skeleton", "video", "delay", "expected"),
        [
            (4, 4, 0, [0, 1, 2, 3]),
            (6, 3, 0, [0, 0, 1, 1, 2, 2]),
            (3, 6, 0, [1, 3, 5]),
            (1, 3, 0, [1]),
            (5, 1, 0, [0, 0, 0, 0, 0]),
            (6, 3, 2, [1, 1, 2, 2, 2, 2]),
            (6, 3, -2, [0, 0, 0, 0, 1, 1]),
            (5, 2, 0, [0, 0, 1, 1, 1]),
        ],
    )
    def test_known(self, skeleton: int, video: int, delay: float, expected: list[int]) -> None:
        index = by_time(skeleton, video, delay)
        assert index.dtype == np.int32
        assert index.tolist() == expected

    @given(st.integers(1, 300), st.integers(1, 300), st.floats(-20, 20))
    def test_in_order_and_inside(self, skeleton: int, video: int, delay: float) -> None:
        index = by_time(skeleton, video, delay)
        assert index.shape == (skeleton,)
        assert index.min() >= 0
        assert index.max() < video
        assert (np.diff(index) >= 0).all()

    @given(st.integers(1, 300), st.integers(1, 300))
    def test_nearest_instant(self, skeleton: int, video: int) -> None:
        middles = (np.arange(video) + 0.5) / video
        for t, frame in enumerate(by_time(skeleton, video)):
            distance = np.abs(middles - (t + 0.5) / skeleton)
            assert distance[frame] <= distance.min() + 1e-9

    def test_no_frames(self) -> None:
        with pytest.raises(ValueError, match="without frames"):
            by_time(3, 0)


class TestFindVideos:
    def put(self, folder: Path, *names: str) -> None:
        for name in names:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def test_by_name(self, tmp_path: Path) -> None:
        self.put(tmp_path, "b.mp4", "deep/a.AVI", "c.txt", "d.mkv", ".e.mp4", ".hidden/e.mp4")
        found = find_videos(tmp_path, ["a", "b", "e", "z"])
        assert found.videos == {"a": "deep/a.AVI", "b": "b.mp4"}
        assert found.without_video == ["e", "z"]
        assert found.left_over == ["d.mkv"]
        assert str(found) == "videos for 2 of 4 samples; 1 videos of no sample"

    def test_pattern(self, tmp_path: Path) -> None:
        self.put(tmp_path, "S1_rgb.avi", "S1_ir.avi", "S2.avi", "S(3)_rgb.mp4")
        found = find_videos(tmp_path, ["S1", "S2", "S(3)"], "{id}_rgb")
        assert found.videos == {"S1": "S1_rgb.avi", "S(3)": "S(3)_rgb.mp4"}
        assert found.left_over == ["S1_ir.avi", "S2.avi"]

    def test_first_of_two_counts(self, tmp_path: Path) -> None:
        self.put(tmp_path, "a.mp4", "a.avi")
        found = find_videos(tmp_path, ["a"])
        assert found.videos == {"a": "a.avi"}
        assert found.left_over == ["a.mp4"]

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"no folder at .*nothing"):
            find_videos(tmp_path / "nothing", [])

    @pytest.mark.parametrize("pattern", ["rgb", "{id}{id}"])
    def test_wrong_pattern(self, tmp_path: Path, pattern: str) -> None:
        with pytest.raises(SourceError, match="pattern"):
            find_videos(tmp_path, [], pattern)
