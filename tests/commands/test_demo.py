from __future__ import annotations

import json
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.commands import demo as demo_module
from hhmnet.commands.configuration import read_config
from hhmnet.synthetic import SKELETON_CEILING


@pytest.fixture
def demo(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def run(*more: str) -> int:
        return main(["demo", "--config", str(recipe), "--clips", "30", *more])

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps that every training of a demo began and ended at."""
    from hhmnet.training.engine import Trainer

    steps: list[int] = []
    before = Trainer.train

    def train(self, time_limit=None):
        steps.append(self.step)
        return before(self, time_limit)

    monkeypatch.setattr(Trainer, "train", train)
    return steps


def test_the_whole_way_and_once_more(demo, trained, capsys):
    assert demo() == 0
    out = Path("runs/demo")
    captured = capsys.readouterr()
    assert "highest possible" in captured.out
    assert f"{100 * SKELETON_CEILING:.2f}" in captured.out
    assert "object in the hand" in captured.err
    assert json.loads((out / "run" / "eval-test" / "metrics.json").read_text())["n"] == 10
    pytest.importorskip("matplotlib")
    for name in ("clips.png", "curves.png", "confusion.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert name in captured.err

    weights = (out / "run" / "model.safetensors").read_bytes()
    assert demo() == 0
    assert "has finished already" in capsys.readouterr().err
    assert (out / "run" / "model.safetensors").read_bytes() == weights
    assert trained == [0]


def test_a_stopped_demo_goes_on(demo, trained, capsys):
    assert demo("--time-limit", "0.001s") == 0
    assert "run the demo again to go on" in capsys.readouterr().err
    assert not Path("runs/demo/run/model.safetensors").exists()
    assert demo() == 0
    assert trained == [0, 1]


def test_other_data_or_another_recipe_start_anew(demo, trained, tmp_path):
    assert demo("--time-limit", "0.001s") == 0
    assert demo("--clips", "60", "--time-limit", "0.001s") == 0
    assert trained == [0, 0]
    other = tmp_path / "other.yaml"
    other.write_text(
        "model: {widths: [8], strides: [8], head_width: 8}\noptim: {epochs: 1}\nrun: {threads: 1}\n"
    )
    assert demo("--clips", "60", "--config", str(other)) == 0
    assert trained == [0, 0, 0]


def test_a_killed_demo_runs_again(demo):
    out = Path("runs/demo")
    (out / "raw").mkdir(parents=True)
    (out / "raw" / "a01_s01_e00_v01.json").write_text('{"file_name"')
    demo_module._mark(out, {})
    (out / "store").mkdir()
    (out / "store" / ".samples.arrow.0123.tmp").write_text("half")
    (out / "run").mkdir()
    (out / "run" / "config.yaml").write_text("fold: null\n")
    assert demo() == 0
    assert (out / "run" / "model.safetensors").exists()


def test_real_files_have_their_own_folder(demo, raw_folder, capsys):
    assert demo("--data", str(raw_folder)) == 0
    assert Path("runs/demo-nw_ucla/run/model.safetensors").exists()
    assert not Path("runs/demo").exists()
    assert "highest possible" not in capsys.readouterr().out


def test_a_folder_with_other_things_is_left_alone(demo, capsys):
    out = Path("mine")
    (out / "run").mkdir(parents=True)
    (out / "run" / "work.txt").write_text("mine")
    (out / "demo.json").write_text('{"made_of": {}}')
    assert demo("--out", "mine") == 2
    assert "mine: holds something else than a demo" in capsys.readouterr().err
    assert (out / "run" / "work.txt").exists()


def test_mistakes(demo, capsys):
    assert demo("--clips", "0") == 2
    assert "field 'clips' must be 1 to" in capsys.readouterr().err
    assert demo("--data", "/nowhere") == 2
    assert "no folder at /nowhere" in capsys.readouterr().err


def test_the_packaged_recipe_fits_the_sample():
    config = read_config(demo_module._sample_recipe())
    assert config.protocol == "nw_ucla_cross_view"
    assert demo_module.CLIPS % 30 == 0  # balanced: every action by every camera


def test_nw_uclas_recipe_is_only_in_a_checkout(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_module, "RECIPE", tmp_path / "none.yaml")
    assert main(["demo", "--data", str(tmp_path)]) == 2
    assert "name one with --config" in capsys.readouterr().err
