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
from hhmnet.commands.live import LARGEST, as_ppm, drawn
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.predict import capture
from hhmnet.predict.live import StreamingConfig, StreamingRecognizer
from hhmnet.predict.prediction import LivePrediction
from made_models import CLASSES, video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, Way, straight
from made_stream import model

FRAMES = 50
PLAYER = straight((100, 130), (0.2, 0), (60, 140))
OTHER = straight((240, 130), (0, 0), (60, 140))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two streams that nobody trained."""
    folder = tmp_path_factory.mktemp("live") / "model"
    model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("live") / "clip.mkv"
    MadeVideo(file, FRAMES)
    return file


@pytest.fixture(autouse=True)
def made_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds made persons in made videos."""

    def load(config: PoseConfig) -> VideoPoseEstimator:
        return VideoPoseEstimator(config, KnowingDetector(PLAYER), BoxEstimator())

    monkeypatch.setattr(live, "VideoPoseEstimator", load)


def live_lines(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[dict[str, Any]]:
    """What ``hhmnet live … --json`` prints of every frame."""
    words = ("live", *words, "--still", "0")  # the made persons hardly move
    assert main([*map(str, words), "--as-fast-as-possible", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_of_json_for_each_answer(run: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = live_lines(capsys, run, "--source", video, "--every", "10", "--top", "2")
    assert [line["frame"] for line in found] == [9, 19, 29, 39, 49]
    assert [line["label"] is None for line in found] == [True, True, False, False, False]
    for line in found[2:]:
        assert (line["person"], line["label"], len(line["top"])) == (1, line["top"][0]["label"], 2)
        assert (line["dropped"], line["latency_ms"] > 0) == (0, True)


def test_a_loop_ends_after_its_time(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = count()  # the clock goes on by a second each time it is read: once at the start, once a frame
    monkeypatch.setattr(capture, "monotonic", lambda: float(next(moments)))
    words = ["live", str(run), "--source", str(video), "--loop", "--view", "none", "--as-fast-as-possible"]
    assert main([*words, "--for", "70s"]) == 0
    output = capsys.readouterr()
    assert (output.out, "71 frames in" in output.err) == ("", True)


def test_a_damaged_file_ends_with_what_there_is(
    run: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = video.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    assert (
        main(["live", str(run), "--source", str(tmp_path / "cut.mkv"), "--as-fast-as-possible", "--json"])
        == 0
    )
    output = capsys.readouterr()
    assert "broke off: " in output.err
    assert output.out.count("\n") >= 1


def test_ctrl_c_ends_it_cleanly(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    push, count = StreamingRecognizer.push_frame, 0

    def interrupted(
        self: StreamingRecognizer, image: np.ndarray, time: float | None
    ) -> LivePrediction | None:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return push(self, image, time)

    monkeypatch.setattr(StreamingRecognizer, "push_frame", interrupted)
    assert main(["live", str(run), "--source", str(video), "--loop"]) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("4 frames in")
    assert not [thread for thread in threading.enumerate() if thread.name == "capture"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--source", "987"], "/dev/video987: there is no such camera"),
        (["--source", "nowhere.mp4"], "nowhere.mp4"),
        (["--source", "0", "--as-fast-as-possible"], "its own rate"),
        (["--source", "rtsp://a/b", "--loop"], "doesn't begin again"),
        (["--source", "a.mp4", "--as-fast-as-possible", "--real-time"], "not allowed with"),
        (["--source", "a.mp4", "--every", "0"], "not a number from 1"),
        (["--source", "a.mp4", "--persons", "0"], "--persons: '0' is not a number from 1"),
        ([], "--source"),
        (["--source", "VIDEO", "--view", "window"], "take --view terminal"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    reason: str,
    run: Path,
    video: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    assert main(["live", str(run), *(word.replace("VIDEO", str(video)) for word in words)]) == 2
    output = capsys.readouterr().err.splitlines()
    assert reason in output[-1]
    assert [line for line in output if "error" in line] == output[-1:]


def watching(run: Path, *ways: Way) -> StreamingRecognizer:
    """A recognizer that has seen so many persons in 40 frames."""
    networks = VideoPoseEstimator(None, KnowingDetector(*ways), BoxEstimator())
    recognizer = StreamingRecognizer(
        from_pretrained(run), StreamingConfig(still=0, persons=len(ways)), networks
    )
    for _ in range(40):
        recognizer.push_frame(np.zeros((240, 320, 3), np.uint8))
    return recognizer


def test_the_terminal_shows_labels_bars_and_speed(run: Path) -> None:
    recognizer, page = watching(run, PLAYER, OTHER), io.StringIO()
    view = live.TerminalView(Console(file=page, width=90), recognizer, top=2)
    view.close()
    meter = live.Meter(SimpleNamespace(dropped=1234))  # type: ignore[arg-type]
    meter.note(capture.Frame(np.zeros((2, 2, 3), np.uint8), 0.0, 0.0), True)
    answer = recognizer.answer()
    page.truncate(0)
    Console(file=page, width=90).print(view.draw(answer, meter))
    text = page.getvalue()
    for one in answer.everyone:
        assert one.label is not None
        assert one.probabilities is not None
        assert text.count(one.label) >= 2  # as the headline and beside its bar
        assert f"person {one.person}: {one.label}  {one.probabilities.max():.0%}" in text
    assert "1,234 dropped" in text
    assert "frames/s" in text


def test_the_window_shows_joints_and_numbers(run: Path) -> None:
    recognizer = watching(run, PLAYER, OTHER)
    image = np.full((240, 320, 3), 90, np.uint8)
    shown, numbers = drawn(image, recognizer)
    changed = (shown != image).any(2)
    left, right = np.flatnonzero(changed.any(0))[[0, -1]]
    assert 60 <= left < 140 < 200 < right <= 280  # where the two are
    assert max(drawn(np.zeros((1080, 2000, 3), np.uint8), recognizer)[0].shape) <= LARGEST
    assert as_ppm(image) == b"P6 320 240 255 " + image.tobytes()
    (one, _, first), (other, _, second) = numbers
    assert (first, second, one < 140 < 200 < other) == (1, 2, True)


def test_without_a_terminal_there_is_a_line_of_text_for_each_person_of_an_answer(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = lambda config: VideoPoseEstimator(config, KnowingDetector(PLAYER, OTHER), BoxEstimator())  # noqa: E731
    monkeypatch.setattr(live, "VideoPoseEstimator", load)
    words = [str(run), "--source", str(video), "--every", "20"]
    assert main(["live", *words, "--as-fast-as-possible", "--persons", "2", "--still", "0"]) == 0
    output = capsys.readouterr()
    lines = [line.split()[2:] for line in output.out.splitlines()]
    assert [line[:2] for line in lines] == [["person", "1:"], ["person", "2:"]] * 2
    assert ["watching" in line for line in lines] == [True, True, False, False]
    assert all(line[-1].endswith("%") for line in lines[2:])
    assert "answers by skeleton, over the last 2 s (60 frames)" in output.err
    assert f"{FRAMES} frames in" in output.err
    assert "0 dropped" in output.err
    *_, line = live_lines(capsys, *words)
    assert (line["more"], "others" in line) == (1, False)


def test_what_ends_before_an_answer_is_due_gets_one_also_by_skeletons_alone(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video_model().save_pretrained(tmp_path / "model")
    words = [tmp_path / "model", "--source", video, "--every", "1000"]
    (both,), (alone,) = live_lines(capsys, *words), live_lines(capsys, *words, "--modality", "skeleton")
    assert (both["modalities"], alone["modalities"]) == (["skeleton", "video"], ["skeleton"])
    assert both["frame"] == alone["frame"] == FRAMES - 1
    assert both["label"] in CLASSES
