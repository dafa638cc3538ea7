from __future__ import annotations

import json
from pathlib import Path

import peers
import pytest
import torch

from hhmnet.data.transform import DataConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20

MODEL_FILE = """\
import torch
class Model(torch.nn.Module):
    def __init__(self, num_class):
        super().__init__()
        self.layer = torch.nn.Linear(3, num_class)
    def forward(self, x):
        return self.layer(x.mean((2, 3, 4)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of one stream whose accuracy was measured."""
    torch.manual_seed(0)
    config = STSTConfig(widths=(16, 16), strides=(2, 2), head_width=8)
    spec = ModelSpec(config, DataConfig(frames=8), KINECT20, tuple("abcdefghij"))
    ActionModel(spec.build(), spec).save_pretrained(tmp_path / "model")
    (tmp_path / "model/metrics.json").write_text('{"top1": 94.61}')
    return tmp_path / "model"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What stands in for CTR-GCN's: its recipe, and a model by the same name."""
    recipe = tmp_path / "peer/config/ucla/default.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("model_args: {num_class: 10}\ntrain_feeder_args: {window_size: 6}\n")
    (tmp_path / "peer/model").mkdir()
    (tmp_path / "peer/model/ctrgcn.py").write_text(MODEL_FILE)
    return tmp_path / "peer"


def call(*words: str | Path) -> int:
    short = ("--rounds", "2", "--seconds", "0.01", "--batch", "2", "--threads", "1", "--give-back")
    return peers.run(peers.main, [*map(str, words), *short])


def test_a_speed_stands_beside_the_accuracy_of_the_same_weights(
    folder: Path, checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folder, "--ctrgcn", checkout, "--json", tmp_path / "r.json") == 0
    assert "top-1 94.61 %" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    ours, peer = report["models"]["ST&ST"], report["models"]["CTR-GCN"]
    assert (ours["top1"], ours["frames"], peer["frames"]) == (94.61, 8, 6)
    for phase in ("train", "infer"):
        speeds = [model[phase]["samples_per_second"]["rounds"] for model in (ours, peer)]
        expected = [one / other for one, other in zip(*speeds, strict=True)]
        assert report["speed_ratio"][phase]["rounds"] == pytest.approx(expected)

    assert call(folder, "--frames", "16") == 0  # nobody measured the accuracy there
    assert "(top-1 not measured like this)" in " ".join(capsys.readouterr().out.split())
    (folder / "metrics.json").unlink()
    assert call(folder) == 2
    assert "holds no metrics.json; run hhmnet evaluate on it first" in capsys.readouterr().err
