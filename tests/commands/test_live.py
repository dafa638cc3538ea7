from __future__ import annotations

import io
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from hhmnet.cli import main
from hhmnet.commands import live, live_views
from hhmnet.commands.live_views import LARGEST, as_ppm, drawn, numbers
from hhmnet.data.transform import DataConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec, from_pretrained
from hhmnet.models.stst import STSTConfig
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.predict.live import StreamingConfig, StreamingRecognizer
from hhmnet.predict.live_pose import LivePose
from hhmnet.predict.prediction import LivePrediction
from hhmnet.skeleton import KINECT20
from made_models import video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight

FRAMES = 50
PLAYER = straight((100, 130), (0.8, 0), (60, 140))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two streams that nobody trained."""
    torch.manual_seed(0)
    config = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8)
    spec = ModelSpec(config, DataConfig(stream="joint+bone", frames=8), KINECT20, ("kick", "nod", "wave"))
    folder = tmp_path_factory.mktemp("live") / "model"
    ActionModel(spec.build(), spec).save_pretrained(folder)
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


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_of_json_for_each_answer(run: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["live", str(run), "--source", str(video), "--as-fast-as-possible", "--json"]
    assert main([*words, "--every", "10", "--top", "2", "--window", "1s"]) == 0
    found = lines(capsys)
    assert [line["frame"] for line in found] == [9, 19, 29, 39, 49]
    assert [line["label"] is None for line in found] == [True, False, False, False, False]
    for line in found[1:]:
        top = line["top"]
        assert isinstance(top, list)
        assert [one["label"] for one in top][:1] == [line["label"]]
        assert len(top) == 2
        assert line["person"] == 1
        assert line["dropped"] == 0
        assert isinstance(line["latency_ms"], float)
        assert line["latency_ms"] > 0


def test_the_same_file_gives_the_same_answers(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["live", str(run), "--source", str(video), "--as-fast-as-possible", "--json", "--smoothing", "0"]
    assert main(words) == 0
    recognizer = StreamingRecognizer(from_pretrained(run), StreamingConfig(every=15, smoothing=0))
    recognizer.pose = LivePose(
        PoseConfig(every=live.DETECT_EVERY), 60, 30.0, KnowingDetector(PLAYER), BoxEstimator()
    )
    expected = []
    for number in range(FRAMES):
        image = np.zeros((240, 320, 3), np.uint8)
        image[..., 0] = number
        if (answer := recognizer.push_frame(image)) is not None:
            expected.append(answer.to_dict(recognizer.class_names)["top"])
    for line, top in zip(lines(capsys), expected, strict=True):
        assert isinstance(line["top"], list)
        for one, other in zip(line["top"], top, strict=True):
            assert one["label"] == other["label"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_what_ends_before_an_answer_is_due_gets_one(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["live", str(run), "--source", str(video), "--as-fast-as-possible", "--json"]
    assert main([*words, "--every", "1000"]) == 0
    (line,) = lines(capsys)
    assert line["frame"] == FRAMES - 1
    assert line["label"] in ("kick", "nod", "wave")


def test_without_a_terminal_there_is_a_line_of_text_for_each_answer(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", str(run), "--source", str(video), "--as-fast-as-possible", "--every", "20"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "watching" in said.out.splitlines()[0]
    assert "%" in said.out.splitlines()[1]
    assert f"{FRAMES} frames in" in said.err
    assert "0 dropped" in said.err


def test_in_real_time_frames_are_looked_at_or_counted(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", str(run), "--source", str(video), "--view", "none"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    counts = re.search(r"(\d+) frames in .* (\d+) dropped", said.err)
    assert counts is not None
    assert int(counts[1]) + int(counts[2]) == FRAMES


def test_a_loop_ends_after_its_time(run: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["live", str(run), "--source", str(video), "--loop", "--view", "none", "--as-fast-as-possible"]
    assert main([*words, "--for", "3s"]) == 0
    assert "frames in" in capsys.readouterr().err


def test_a_damaged_file_ends_with_what_there_is(
    run: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = video.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    words = ["live", str(run), "--source", str(tmp_path / "cut.mkv"), "--as-fast-as-possible", "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "broke off: " in said.err
    assert said.out.count("\n") >= 1


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
        (["--source", "rtsp://127.0.0.1:9/x"], "rtsp://127.0.0.1:9/x: can't be opened"),
        (["--source", "nowhere.mp4"], "nowhere.mp4"),
        (["--source", "0", "--as-fast-as-possible"], "its own rate"),
        (["--source", "rtsp://a/b", "--loop"], "doesn't begin again"),
        (["--source", "a.mp4", "--as-fast-as-possible", "--real-time"], "not allowed with"),
        (["--source", "a.mp4", "--every", "0"], "must be 1 or more"),
        (["--source", "a.mp4", "--persons", "0"], "--persons must be 1 or more"),
        ([], "--source"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str], reason: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", str(run), *words]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.strip().count("\n") == 0


def test_a_window_without_a_screen_is_refused(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    assert main(["live", str(run), "--source", str(video), "--view", "window"]) == 2
    assert "take --view terminal" in capsys.readouterr().err


@pytest.fixture
def watched(run: Path) -> StreamingRecognizer:
    recognizer = StreamingRecognizer(from_pretrained(run))
    recognizer.pose = LivePose(None, 60, 30.0, KnowingDetector(PLAYER), BoxEstimator())
    for _ in range(40):
        recognizer.push_frame(np.zeros((240, 320, 3), np.uint8))
    return recognizer


class Still:
    """A capture of which only the count of dropped frames is looked at."""

    dropped = 1234


def test_the_terminal_shows_label_bars_and_speed(watched: StreamingRecognizer) -> None:
    page = io.StringIO()
    terminal = Console(file=page, width=90, force_terminal=False)
    view = live_views.TerminalView(terminal, watched, top=2)
    view.close()
    answer, meter = watched.answer(), live_views.Meter(Still())  # type: ignore[arg-type]
    meter.note(live_views.Frame(np.zeros((2, 2, 3), np.uint8), 0.0, 0.0), True)
    page.truncate(0)
    terminal.print(view.draw(answer, meter))
    text = page.getvalue()
    assert answer.label is not None
    assert answer.probabilities is not None
    assert text.count(answer.label) == 2  # as the headline and beside its bar
    assert f"{answer.probabilities.max():.0%}" in text
    assert sum(name in text for name in watched.class_names) == 2
    assert "1,234 dropped" in text
    assert "frames/s" in text
    assert "nobody" in live_views.headline(None)


def test_the_window_shows_the_joints(watched: StreamingRecognizer) -> None:
    image = np.full((240, 320, 3), 90, np.uint8)
    shown = drawn(image, watched)
    assert shown.shape == image.shape
    changed = (shown != image).any(2)
    assert changed.any()
    left, right = np.flatnonzero(changed.any(0))[[0, -1]]
    assert 60 <= left < right <= 140  # where the player is
    large = drawn(np.zeros((1080, 2000, 3), np.uint8), watched)
    assert max(large.shape) <= LARGEST
    assert as_ppm(image) == b"P6 320 240 255 " + image.tobytes()


def test_several_persons_each_have_their_line_and_number(
    run: Path, video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = straight((240, 130), (0, 0), (60, 140))
    load = lambda config: VideoPoseEstimator(config, KnowingDetector(PLAYER, other), BoxEstimator())  # noqa: E731
    monkeypatch.setattr(live, "VideoPoseEstimator", load)
    words = ["live", str(run), "--source", str(video), "--as-fast-as-possible", "--every", "40"]
    assert main([*words, "--persons", "2"]) == 0
    said = capsys.readouterr()
    assert [line.split()[2:4] for line in said.out.splitlines()] == [["person", "1:"], ["person", "2:"]]
    assert "answers by skeleton, over the last 2 s (60 frames)" in said.err
    assert main([*words, "--json"]) == 0
    (line,) = lines(capsys)
    assert line["more"] == 1
    assert "others" not in line

    recognizer = StreamingRecognizer(from_pretrained(run), StreamingConfig(persons=2))
    recognizer.pose = LivePose(None, 60, 30.0, KnowingDetector(PLAYER, other), BoxEstimator(), 2)
    for _ in range(40):
        recognizer.push_frame(np.zeros((240, 320, 3), np.uint8))
    shown = numbers((240, 320, 3), recognizer)
    assert [number for _, _, number in shown] == [1, 2]
    assert shown[0][0] < 140 < 200 < shown[1][0]
    page = io.StringIO()
    view = live_views.TerminalView(Console(file=page, width=90), recognizer, top=2)
    view.close()
    page.truncate(0)
    Console(file=page, width=90).print(view.draw(recognizer.answer(), live_views.Meter(Still())))  # type: ignore[arg-type]
    assert "person 1:" in page.getvalue()
    assert "person 2:" in page.getvalue()


def test_a_video_model_can_answer_by_skeletons_alone(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video_model().save_pretrained(tmp_path / "model")
    words = ["live", str(tmp_path / "model"), "--source", str(video), "--as-fast-as-possible", "--json"]
    assert main([*words, "--every", "40"]) == 0
    assert [line["modalities"] for line in lines(capsys)] == [["skeleton", "video"]]
    assert main([*words, "--every", "40", "--modality", "skeleton"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["modalities"] == ["skeleton"]
    assert "could look at the video too" in said.err
