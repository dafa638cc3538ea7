from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hhmnet.pose import __main__ as command
from hhmnet.pose.__main__ import draw_sheet
from hhmnet.pose.networks import PoseError
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import write_store
from hhmnet.video import open_video
from made_people import MadeVideo


def clip(name: str, frames: int = 12, **changes: object) -> Sample:
    pixels = np.random.default_rng(0).uniform(20, 200, (1, frames, 20, 2)).astype(np.float32)
    fields: dict[str, object] = {
        "sample_id": name,
        "label": 0,
        "joints": np.ones((1, frames, 20, 3), np.float32),
        "present": np.ones((1, frames), bool),
        "frame_index": np.arange(frames, dtype=np.int32),
        "pixels": pixels,
        "confidence": np.ones((1, frames, 20), np.float32),
        "boxes": np.tile(np.float32([20, 20, 200, 200]), (1, frames, 1)),
        "interpolated": np.zeros((1, frames), bool),
        "video": "clip.mkv",
        "video_frames": np.arange(frames, dtype=np.int32),
    }
    return Sample(**(fields | changes))  # type: ignore[arg-type]


def picture(file: Path) -> np.ndarray:
    with open_video(file) as image:
        return image.frame(0).astype(float) / 255


def test_a_sheet_shows_skeletons_over_the_frames(tmp_path: Path) -> None:
    MadeVideo(tmp_path / "clip.mkv", 12)
    draw_sheet([clip("a"), clip("b")], KINECT20, tmp_path, tmp_path / "sheet.png", moments=3, width=160)
    shown = picture(tmp_path / "sheet.png")
    assert shown.shape[:2] == (2 * 120 + 4, 3 * 160 + 2 * 4)
    # The frames are nearly black, so bones in blue and orange and a red box stand out.
    for wanted in ((0.16, 0.55, 0.9), (0.94, 0.47, 0.08), (1.0, 0.16, 0.16)):
        assert (np.abs(shown - wanted).max(-1) < 0.15).any()


def test_bodies_that_are_absent_and_joints_that_are_missing_are_not_drawn(tmp_path: Path) -> None:
    MadeVideo(tmp_path / "clip.mkv", 12)
    nobody = clip(
        "a",
        joints=np.zeros((1, 12, 20, 3), np.float32),
        present=np.zeros((1, 12), bool),
    )
    unseen = clip("b", confidence=np.zeros((1, 12, 20), np.float32), boxes=None)
    draw_sheet([nobody, unseen], KINECT20, tmp_path, tmp_path / "sheet.png", moments=2, width=160)
    shown = picture(tmp_path / "sheet.png")
    for top in (0, 124):
        for left in (0, 164):  # green and blue come from drawing alone
            assert shown[top : top + 120, left : left + 160, 1:].max() < 0.02


def test_a_clip_without_a_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="clip a has no pixel positions or no video"):
        draw_sheet([clip("a", pixels=None)], KINECT20, tmp_path, tmp_path / "sheet.png")
    with pytest.raises(PoseError, match=r"clip\.mkv"):
        draw_sheet([clip("a")], KINECT20, tmp_path, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_sheets_of_a_whole_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MadeVideo(tmp_path / "clip.mkv", 12)
    write_store(
        tmp_path / "store",
        [clip(name) for name in "abc"],
        layout=KINECT20,
        class_names=["one"],
        protocol="given",
        provenance={},
    )
    words = ["sheet", str(tmp_path / "store"), "--videos", str(tmp_path), "--out", str(tmp_path / "out")]
    assert command.main([*words, "--rows", "2"]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["sheet_001.png", "sheet_002.png"]
    assert "a, b (from above)" in capsys.readouterr().out
    assert command.main(["sheet", str(tmp_path / "nothing"), *words[2:]]) == 2
    assert "no store at" in capsys.readouterr().err
