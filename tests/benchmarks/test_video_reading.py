from __future__ import annotations

import json
from pathlib import Path

import pytest
import videos

from made_video import write_video


def test_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, report = write_video(tmp_path / "a.mp4"), tmp_path / "report.json"
    assert videos.run(videos.main, [str(file), "--rounds", "1", "--json", str(report)]) == 0
    rows = json.loads(report.read_text())["videos"]
    assert [(row["file"], row["frames"], row["size"]) for row in rows] == [("a.mp4", 41, "64 x 48")]
    assert all(
        row[key] > 0 for row in rows for key in ("open_ms", "frames_per_second", "one_frame_ms", "set_ms")
    )
    assert "a.mp4" in capsys.readouterr().out


def test_no_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert videos.run(videos.main, [str(tmp_path / "a.mp4")]) == 2
    assert "a.mp4" in capsys.readouterr().err
