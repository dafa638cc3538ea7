from __future__ import annotations

import sys
from pathlib import Path

import pose_speed
import pytest

from hhmnet.pose import estimate
from hhmnet.readers import videos
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight

PLAYER = straight((100, 130), (0.5, 0), (60, 140))


def test_every_step_and_the_folder_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    MadeVideo(tmp_path / "clip.mkv", 40)
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(PLAYER))
    monkeypatch.setattr(estimate, "_load_estimator", lambda config: BoxEstimator())
    monkeypatch.setattr(videos, "fetch_models", lambda names: {})
    videos._estimator.cache_clear()
    words = ["pose_speed.py", str(tmp_path / "clip.mkv"), "--copies", "2", "--jobs", "1", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", words)
    pose_speed.main()
    lines = capsys.readouterr().out.splitlines()
    figures = {line[:34].strip(): float(line[34:].split()[0]) for line in lines[2:]}
    assert list(figures) == [
        "decode and convert",
        "detect persons",
        "joints, led by the frame before",
        "joints, from a box",
        "one video, one process",
        "folder, 1 processes",
    ]
    assert all(figure > 0 for figure in list(figures.values())[-2:])
