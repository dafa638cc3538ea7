from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hhmnet.predict import pictures
from hhmnet.predict.pictures import draw_overlay
from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.sources import InputError
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from hhmnet.video import open_video
from made_video import write_video


def test_the_video_stays_and_gets_a_skeleton(of_both: Recognizer, filmed: Store, tmp_path: Path) -> None:
    found = of_both.predict(filmed.sample(0), videos=filmed.video_folder)
    assert found.video is not None
    assert found.sample.pixels is not None
    draw_overlay(found, KINECT20, tmp_path / "with.mp4", of_both.engine.spec.roi)
    draw_overlay(found, KINECT20, tmp_path / "without.mp4")
    with (
        open_video(found.video) as before,
        open_video(tmp_path / "with.mp4") as after,
        open_video(tmp_path / "without.mp4") as plain,
    ):
        assert (len(after), after.width, after.height) == (len(before), before.width, before.height)
        np.testing.assert_allclose(after.times, before.times, atol=1e-3)
        t = 8
        picture = int(found.sample.video_frames[t])  # type: ignore[index]
        old, new, bare = (video.frame(picture).astype(int) for video in (before, after, plain))
        joints = found.sample.pixels[0, t].round().astype(int)
        inside = ((joints > 2) & (joints < [before.width - 3, before.height - 3])).all(1)
        changed = np.abs(new - old).max(-1)
        assert np.median([changed[y, x] for x, y in joints[inside]]) > 40
        # The corner that nothing is drawn in stays what it was, but for coding.
        assert changed[-12:, :12].mean() < 20
        # The parts' boxes are there with guidance alone.
        assert np.abs(new - bare).max() > 80


def test_odd_sides_and_uneven_times(of_both: Recognizer, filmed: Store, tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(3).integers(20, 120, 20))
    pictures = [np.zeros((241, 321, 3), np.uint8)] * 20
    write_video(tmp_path / "a.mkv", milliseconds=times.tolist(), pictures=pictures, pixels="yuv444p")
    found = of_both.predict(filmed.sample(0), videos=filmed.video_folder)
    draw_overlay(dataclasses.replace(found, video=tmp_path / "a.mkv"), KINECT20, tmp_path / "out.mp4")
    with open_video(tmp_path / "out.mp4") as video:
        assert (video.width, video.height) == (322, 242)
        np.testing.assert_allclose(video.times, (times - times[0]) / 1000, atol=2e-3)
    with pytest.raises(InputError, match=r"out\.gif: .*must end in \.mp4"):
        draw_overlay(found, KINECT20, tmp_path / "out.gif")
    film = tmp_path / "out.mp4"
    before = film.read_bytes()
    with pytest.raises(InputError, match=r"out\.mp4: is the video to draw on, and would be lost"):
        draw_overlay(dataclasses.replace(found, video=film), KINECT20, film)
    assert film.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "out.mp4"]


def test_what_is_unknown_is_called_so(
    of_both: Recognizer, filmed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, shown = of_both.predict(filmed.sample(0), videos=filmed.video_folder), []
    monkeypatch.setattr(
        pictures, "text_image", lambda lines, height: shown.append(lines) or np.zeros((9, 9, 4))
    )
    for known in (True, False):
        pictures._caption(dataclasses.replace(found, known=known), 320, 240)
    assert shown == [shown[0], ["unknown", *shown[0]]]
    assert shown[0][0].startswith(found.top[0][0])
