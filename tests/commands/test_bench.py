"""``hhmnet bench`` and ``hhmnet train --dry-run``, as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest

from hhmnet.benchmarks.measure import SHAPES
from hhmnet.cli import main
from hhmnet.pose.networks import CACHE_VARIABLE

SMALL = ("--model.widths=[16,16]", "--model.strides=[2,2]", "--data.frames=8", "--run.device=cpu")
TINY = (*SMALL, "--optim.batch_size=2", "--run.threads=1", "--run.workers=0", "--rounds=2", "--seconds=0.01")
VIDEO = ["--heterogeneous.backbone=small", "--heterogeneous.projection=8", "--video.instants=2"]
VIDEO += ["--video.cell=16", "--video.scene=32", "--run.device=cpu"]


def test_what_is_measured(capsys):
    assert main(["bench", *TINY]) == 0
    printed = capsys.readouterr()
    assert main(["bench", *TINY, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    about = {"protocol": "nw_ucla_cross_view", "phase": 1, "streams": ["joint"], "batch": 2, "frames": 8}
    about |= {"joints": 20, "persons": 1, "classes": 10, "device": "cpu", "precision": "float32"}
    assert report["about"] == about | {"compile": False, "graph": False}
    for phase in ("training", "inference"):
        ours, theirs, ratio = (speed["rounds"] for speed in report[phase].values())
        assert ratio == pytest.approx([one / other for one, other in zip(ours, theirs, strict=True)])
        assert len(ratio) == 2
    assert "round 2/2: training" in printed.err
    for words in ("protocol nw_ucla_cross_view", "ST-GCN, samples/s", "ratio"):
        assert words in printed.out


def test_phase_2(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config=tennis/heterogeneous", "--heterogeneous.weights=[]", "--optim.batch_size=2", *VIDEO]
    words += ["--phase1", str(recipe), "--json", "--rounds=1", "--seconds=0.01"]
    assert main(["bench", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["about"]["phase"] == 2
    assert report["parameters"] > 100_000


def dry_run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """What a dry run finds, and the table's title."""
    short = ("--run.threads=1", "--optim.batch_size=4", "--optim.epochs=3", "--run.device=cpu")
    assert main(["train", "--dry-run", *words, *short]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in lines if "│" in line]
    return {name: value for name, value in cells if name} | {"title": lines[0]}


def test_a_dry_run_on_made_clips_of_full_shape(capsys: pytest.CaptureFixture[str]) -> None:
    found = dry_run(capsys, "--protocol", "ntu120_xset", "--data.persons=2", *SMALL)
    assert "on made clips" in found["title"]
    clips = SHAPES["ntu120_xset"].train
    steps, step = 3 * (clips // 4), float(found["a step"].removesuffix(" ms"))
    assert found["training clips"] == f"{clips:,}"
    whole = float(found[f"the whole recipe, {steps:,} steps"].removesuffix(" h"))
    assert whole == pytest.approx(steps * step / 3.6e6, abs=0.06 + steps / 7.2e6)
    assert int(re.sub(r"\D", "", found["peak memory"])) > 50


def test_a_dry_run_of_phase_2_needs_no_video_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hhmnet.data.roi.open_video", Mock(side_effect=AssertionError("a video is opened")))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no cache"))
    phase1 = tmp_path / "one.yaml"
    phase1.write_text(
        "data: {stream: joint+bone, frames: 8, persons: 2}\n"
        "model: {widths: [16, 16], strides: [2, 2]}\noptim: {mixup: 0.2}\nrun: {graph: true}\n"
    )
    words = ("--protocol", "nw_ucla_cross_view", "--phase=2", *VIDEO, "--phase1", str(phase1), "--fold=0")
    found = dry_run(capsys, *words)
    assert list(tmp_path.iterdir()) == [phase1]
    assert int(found["weights"].replace(",", "")) > 100_000
