"""``hhmnet train --dry-run``, as a user runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hhmnet.benchmarks.made_data import SHAPES
from hhmnet.cli import main
from hhmnet.pose.networks import CACHE_VARIABLE

SHORT = ("--run.threads=1", "--optim.batch_size=4", "--optim.epochs=3", "--run.device=cpu")
SMALL = ("--model.widths=[16,16]", "--model.strides=[2,2]", "--data.frames=8")
NO_PHASE = ("--heterogeneous.backbone=small", "--heterogeneous.projection=8", "--video.instants=2")
VIDEO = ("--phase=2", *NO_PHASE, "--video.cell=16", "--video.scene=32")


@pytest.fixture
def phase1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A recipe of phase 1, where no video can be opened and no crop be left behind."""

    def refuse(*args: object) -> None:
        raise AssertionError("a video is opened")

    monkeypatch.setattr("hhmnet.data.roi.open_video", refuse)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no cache"))
    file = tmp_path / "one.yaml"
    file.write_text(
        "data: {stream: joint+bone, frames: 8, persons: 2}\n"
        "model: {widths: [16, 16], strides: [2, 2]}\noptim: {mixup: 0.2}\nrun: {graph: true}\n"
    )
    return file


def table(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """What a dry run finds, and the table's title."""
    assert main(["train", "--dry-run", *words, *SHORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in lines if "│" in line]
    found = {name: value for name, value in cells if name} | {"title": lines[0]}
    assert float(found["a step"].removesuffix(" ms")) > 0
    return found


def weights(found: dict[str, str]) -> int:
    return int(found["weights"].replace(",", ""))


def test_made_clips_of_full_shape(capsys: pytest.CaptureFixture[str]) -> None:
    protocol = "ntu120_xset"
    found = table(capsys, "--protocol", protocol, "--data.persons=2", *SMALL)
    assert "on made clips" in found["title"]
    clips = SHAPES[protocol].train
    steps = 3 * (clips // 4)
    seconds = steps * float(found["a step"].removesuffix(" ms")) / 1000
    assert found["training clips"] == f"{clips:,}"
    whole = found[f"the whole recipe, {steps:,} steps"]
    assert float(whole.removesuffix(" h")) == pytest.approx(seconds / 3600, abs=0.06 + steps / 7.2e6)
    assert found["on eight such machines or GPUs, at best"].endswith(" h")
    assert int(re.sub(r"\D", "", found["peak memory"])) > 50


def test_phase_2_on_made_clips_and_made_crops(
    phase1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--protocol", "nw_ucla_cross_view")
    skeletons = table(capsys, *words, "--config", str(phase1))
    before = sorted(tmp_path.rglob("*"))
    both = table(capsys, *words, *VIDEO, "--phase1", str(phase1), "--fold=0")
    assert sorted(tmp_path.rglob("*")) == before
    assert weights(both) > weights(skeletons) + 100_000
