from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.pose import estimate
from hhmnet.predict.recognizer import Recognizer
from hhmnet.store import Store
from hhmnet.video import open_video
from made_models import CLASSES, skeleton_model, video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight

KEYS = {"input", "label", "top", "modalities", "seconds", "members"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of skeletons in a folder."""
    folder = tmp_path_factory.mktemp("model")
    skeleton_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run_of_both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of skeleton and video in a folder."""
    folder = tmp_path_factory.mktemp("both")
    video_model().save_pretrained(folder)
    return folder


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video of a made person, and networks that find that."""
    player = straight((100, 130), (0.8, 0), (60, 140))
    other = straight((240, 130), (-0.3, 0), (50, 130))
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(player, other))
    monkeypatch.setattr(estimate, "_load_estimator", lambda config: BoxEstimator())
    MadeVideo(tmp_path / "clip.mkv", 60)
    return tmp_path / "clip.mkv"


def predicted(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> Any:
    """What ``hhmnet predict … --json`` prints."""
    assert main(["predict", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_several_files_as_json(run: Path, raw_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(raw_folder.glob("a*.json"))[:3]
    found = predicted(capsys, run, *files, "--top", "2")
    recognizer = Recognizer.from_pretrained(run, "cpu")
    assert [one["input"] for one in found] == [str(file) for file in files]
    for one in found:
        assert one.keys() >= KEYS
        wanted = recognizer.predict(one["input"])
        assert one["label"] == wanted.label
        assert one["top"] == [{"label": label, "probability": share} for label, share in wanted.top[:2]]
        assert one["modalities"] == ["skeleton"]
        assert one["seconds"] > 0
        assert one["votes"].keys() == one["members"].keys() == {"joint", "bone"}
        for name, vote in one["votes"].items():
            assert CLASSES.index(vote) == int(np.argmax(one["members"][name]))


def test_what_fails_is_named_and_the_others_are_answered(
    run: Path, raw_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = next(raw_folder.glob("a*.json"))
    (tmp_path / "bad.npz").write_text("nothing")
    words = [str(run), str(tmp_path / "none.mp4"), str(good), str(tmp_path / "bad.npz")]
    assert main(["predict", *words, "--json"]) == 2
    output = capsys.readouterr()
    missing, answer, bad = json.loads(output.out)
    assert answer["label"] in CLASSES
    assert [missing["input"], bad["input"]] == [words[1], words[3]]
    assert "there is no such file" in missing["error"]
    lines = output.err.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"hhmnet predict: error: {words[1]}: ")
    assert "Traceback" not in output.err


def test_a_folder_and_a_store(
    run: Path, raw_folder: Path, store_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_folder = predicted(capsys, run, raw_folder)
    of_store = predicted(capsys, run, store_folder)
    assert len(of_folder) == len(of_store) == len(Store(store_folder))
    by_name = {Path(one["input"]).stem: one for one in of_folder}
    for one in of_store:
        other = by_name[one["input"].rpartition("#")[2]]
        np.testing.assert_allclose(one["members"]["bone"], other["members"]["bone"], atol=1e-5)


def test_the_table(run: Path, raw_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(raw_folder.glob("a*.json"))
    assert main(["predict", str(run), str(file)]) == 0
    text = capsys.readouterr().out
    found = Recognizer.from_pretrained(run, "cpu").predict(file)
    assert f"{100 * found.top[0][1]:.1f}" in text
    assert "skeleton" in text
    assert all(name in text for name in ("vote", "joint", "bone", *CLASSES))


def test_a_video_with_an_overlay(
    run_of_both: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = predicted(capsys, run_of_both, clip, "--overlay", tmp_path / "out.mp4")
    assert found["modalities"] == ["skeleton", "video"]
    assert list(found["members"]) == ["joint", "bone", "video"]
    with open_video(tmp_path / "out.mp4") as video, open_video(clip) as before:
        assert len(video) == len(before) == 60
        assert np.abs(video.frame(30).astype(int) - before.frame(30)).max() > 100


@pytest.mark.parametrize("modality", ["skeleton", "video"])
def test_one_modality(
    run_of_both: Path, clip: Path, modality: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = predicted(capsys, run_of_both, clip, "--modality", modality)
    assert found["modalities"] == [modality]
    both = predicted(capsys, run_of_both, clip, "--modality", "skeleton", "--modality", "video")[0]
    assert both["modalities"] == ["skeleton", "video"]


def test_a_timeline(run: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "timeline"
    words = ["--timeline", out, "--window", "0.5", "--persons", "2", "--enter", "0.3", "--leave", "0.2"]
    found = predicted(capsys, run, clip, *words)
    assert found == json.loads((out / "timeline.json").read_text())
    assert [person["person"] for person in found["persons"]] == [1, 2]
    assert found["config"]["window"] == 0.5
    assert len(found["persons"][0]["windows"]) == 7
    with open(out / "segments.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert rows
    assert {row["label"] for row in rows} <= set(CLASSES)
    assert main(["predict", str(run), str(clip), *map(str, words)]) == 0
    assert rows[0]["label"] in capsys.readouterr().out


def test_how_joints_are_found_is_a_flag(
    run: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def load(config: estimate.PoseConfig) -> KnowingDetector:
        asked.append(config.every)
        return KnowingDetector(straight((100, 130), (0.8, 0), (60, 140)))

    monkeypatch.setattr(estimate, "_load_detector", load)
    predicted(capsys, run, clip, "--every", "5")
    assert asked == [5]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--topp", "3"], "unknown flag '--topp'; did you mean '--top'?"),
        (["--top", "0"], "'0' is not a number from 1"),
        (["--every", "often"], "field 'every' must be a whole number; got 'often'"),
        (["--window", "2"], "--window goes with --timeline"),
        (["--modality", "sound"], "invalid choice: 'sound'"),
        (["--modality", "video"], "looks at skeletons alone"),
        (["more.mp4", "--timeline", "out"], "--timeline takes one video or skeleton file"),
        (["more.mp4", "--overlay", "out.mp4"], "--overlay takes one video or skeleton file"),
        (["--overlay", "out.mp4"], "has no video to draw on"),
        (["--overlay", "out.gif"], "has no video to draw on"),
        (["--timeline", "out", "--leave", "0.9"], "field 'leave' must be at most enter"),
        (["--timeline", "out", "--overlay", "out.mp4"], "without --timeline"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, raw_folder: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next(raw_folder.glob("a*.json"))
    assert main(["predict", str(run), str(file), *words]) == 2
    output = capsys.readouterr()
    assert reason in output.err
    assert len(output.err.strip().splitlines()) == 1
    assert not output.out


def test_a_folder_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path), "clip.mp4"]) == 2
    assert "no model there" in capsys.readouterr().err


def test_help_names_all_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--help"]) == 0
    text = capsys.readouterr().out
    for flag in ("--json", "--overlay", "--timeline", "--estimator", "--persons", "--stride", "--enter"):
        assert flag in text


def test_real_skeletons_and_the_published_model(capsys: pytest.CaptureFixture[str]) -> None:
    model, data = Path("zoo/nw_ucla/homogeneous"), Path(os.environ.get("HHMNET_DATA", "none"))
    files = sorted((data / "nw_ucla/all_sqe").glob("*_v03.json"))[::40]
    if not files or not model.is_dir():
        pytest.skip("needs zoo/ and, in the folder HHMNET_DATA, nw_ucla/all_sqe")
    names = json.loads((model / "config.json").read_text())["class_names"]
    found = predicted(capsys, model, *files)
    right = [one["label"] == names[json.loads(Path(one["input"]).read_text())["label"] - 1] for one in found]
    assert np.mean(right) > 0.8
