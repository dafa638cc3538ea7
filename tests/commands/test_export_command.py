"""``hhmnet export``, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.commands import export
from hhmnet.export import Parity
from hhmnet.skeleton import KINECT20
from hhmnet.store import write_store
from made_exports import exported
from made_models import CLASSES

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")

# The prediction is made in a process of its own, which says whether torch came along.
PREDICT = """
import sys
from hhmnet.cli import main
code = main(["predict", *sys.argv[1:], "--json"])
print("torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a trained model, beside the ONNX file ``model.onnx`` that the command made of it."""
    model, content = exported("skeletons")
    (tmp_path / "model.onnx").write_bytes(content)
    model.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_a_trained_model_becomes_a_file_that_answers_without_torch(run, raw_folder, capsys):
    clips = [str(file) for file in sorted(raw_folder.glob("a*.json"))][:4]
    words = [sys.executable, "-c", PREDICT, str(run.with_name("model.onnx")), *clips]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.split()[-1] == "False"
    found = json.loads(done.stdout)
    assert main(["predict", str(run), *clips, "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)
    for one, other in zip(found, wanted, strict=True):
        assert (one["input"], one["label"]) == (other["input"], other["label"])
        assert one["modalities"] == ["skeleton"]
        for mine, theirs in zip(one["top"], other["top"], strict=True):
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


def test_it_is_compared_and_not_written_where_it_answers_otherwise(
    run, make_sample, tmp_path, monkeypatch, capsys
):
    content = run.with_name("model.onnx").read_bytes()
    monkeypatch.setattr(export, "to_onnx", lambda model: content)
    store, out = tmp_path / "store", tmp_path / "again.onnx"
    settings = {"layout": KINECT20, "protocol": "nw_ucla_cross_view", "provenance": {}}
    write_store(store, [make_sample(n) for n in range(9)], class_names=CLASSES, **settings)  # type: ignore[arg-type]
    call = ["export", str(run), "--out", str(out)]
    assert main([*call, "--data", str(store), "--split", "test", "--clips", "99", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["bytes"], document["opset"]) == (str(out), out.stat().st_size, 20)
    assert (document["compared_on"], document["parity"]["clips"]) == (f"3 clips of {store} (test)", 3)
    assert 0 < document["parity"]["largest_difference_off_edge"] <= 1e-4
    edge = Parity(np.array([1e-6, 2e-3]), np.array([1e-6, 5e-6]), np.array([True, True]))
    monkeypatch.setattr(export, "measure_parity", lambda *given: edge)
    assert main([*call, "--clips", "2"]) == 0
    printed = capsys.readouterr().out
    assert "logits differ from PyTorch's by 1.0e-03 (median), 1.0e-06 (most)" in printed
    assert "on edge   1 of these clips, by up to 2.0e-03" in printed
    out.unlink()
    wrong = Parity(np.array([1e-6, 0.25]), np.array([1e-6, 0.2]), np.array([True, False]))
    monkeypatch.setattr(export, "measure_parity", lambda *given: wrong)
    assert main(call) == 1
    assert not out.exists()
    said = "is not written: on 1 of 2 clips the graph answers otherwise than PyTorch, by up to 2.0e-01"
    assert said in capsys.readouterr().err
