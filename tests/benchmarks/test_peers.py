from __future__ import annotations

import json
from pathlib import Path

import peers
import pytest

from made_models import skeleton_model

MODEL_FILE = """\
import torch
class Model(torch.nn.Module):
    def __init__(self, num_class):
        super().__init__()
        self.layer = torch.nn.Linear(3, num_class)
    def forward(self, x):
        return self.layer(x.mean((2, 3, 4)))
"""


def call(*words: str | Path) -> int:
    short = ("--rounds", "2", "--seconds", "0.01", "--batch", "2", "--threads", "1", "--give-back")
    return peers.run(peers.main, [*map(str, words), *short])


def test_a_speed_stands_beside_the_accuracy_of_the_same_weights(tmp_path, capsys):
    folder, checkout = tmp_path / "model", tmp_path / "peer"
    model = skeleton_model(streams="joint", class_names=tuple("abcdefghij"))
    frames = model.spec.data.frames
    model.save_pretrained(folder)
    (folder / "metrics.json").write_text('{"top1": 94.61}')
    # What stands in for CTR-GCN's: its recipe, and a model by the same name.
    (checkout / "config/ucla").mkdir(parents=True)
    (checkout / "model").mkdir()
    recipe = "model_args: {num_class: 10}\ntrain_feeder_args: {window_size: 6}\n"
    (checkout / "config/ucla/default.yaml").write_text(recipe)
    (checkout / "model/ctrgcn.py").write_text(MODEL_FILE)
    assert call(folder, "--ctrgcn", checkout, "--json", tmp_path / "r.json") == 0
    assert "top-1 94.61 %" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    ours, peer = report["models"]["ST&ST"], report["models"]["CTR-GCN"]
    assert (ours["top1"], ours["frames"], peer["frames"]) == (94.61, frames, 6)
    for phase in ("train", "infer"):
        speeds = [model[phase]["samples_per_second"]["rounds"] for model in (ours, peer)]
        expected = [one / other for one, other in zip(*speeds, strict=True)]
        assert report["speed_ratio"][phase]["rounds"] == pytest.approx(expected)

    assert call(folder, "--frames", str(2 * frames)) == 0  # nobody measured the accuracy there
    assert "(top-1 not measured like this)" in " ".join(capsys.readouterr().out.split())
    (folder / "metrics.json").unlink()
    assert call(folder) == 2
    assert "holds no metrics.json; run hhmnet evaluate on it first" in capsys.readouterr().err
