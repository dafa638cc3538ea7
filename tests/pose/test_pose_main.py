from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hhmnet.pose.__main__ import draw_sheet, main
from hhmnet.pose.networks import PoseError
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import write_store
from hhmnet.video import open_video
from made_people import MadeVideo

FRAMES = 12
CLIP = Sample(
    "a",
    0,
    joints=np.ones((1, FRAMES, 20, 3), np.float32),
    present=np.ones((1, FRAMES), bool),
    frame_index=np.arange(FRAMES, dtype=np.int32),
    pixels=np.random.default_rng(0).uniform(20, 200, (1, FRAMES, 20, 2)).astype(np.float32),
    confidence=np.ones((1, FRAMES, 20), np.float32),
    boxes=np.tile(np.float32([20, 20, 200, 200]), (1, FRAMES, 1)),
    interpolated=np.zeros((1, FRAMES), bool),
    video="clip.mkv",
    video_frames=np.arange(FRAMES, dtype=np.int32),
)
NOBODY = replace(CLIP, joints=np.zeros_like(CLIP.joints), present=np.zeros((1, FRAMES), bool))
UNSEEN = replace(CLIP, confidence=np.zeros((1, FRAMES, 20), np.float32), boxes=None)


def test_a_sheet_shows_skeletons_over_the_frames(tmp_path: Path) -> None:
    MadeVideo(tmp_path / "clip.mkv", FRAMES)
    draw_sheet([CLIP, NOBODY, UNSEEN], KINECT20, tmp_path, tmp_path / "sheet.png")
    with open_video(tmp_path / "sheet.png") as page:
        shown = page.frame(0).astype(float) / 255
    assert shown.shape[:2] == (3 * 240 + 2 * 4, 6 * 320 + 5 * 4)
    # The frames are nearly black, so bones in blue and orange and a red box stand out.
    for wanted in ((0.16, 0.55, 0.9), (0.94, 0.47, 0.08), (1.0, 0.16, 0.16)):
        assert (np.abs(shown[:240] - wanted).max(-1) < 0.15).any()
    for top, left in np.ndindex(
        2, 6
    ):  # of absent bodies and missing joints nothing is drawn, so nothing is green
        row, column = (top + 1) * 244, left * 324
        assert shown[row : row + 240, column : column + 320, 1:].max() < 0.02
    for clip, reason in ((replace(CLIP, pixels=None), "clip a has no pixel"), (CLIP, r"clip a: .*clip\.mkv")):
        with pytest.raises(PoseError, match=reason):
            draw_sheet([clip], KINECT20, tmp_path / "nowhere", tmp_path / "sheet.png")


def test_sheets_of_a_whole_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MadeVideo(tmp_path / "clip.mkv", FRAMES)
    clips = [replace(CLIP, sample_id=name) for name in "abc"]
    about: dict[str, object] = {"class_names": ["one"], "protocol": "given", "provenance": {}}
    write_store(tmp_path / "store", clips, layout=KINECT20, **about)  # type: ignore[arg-type]
    arguments = ["--videos", str(tmp_path), "--out", str(tmp_path / "out"), "--rows", "2"]
    assert main(["sheet", str(tmp_path / "store"), *arguments]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["sheet_001.png", "sheet_002.png"]
    assert "a, b (from above)" in capsys.readouterr().out
    assert main(["sheet", str(tmp_path / "nothing"), *arguments]) == 2
    assert "no store at" in capsys.readouterr().err
