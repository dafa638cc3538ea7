"""The tutorial's commands, as they stand in the page, on made clips.

Every line of each ``sh`` block of docs/tutorial.md is a command of hhmnet and is run, in order. A block below the line
``<!-- not run -->`` installs something or doesn't end by itself; of its commands only the flags are looked at.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from hhmnet.cli import COMMANDS, main
from hhmnet.evaluation.metrics import confusion
from hhmnet.evaluation.scores import Scores
from hhmnet.pose import estimate
from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.readers import videos
from hhmnet.store import Store
from made_strokes import STROKES, make_strokes

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"

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


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the page's commands are given, with clips as the page lays them out."""
    for part in ("configs", "zoo"):
        (tmp_path / part).symlink_to(ROOT / part)
    players = make_strokes(tmp_path / "tennis")
    players.film(tmp_path / "new.mp4", [("serve", 5)], view=3)
    for stroke in ("serve", "smash"):
        (tmp_path / "mine" / stroke).mkdir(parents=True)
        for subject in (1, 2):
            players.film(tmp_path / f"mine/{stroke}/{subject}.mp4", [(stroke, subject)], view=2)
    players.film(tmp_path / "rally.mp4", [("serve", 6), ("forehand", 6)], view=3)
    monkeypatch.setattr(videos, "fetch_models", dict)
    monkeypatch.setattr(estimate, "_load_detector", lambda config: players)
    monkeypatch.setattr(estimate, "_load_estimator", lambda: players)
    monkeypatch.setattr("hhmnet.commands.crops.cores", lambda: 1)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    videos._estimator.cache_clear()
    return tmp_path


@pytest.mark.parametrize("exports", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_tutorial_leads_to_a_model_that_answers(
    exports: bool, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
