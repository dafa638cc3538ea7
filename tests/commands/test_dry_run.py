"""``hhmnet train --dry-run``, as a user runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hhmnet.benchmarks.made_data import SHAPES
from hhmnet.cli import main
from hhmnet.data.protocols import get_protocol
from hhmnet.pose.networks import CACHE_VARIABLE

SMALL = ("--model.widths=[16,16]", "--model.strides=[2,2]", "--data.frames=8", "--run.threads=1")
TINY = (*SMALL, "--optim.batch_size=4", "--optim.epochs=3", "--run.device=cpu")


def rows(text: str) -> dict[str, str]:
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in text.splitlines() if "│" in line]
    return {name: value for name, value in cells if name}


VIDEO = (
    "--phase=2",
    "--heterogeneous.backbone=small",
    "--heterogeneous.projection=8",
    "--video.instants=2",
    "--video.cell=16",
    "--video.scene=32",
)


@pytest.mark.parametrize("protocol", ["nw_ucla_cross_view", "ntu120_xset"])
def test_made_clips_of_full_shape(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--protocol", protocol, "--data.persons=2", *TINY]
    assert main(["train", "--dry-run", *words]) == 0
    out = capsys.readouterr().out
    assert "on made clips" in out
    found = rows(out)
    clips = SHAPES[protocol].train
    assert found["training clips"] == f"{clips:,}"
    assert float(found["a step"].removesuffix(" ms")) > 0
    steps = 3 * (clips // 4)
    assert f"the whole recipe, {steps:,} steps" in found
    seconds = steps * float(found["a step"].removesuffix(" ms")) / 1000
    assert float(found[f"the whole recipe, {steps:,} steps"].removesuffix(" h")) == pytest.approx(
        seconds / 3600, abs=0.06 + 0.5 * steps / 1000 / 3600
    )
    assert found["on eight such machines or GPUs, at best"].endswith(" h")
    assert int(re.sub(r"\D", "", found["peak memory"])) > 50


def test_streams_and_a_store(store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(store_folder), "--data.stream", "joint+bone", *TINY, "--fold", "0"]
    assert main(["train", "--dry-run", *words]) == 0
    out = capsys.readouterr().out
    assert "on made clips" not in out
    assert rows(out)["training clips"] == "40"
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", str(recipe), "--dry-run"]) == 2
    assert "protocol '' is isn't known; give --data STORE" in capsys.readouterr().err
    assert main(["train", "--config", str(recipe), "--out", str(tmp_path / "r")]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["train", "--config", str(recipe), "--data", str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err


def test_shapes_are_of_protocols_that_exist() -> None:
    for name in SHAPES:
        assert get_protocol(name).name == name


# Phase 2.


@pytest.fixture
def no_video(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A dry run opens no video and leaves no crop behind."""

    def refuse(*args: object) -> None:
        raise AssertionError("a video is opened")

    monkeypatch.setattr("hhmnet.data.roi.open_video", refuse)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "no cache"))


@pytest.fixture
def phase1(tmp_path: Path) -> Path:
    """A recipe of phase 1."""
    file = tmp_path / "one.yaml"
    file.write_text(
        "data: {stream: joint+bone, frames: 8, persons: 2}\n"
        "model: {widths: [16, 16], strides: [2, 2]}\noptim: {mixup: 0.2}\nrun: {graph: true}\n"
    )
    return file


def weights_of(*words: str, capsys: pytest.CaptureFixture[str]) -> int:
    assert main(["train", "--dry-run", *words, *TINY[3:]]) == 0
    found = rows(capsys.readouterr().out)
    assert float(found["a step"].removesuffix(" ms")) > 0
    return int(found["weights"].replace(",", ""))


@pytest.mark.usefixtures("no_video")
def test_phase_2_on_made_clips_and_made_crops(
    phase1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--protocol", "ntu60_xsub")
    skeletons = weights_of(*words, "--config", str(phase1), capsys=capsys)
    before = sorted(tmp_path.rglob("*"))
    both = weights_of(*words, *VIDEO, "--phase1", str(phase1), capsys=capsys)
    assert sorted(tmp_path.rglob("*")) == before
    assert both > skeletons + 100_000
    assert weights_of(*words, *VIDEO, "--phase1", str(phase1), "--fold=0", capsys=capsys) == both


@pytest.mark.usefixtures("no_video")
def test_phase_2_takes_a_trained_phase_1_and_a_store_without_videos(
    store_folder: Path, finished_run: Path, phase1: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", str(store_folder), *VIDEO)
    trained = weights_of(*words, "--phase1", str(finished_run), capsys=capsys)
    assert trained != weights_of(*words, "--phase1", str(phase1), capsys=capsys)
    # A folder of phase 1 is enough to say what is meant.
    assert trained == weights_of(*words[:2], *VIDEO[1:], "--phase1", str(finished_run), capsys=capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "has to know the network of skeletons: give --phase1 RUN, or with --phase1 the recipe"),
        (("--phase1", "nowhere"), "nowhere/config.json: not found"),
        (
            ("--phase1", "{phase1}", "--video.cell=24"),
            "field 'video.cell' is 24; it must be a multiple of 16",
        ),
        (("--phase1", "{phase1}", "--optim.mixup=0.3"), "field 'optim.mixup' is of phase 1"),
    ],
    ids=str,
)
def test_mistakes_of_phase_2(
    phase1: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.format(phase1=phase1) for word in words]
    assert main(["train", "--dry-run", "--protocol=tennis", *VIDEO, *given, *TINY[3:]]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
