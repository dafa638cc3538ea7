"""``hhmnet bench``, as a user runs it."""

from __future__ import annotations

import copy
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from hhmnet.cli import main
from hhmnet.commands import bench

pytestmark = pytest.mark.xdist_group("bench")

MODEL = ("--model.widths=[16,16]", "--model.strides=[2,2]", "--data.frames=8")
TINY = (*MODEL, "--optim.batch_size=2", "--run.threads=1", "--run.device=cpu", "--run.workers=0")
SHORT = ("--rounds=2", "--seconds=0.01")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A report, the table, and what was said beside it."""
    file, printed, said = tmp_path_factory.mktemp("bench") / "report.json", io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(said):
        assert main(["bench", *TINY, *SHORT, "--out", str(file)]) == 0
    return file, printed.getvalue(), said.getvalue()


@pytest.fixture
def made(written: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the next measurement finds, without measuring; tests change it."""
    found: dict[str, Any] = json.loads(written[0].read_text())
    monkeypatch.setattr(bench, "measure", lambda *words: copy.deepcopy(found))
    return found


def test_what_is_measured(written: tuple[Path, str, str]) -> None:
    file, printed, said = written
    report = json.loads(file.read_text())
    about = {"protocol": "nw_ucla_cross_view", "phase": 1, "streams": ["joint"], "batch": 2, "frames": 8}
    about |= {"joints": 20, "persons": 1, "classes": 10, "device": "cpu", "precision": "float32"}
    assert report["about"] == about | {"compile": False, "graph": False}
    for phase in ("training", "inference"):
        ours, theirs, ratio = (
            report[phase][name]["rounds"]
            for name in ("samples_per_second", "reference_samples_per_second", "ratio")
        )
        assert ratio == pytest.approx([one / other for one, other in zip(ours, theirs, strict=True)])
        assert len(ratio) == 2
    assert "round 2/2: training" in said
    for words in ("nw_ucla_cross_view: phase 1, joint, ", "T=8 V=20 M=1, cpu", "ST-GCN, samples/s", "ratio"):
        assert words in printed


@pytest.mark.parametrize(
    ("factor", "words", "code", "message"),
    [
        (1.0, (), 0, "nothing is slower"),
        (0.85, (), 1, "training: 3.4 times ST-GCN's speed, it was 4 (15 % slower)"),
        (0.85, ("--tolerance=20",), 0, "by more than 20 %"),
    ],
)
def test_a_baseline(
    made: dict[str, Any],
    tmp_path: Path,
    factor: float,
    words: tuple[str, ...],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ratio = made["training"]["ratio"]
    ratio["median"] = 4.0
    (tmp_path / "before.json").write_text(json.dumps(made))
    ratio["median"] *= factor
    assert main(["bench", *TINY, "--baseline", str(tmp_path / "before.json"), *words]) == code
    err = capsys.readouterr().err
    assert message in " ".join(err.split())
    assert "inference:" not in err


def test_mistakes(made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "before.json"
    for content, message in (
        (json.dumps(made).replace('"batch": 2', '"batch": 16'), "the field 'batch' was 16, and is 2 now"),
        ("[", "not a report that hhmnet bench --out wrote"),
    ):
        file.write_text(content)
        assert main(["bench", *TINY, "--baseline", str(file)]) == 2
        assert message in capsys.readouterr().err


def test_phase_2(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "--config=tennis/heterogeneous --heterogeneous.backbone=small --heterogeneous.weights=[] --run.device=cpu "
    text += "--heterogeneous.projection=8 --video.instants=2 --video.cell=16 --video.scene=32 --optim.batch_size=2"
    words = [*text.split(), "--phase1", str(recipe), "--json", "--rounds=1", "--seconds=0.01"]
    assert main(["bench", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["about"]["phase"] == 2
    assert report["parameters"] > 100_000
