from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.pose import estimate
from hhmnet.predict.recognizer import Recognizer
from hhmnet.video import open_video
from made_models import CLASSES, skeleton_model, video_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders with a model of skeletons and one of skeleton and video."""
    folders = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("both")
    for model, folder in zip((skeleton_model(), video_model()), folders, strict=True):
        model.save_pretrained(folder)
    return folders


@pytest.fixture(scope="module")
def run(models: tuple[Path, Path]) -> Path:
    return models[0]


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video of two made persons, and networks that find them; what the detector is built with is kept."""
    ways = straight((100, 130), (0.8, 0), (60, 140)), straight((240, 130), (-0.3, 0), (50, 130))
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(*ways))
    monkeypatch.setattr(estimate, "_load_estimator", lambda threads: BoxEstimator())
    MadeVideo(tmp_path / "clip.mkv", 30)
    return tmp_path / "clip.mkv"


def predicted(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> Any:
    """What ``hhmnet predict … --json`` prints."""
    assert main(["predict", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_several_files_as_json_and_as_a_table(run, raw_folder, capsys):
    files = sorted(raw_folder.glob("a*.json"))[:2]
    found = predicted(capsys, run, *files, "--top", "2")
    recognizer = Recognizer.from_pretrained(run, "cpu")
    for one, file in zip(found, files, strict=True):
        wanted = recognizer.predict(file, top=2)
        votes = {name: CLASSES[int(part.argmax())] for name, part in wanted.members.items()}
        assert one == wanted.to_dict() | {"votes": votes, "seconds": one["seconds"]}
    assert main(["predict", str(run), str(files[1])]) == 0
    text = capsys.readouterr().out
    for part in (f"{100 * wanted.top[0][1]:.1f}", "skeleton", "vote", "bone", *CLASSES):
        assert part in text


def test_what_fails_is_named_and_the_others_are_answered(run, raw_folder, tmp_path, capsys):
    (tmp_path / "bad.npz").write_text("nothing")
    clip = next(raw_folder.glob("a*.json"))
    words = [str(path) for path in (run, tmp_path / "no:ne.mp4", clip, tmp_path / "bad.npz")]
    assert main(["predict", *words, "--json"]) == 2
    output = capsys.readouterr()
    missing, answer, bad = json.loads(output.out)
    assert answer["label"] in CLASSES
    assert [missing["input"], bad["input"]] == [words[1], words[3]]
    assert "there is no such file" in missing["error"]
    lines = output.err.strip().splitlines()
    assert [line.startswith("hhmnet predict: error: ") for line in lines] == [True, True]


def test_a_video_with_an_overlay_and_by_one_modality(models, clip, tmp_path, capsys):
    (found,) = predicted(capsys, models[1], clip, "--overlay", tmp_path / "out.mp4")
    assert found["modalities"] == ["skeleton", "video"]
    assert list(found["members"]) == ["joint", "bone", "video"]
    with open_video(tmp_path / "out.mp4") as video, open_video(clip) as before:
        assert len(video) == len(before) == 30
        assert np.abs(video.frame(15).astype(int) - before.frame(15)).max() > 100
    assert main(["predict", str(models[1]), str(clip), "--overlay", str(tmp_path / "out.gif"), "--json"]) == 2
    output = capsys.readouterr()
    assert json.loads(output.out)[0]["label"] == found["label"], "what is found out isn't lost"
    assert "must end in .mp4" in output.err
    for chosen in ("skeleton", "video"):
        (found,) = predicted(capsys, models[1], clip, "--modality", chosen)
        assert found["modalities"] == [chosen]


def test_a_timeline(run: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "timeline"
    words = ["--timeline", out, "--window", "0.5", "--persons", "2", "--enter", "0.3", "--leave", "0.2"]
    words += ["--still", "0"]  # the made persons hardly move
    found = predicted(capsys, run, clip, *words, "--every", "5")  # how joints are found is a flag, too
    assert found == json.loads((out / "timeline.json").read_text())
    assert [person["person"] for person in found["persons"]] == [1, 2]
    assert found["config"]["window"] == 0.5
    assert len(found["persons"][0]["windows"]) == 3
    with open(out / "segments.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    labels = [segment["label"] for person in found["persons"] for segment in person["segments"]]
    assert sorted(row["label"] for row in rows) == sorted(labels)
    assert [float(row["start"]) for row in rows] == sorted(float(row["start"]) for row in rows)
    assert (out / "timeline.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["predict", str(run), str(clip), *map(str, words)]) == 0
    assert rows[0]["label"] in capsys.readouterr().out


def test_a_timeline_of_a_folder_that_holds_one_recording(run, raw_folder, tmp_path, capsys):
    clips = sorted(raw_folder.glob("a*.json"))[:2]
    folder = tmp_path / "recording"
    folder.mkdir()
    shutil.copy(clips[0], folder)
    found = predicted(capsys, run, folder, "--timeline", tmp_path / "timeline")
    assert found["input"] == str(folder / clips[0].name)
    shutil.copy(clips[1], folder)
    assert main(["predict", str(run), str(folder), "--timeline", str(tmp_path / "timeline")]) == 2
    assert "--timeline takes one recording; 2 were given" in capsys.readouterr().err
