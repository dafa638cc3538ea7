from __future__ import annotations

import io
import json
import threading
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hhmnet.cli import main
from hhmnet.commands import live
from hhmnet.pose.estimate import VideoPoseEstimator
from hhmnet.predict import capture
from hhmnet.predict.live import LivePrediction, StreamingRecognizer
from made_models import CLASSES, skeleton_model, video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight

FRAMES = 50
PLAYER = straight((100, 130), (0.2, 0), (60, 140))
OTHER = straight((240, 130), (0, 0), (60, 140))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two streams that nobody trained."""
    folder = tmp_path_factory.mktemp("live") / "model"
    skeleton_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("live") / "clip.mkv"
    MadeVideo(file, FRAMES)
    return file


@pytest.fixture(autouse=True)
def made_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds made persons in made videos."""
    networks = KnowingDetector(PLAYER, OTHER), BoxEstimator()
    monkeypatch.setattr(live, "VideoPoseEstimator", lambda config: VideoPoseEstimator(config, *networks))


def live_lines(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[dict[str, Any]]:
    """What ``hhmnet live … --json`` prints of every frame."""
    words = ("live", *words, "--still", "0")  # the made persons hardly move
    assert main([*map(str, words), "--as-fast-as-possible", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_for_each_answer_as_json_or_as_text(run, video, capsys):
    words = [str(run), "--source", str(video), "--every", "10"]
    found = live_lines(capsys, *words)
    assert [line["frame"] for line in found] == [9, 19, 29, 39, 49]
    assert [line["label"] is None for line in found] == [True, True, False, False, False]
    for line in found[2:]:
        assert (line["person"], line["label"], line["more"]) == (1, line["top"][0]["label"], 1)
        assert (line["dropped"], line["latency_ms"] > 0) == (0, True)
    assert main(["live", *words, "--as-fast-as-possible", "--still", "0"]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert ["watching" in line for line in lines] == [line["label"] is None for line in found]
    assert all(line.endswith("%   (1 more in the picture)") for line in lines[2:])
    assert "answers by skeleton, over the last 2 s (60 frames)" in output.err
    assert f"{FRAMES} frames in" in output.err


def test_ctrl_c_and_the_time_end_a_loop_cleanly(run, video, capsys, monkeypatch):
    words = ["live", str(run), "--source", str(video), "--loop", "--as-fast-as-possible"]
    moments = count()  # the clock goes on by a second each time it is read: once at the start, once a frame
    with monkeypatch.context() as patch:
        patch.setattr(capture, "monotonic", lambda: float(next(moments)))
        assert main([*words, "--for", "70s"]) == 0
    assert "71 frames in" in capsys.readouterr().err
    push, pushed = StreamingRecognizer.push_frame, count(1)

    def interrupted(self: StreamingRecognizer, *frame: Any) -> LivePrediction | None:
        if next(pushed) == 5:
            raise KeyboardInterrupt
        return push(self, *frame)

    monkeypatch.setattr(StreamingRecognizer, "push_frame", interrupted)
    assert main(words) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("4 frames in")
    assert not [thread for thread in threading.enumerate() if thread.name == "capture"]


def test_the_terminal_shows_label_bars_and_speed() -> None:
    page, meter = io.StringIO(), live.Meter(SimpleNamespace(dropped=1234))  # type: ignore[arg-type]
    meter.note(capture.Frame(np.zeros((2, 2, 3), np.uint8), 0.0, 0.0), True)
    answer = LivePrediction(44, 1.5, 1, "unknown", np.array([0.2, 0.7, 0.1]))
    Console(file=page, width=90).print(live.view(answer, ("kick", "nod", "wave"), meter))
    lines = page.getvalue().splitlines()
    assert lines[0].strip() == "person 1: unknown"
    assert [line.split()[0] for line in lines[1:4]] == ["nod", "kick", "wave"]
    assert "1,234 dropped" in lines[4]


@pytest.mark.parametrize("flag", [("--window", "90s"), ("--still", "-1"), ("--unknown", "0.5")])
def test_a_value_that_can_not_be_is_one_line(run, video, capsys, flag):
    assert main(["live", str(run), "--source", str(video), *flag]) == 2
    assert f"hhmnet live: error: field '{flag[0][2:]}' must be from" in capsys.readouterr().err


def test_a_source_of_an_unusual_rate_is_answered(run, tmp_path, capsys):
    file = tmp_path / "fast.mkv"
    MadeVideo(file, 4, rate=480)
    assert live_lines(capsys, str(run), "--source", str(file))[-1]["frame"] >= 0


def test_what_ends_before_an_answer_is_due_gets_one_also_by_skeletons_alone(video, tmp_path, capsys):
    video_model().save_pretrained(tmp_path / "model")
    words = [tmp_path / "model", "--source", video, "--every", "1000"]
    (both,), (alone,) = live_lines(capsys, *words), live_lines(capsys, *words, "--modality", "skeleton")
    assert (both["modalities"], alone["modalities"]) == (["skeleton", "video"], ["skeleton"])
    assert both["frame"] == alone["frame"] == FRAMES - 1
    assert both["label"] in CLASSES
