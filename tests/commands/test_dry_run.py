"""``hhmnet train --dry-run``, as a user runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.commands.dry_run import SHAPES
from hhmnet.data.protocols import get_protocol

SMALL = ("--model.widths=[16,16]", "--model.strides=[2,2]", "--data.frames=8", "--run.threads=1")
TINY = (*SMALL, "--optim.batch_size=4", "--optim.epochs=3", "--run.device=cpu")


def rows(text: str) -> dict[str, str]:
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in text.splitlines() if "│" in line]
    return {name: value for name, value in cells if name}


@pytest.mark.parametrize("protocol", SHAPES)
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
