"""The tutorial's commands, as they stand in the page, on made clips.

Every line of each ``sh`` block of docs/tutorial.md is a command of hhmnet and is run, in order. A block below the line
``<!-- not run -->`` installs something or doesn't end by itself; of its commands only the flags are looked at.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import COMMANDS, main
from hhmnet.evaluation.metrics import confusion
from hhmnet.evaluation.scores import Scores
from hhmnet.pose import estimate
from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.readers import videos
from hhmnet.store import Store
from made_people import BoxEstimator, KnowingDetector
from made_video import write_video

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"
STROKES = ("b_slice", "b_volley", "backhand", "f_volley", "forehand", "serve", "smash")

SMALLER = {
    "prepare": "--jobs 1",
    "train": "--model.widths [16] --model.strides [2] --model.head_width 8 --data.frames 16 --optim.epochs 2"
    " --run.threads 1",
    "train --phase1": "--heterogeneous.backbone small --heterogeneous.projection 8 --optim.epochs 2 --run.threads 1"
    " --roi.cell 20 --video.cell 16 --roi.scene 36 --video.scene 32 --video.instants 2 --video.scenes 2",
    "export": "--clips 4",
}
"""What is added to a command so that all of them take seconds: small networks, few epochs, one process."""

_BLOCK = re.compile(r"(?P<not_run><!-- not run -->\n)?```sh\n(?P<lines>.*?)```\n", re.DOTALL)


def commands(text: str) -> list[tuple[int, list[str], bool]]:
    """The lines of all ``sh`` blocks, without empty ones and comments: number, words, and whether they are run."""
    found = []
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start("lines")) + 1
        for number, line in enumerate(block["lines"].splitlines(), first):
            if words := shlex.split(line, comments=True):
                found.append((number, words, not block["not_run"]))
    return found


def film(file: Path, start: int, frames: int = 20) -> None:
    """A video whose first pixel tells the moment of a player's way, which begins at ``start``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pictures = [np.full((120, 160, 3), (start + frame, 0, 0), np.uint8) for frame in range(frames)]
    write_video(file.with_suffix(".mkv"), "ffv1", pictures=pictures, pixels="bgr0", rate=15).rename(file)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the page's commands are given, with clips as the page lays them out."""
    for part in ("configs", "zoo"):
        (tmp_path / part).symlink_to(ROOT / part)
    rows = ["video,label,scene,fold,frames"]
    for fold in range(3):
        for number, stroke in enumerate(STROKES, 1):
            name = f"t{100 * fold + number:03d}.mp4"
            film(tmp_path / "tennis/videos" / name, 20 * fold + 7 * number)
            rows.append(f"{name},{stroke},{fold + 11},{fold},20")
    (tmp_path / "tennis/labels.csv").write_text("\n".join(rows) + "\n")
    for name in ("new", "mine/serve/1", "mine/serve/2", "mine/smash/1", "mine/smash/2"):
        film(tmp_path / f"{name}.mp4", len(name) + 9 * int(name[-1] == "2"))
    film(tmp_path / "rally.mp4", 0, frames=60)
    players = KnowingDetector(lambda t: (80 + 8 * np.sin(t / 3), 62, 40 + 12 * np.sin(t / 2), 100))
    monkeypatch.setattr(videos, "fetch_models", dict)
    monkeypatch.setattr(estimate, "_load_detector", lambda config: players)
    monkeypatch.setattr(estimate, "_load_estimator", lambda threads: BoxEstimator())
    monkeypatch.setattr("hhmnet.commands.crops.cores", lambda: 1)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    videos._estimator.cache_clear()
    return tmp_path


@pytest.mark.parametrize("exports", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_tutorial_leads_to_a_model_that_answers(exports, checkout, capsys):
    """Exporting takes two thirds of the time, and has tests of its own."""
    for package in ("onnx", "onnxruntime", "onnxscript", "matplotlib"):
        pytest.importorskip(package, reason="the tutorial needs pip install 'hhmnet[all]'")
    said: dict[str, str] = {}
    for number, words, run in commands(PAGE.read_text()):
        if not run or (not exports and "strokes.onnx" in words):
            continue
        assert words[0] == "hhmnet", f"line {number}: {words[0]} can't be run here"
        smaller = SMALLER.get(words[1] + (" --phase1" if "--phase1" in words else ""), "")
        code = main([*words[1:], *shlex.split(smaller)])
        printed = capsys.readouterr()
        assert code == 0, f"docs/tutorial.md, line {number}: {printed.err}"
        said[shlex.join(words[1:])] = printed.out

    used = {"enroll", "prepare", "inspect", "train", "evaluate", "predict", *(["export"] if exports else [])}
    assert {name.split()[0] for name in said} == used
    store = Store(checkout / "stores/tennis")
    tested = [name for name, split in zip(store.sample_ids, store.splits, strict=True) if split == "fold2"]
    results = checkout / "runs/phase2/eval-test"
    scores = Scores.load(results / "scores.parquet")
    assert len(store) == 3 * len(STROKES)
    assert sorted(scores.sample_ids) == sorted(tested)
    assert confusion(scores).sum() == len(tested) == len(STROKES)
    assert confusion(scores).sum(1).tolist() == [1] * len(STROKES)
    assert (results / "confusion.png").stat().st_size > 0
    assert "What is taken for what" in (results / "report.html").read_text()

    answers = {words: json.loads(out)[0] for words, out in said.items() if "--json" in words}
    enrolled, trained, ours, *exported = answers.values()
    assert enrolled["label"] in ("serve", "smash", "unknown")
    assert trained["label"] in STROKES
    assert trained["modalities"] == ours["modalities"] == ["skeleton", "video"]
    for answer in exported:
        assert (answer["label"], answer["modalities"]) == (trained["label"], trained["modalities"])
        for one, other in zip(answer["top"], trained["top"], strict=True):
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-3)
    assert len(exported) == exports
    assert set(ours["votes"].values()) <= set(STROKES)
    for name in ("skeleton.png", "crops.png", "seen.png", "seen.mp4", "rally/timeline.png"):
        assert (checkout / name).stat().st_size > 0, name


def test_what_is_not_run_has_flags_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    waiting = [words for _, words, run in commands(PAGE.read_text()) if not run]
    assert waiting
    for program, name, *rest in waiting:
        if program != "hhmnet":
            assert (program, name) == ("source", ".venv/bin/activate") or name in targets
            continue
        assert name in COMMANDS
        assert main([name, "--help"]) == 0
        shown = capsys.readouterr().out
        for flag in (word for word in rest if word.startswith("--")):
            assert re.search(rf"{flag}\b", shown), f"hhmnet {name} has no {flag}"
