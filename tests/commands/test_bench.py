"""``hhmnet bench``, as a user runs it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hhmnet.benchmarks.measure import PARTS
from hhmnet.cli import main
from hhmnet.commands import bench

pytestmark = pytest.mark.xdist_group("bench")

MODEL = ("--model.widths=[16,16]", "--model.strides=[2,2]", "--data.frames=8")
TINY = (*MODEL, "--optim.batch_size=2", "--run.threads=1", "--run.device=cpu")
SHORT = ("--rounds=2", "--seconds=0.01")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A report, and what was said beside it."""
    file = tmp_path_factory.mktemp("bench") / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("rich.console.Console.print", lambda self, *words, **more: said.append(str(words)))
        assert main(["bench", "--shape=nw_ucla", *TINY, *SHORT, "--out", str(file)]) == 0
    return file, "".join(said)


@pytest.fixture
def made(written: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the next measurement finds, without measuring; tests change it."""
    found: dict[str, Any] = json.loads(written[0].read_text())
    monkeypatch.setattr(bench, "measure", lambda *words, **more: copy.deepcopy(found["cases"][0]))
    return found


def test_what_is_measured(written: tuple[Path, str]) -> None:
    found = json.loads(written[0].read_text())
    (case,) = found["cases"]
    assert case["name"] == "nw_ucla"
    about = {"protocol": "nw_ucla_cross_view", "phase": 1, "streams": ["joint"], "batch": 2, "frames": 8}
    about |= {"joints": 20, "persons": 1, "classes": 10, "device": "cpu", "precision": "float32"}
    assert case["about"] == about | {"compile": False, "graph": False}
    assert found["machine"]["threads"] >= 1
    for phase in ("training", "inference"):
        figures = case[phase]
        ours, theirs = figures["samples_per_second"], figures["reference_samples_per_second"]
        assert len(ours["rounds"]) == 2
        for number in range(2):
            ratio = ours["rounds"][number] / theirs["rounds"][number]
            assert figures["ratio"]["rounds"][number] == pytest.approx(ratio)
    # Backward multiplies by the weights and by the inputs.
    assert 2 < case["training"]["gflop_per_sample"] / case["inference"]["gflop_per_sample"] < 4
    assert tuple(case["training"]["parts_ms"]) == PARTS
    assert case["training"]["parts_ms"]["forward"] > case["training"]["parts_ms"]["rest"] > 0
    assert "nw_ucla, round 2/2: training" in written[1]


def test_the_table(made: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    made["cases"][0]["training"]["ratio"]["median"] = 4.561
    assert main(["bench", "--shape=nw_ucla", *TINY]) == 0
    captured = capsys.readouterr()
    for words in ("ST-GCN, samples/s", "4.56 (", "GFLOP a sample", "optimiser"):
        assert words in captured.out
    assert "nw_ucla: phase 1, joint, " in captured.out
    assert "batch 2, T=8 V=20 M=1, cpu, float32" in captured.out


def test_without_a_recipe_two_shapes_are_measured(
    made: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def noted(config: Any, *words: Any, **more: Any) -> dict[str, Any]:
        measured.append((config.protocol, config.data.frames, config.data.persons, config.optim.batch_size))
        return {"about": made["cases"][0]["about"]}

    monkeypatch.setattr(bench, "measure", noted)
    recipe = str(Path(__file__).parents[2] / "configs/nw_ucla/skeleton.yaml")
    named = []
    for words in (
        (),
        ("--shape", "ntu120", "--data.frames", "32"),
        ("--config", recipe),
        ("--config", recipe, "--shape", "ntu60"),
    ):
        assert main(["bench", "--json", *words]) == 0
        named += [case["name"] for case in json.loads(capsys.readouterr().out)["cases"]]
    assert named == ["nw_ucla", "ntu60", "ntu120", "nw_ucla/skeleton", "nw_ucla/skeleton as ntu60"]
    assert measured == [
        ("nw_ucla_cross_view", 52, 1, 16),
        ("ntu60_xsub", 64, 2, 8),
        ("ntu120_xsub", 32, 2, 8),
        ("nw_ucla_cross_view", 48, 1, 32),
        ("ntu60_xsub", 64, 2, 8),
    ]


@pytest.mark.parametrize(
    ("factor", "words", "code", "message"),
    [
        (1.0, (), 0, "nothing is slower"),
        (0.85, (), 1, "nw_ucla, training: 3.4 times ST-GCN's speed, it was 4 (15 % slower)"),
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
    ratio = made["cases"][0]["training"]["ratio"]
    ratio["median"] = 4.0
    (tmp_path / "before.json").write_text(json.dumps(made))
    ratio["median"] *= factor
    before = ("--baseline", str(tmp_path / "before.json"))
    assert main(["bench", "--shape=nw_ucla", *TINY, *before, *words]) == code
    err = capsys.readouterr().err
    assert message in " ".join(err.split())
    assert "inference:" not in err


def test_a_baseline_of_something_else(
    made: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline, now = tmp_path / "before.json", json.dumps(made)
    for content, message in (
        (now.replace('"batch": 2', '"batch": 16'), "the field 'batch' was 16, and is 2 now"),
        (now.replace('"name": "nw_ucla"', '"name": "ntu60"'), "it has no case 'nw_ucla', but ntu60"),
        ('{"cases": [{}]}', "not a report that hhmnet bench --out wrote"),
        ("[", "not a report that hhmnet bench --out wrote"),
        (None, f"{baseline}: No such file"),
    ):
        baseline.unlink(missing_ok=True)
        if content:
            baseline.write_text(content)
        assert main(["bench", "--shape=nw_ucla", *TINY, "--baseline", str(baseline)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rounds=0",), "argument --rounds: give a number above 0"),
        (("--round=3",), "unknown flag '--round'; did you mean '--rounds'?"),
        (("--phase=2",), "a recipe of phase 2 has to know the network of skeletons"),
        (("--data=nowhere",), "nowhere"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *TINY, *words]) == 2
    assert message in capsys.readouterr().err


def test_phase_2_on_a_store(store_folder: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--phase=2", "--phase1", str(recipe), "--heterogeneous.backbone=small", "--video.instants=2"]
    words += ["--heterogeneous.projection=8", "--video.cell=16", "--video.scene=32", "--run.device=cpu"]
    command = ["bench", "--data", str(store_folder), *words, "--optim.batch_size=2", "--json"]
    assert main([*command, "--rounds=1", "--seconds=0.01"]) == 0
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert case["about"]["phase"] == 2
    assert case["training"]["parts_ms"]["backward"] > 0
    assert case["parameters"] > 100_000
