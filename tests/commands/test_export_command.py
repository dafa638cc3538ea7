from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.commands import export
from hhmnet.data.protocols import get_protocol
from hhmnet.export.parity import Parity
from hhmnet.store import Store

pytest.importorskip("onnx", reason="exporting needs pip install 'hhmnet[export]'")
pytest.importorskip("onnxruntime", reason="exporting needs pip install 'hhmnet[export]'")
pytest.importorskip("onnxscript", reason="exporting needs pip install 'hhmnet[export]'")

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")

RIGHT = Parity(np.array([1e-6]), np.array([1e-6]), np.array([True]))
# The prediction is made in a process of its own, which says whether torch came along.
PREDICT = """
import sys
from hhmnet.cli import main
code = main(["predict", *sys.argv[1:], "--json"])
print("torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def written(finished_run: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file that the command wrote; only for reading."""
    out = tmp_path_factory.mktemp("onnx") / "below" / "model.onnx"
    words = ["export", str(finished_run), "--out", str(out), "--data", str(store_folder), "--clips", "9"]
    assert main(words) == 0
    return out


def test_a_trained_model_becomes_a_file_that_answers_without_torch(
    written: Path, finished_run: Path, raw_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [str(file) for file in sorted(raw_folder.rglob("*.json")) if file.name != "classes.json"][:4]
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(written), *clips], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split()[-1] == "False"
    found = json.loads(done.stdout)
    capsys.readouterr()
    assert main(["predict", str(finished_run), *clips, "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)
    assert [one["input"] for one in found] == clips
    assert len({one["top"][0]["probability"] for one in found}) > 1
    for one, other in zip(found, wanted, strict=True):
        assert one["label"] == other["label"]
        assert one["modalities"] == other["modalities"] == ["skeleton"]
        for mine, theirs in zip(one["top"], other["top"], strict=True):
            assert mine["label"] == theirs["label"]
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


def test_size_and_comparison_are_printed(
    written: Path,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export, "to_onnx", lambda model: written.read_bytes())
    out = tmp_path / "again.onnx"
    assert main(["export", str(finished_run), "--out", str(out), "--clips", "5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["bytes"] == out.stat().st_size
    assert document["file"] == str(out)
    assert document["opset"] == 20
    assert document["compared_on"] == "5 made-up clips"
    assert document["parity"]["clips"] == 5
    assert 0 < document["parity"]["largest_difference_off_edge"] <= 1e-4
    assert main(["export", str(finished_run), "--out", str(out), "--clips", "5"]) == 0
    printed = capsys.readouterr().out
    assert f"file      {out}, " in printed
    assert "parity    5 made-up clips: logits differ from PyTorch's by" in printed


def test_a_split_of_a_store_is_compared_on(
    written: Path,
    finished_run: Path,
    store_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export, "to_onnx", lambda model: written.read_bytes())
    seen = []
    monkeypatch.setattr(
        export, "measure_parity", lambda model, content, batches: seen.extend(batches) or RIGHT
    )
    out = ("--out", str(tmp_path / "m.onnx"), "--data", str(store_folder), "--json")
    assert main(["export", str(finished_run), *out, "--split", "test", "--clips", "99"]) == 0
    found = [row for batch in seen for row in batch.index.tolist()]
    store = Store(store_folder)
    wanted = get_protocol(store.protocol).indices(store, "test")
    assert found == wanted.tolist()
    assert 0 < len(found) < len(store)
    document = json.loads(capsys.readouterr().out)
    assert document["compared_on"] == f"{len(found)} clips of {store_folder} (test)"


def test_a_graph_that_answers_otherwise_is_not_written(
    written: Path,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = Parity(np.array([1e-6, 0.25]), np.array([1e-6, 0.2]), np.array([True, False]))
    monkeypatch.setattr(export, "to_onnx", lambda model: written.read_bytes())
    monkeypatch.setattr(export, "measure_parity", lambda *given: wrong)
    out = tmp_path / "wrong.onnx"
    assert main(["export", str(finished_run), "--out", str(out)]) == 1
    assert not list(tmp_path.iterdir())
    assert "is not written: on 1 of 2 clips the graph answers otherwise than PyTorch, by up to 2.0e-01" in (
        capsys.readouterr().err
    )


def test_clips_on_an_edge_are_told() -> None:
    parity = Parity(np.array([1e-6, 2e-3]), np.array([1e-6, 5e-6]), np.array([True, True]))
    document = {
        "file": "a.onnx",
        "bytes": 2**20,
        "opset": 20,
        "members": ["joint", "bone"],
        "compared_on": "2 clips of S",
        "parity": parity.to_dict(),
    }
    lines = export.describe(document, parity)
    assert lines[0] == "file      a.onnx, 1.00 MiB, opset 20"
    assert lines[1] == "members   joint, bone"
    assert "1.0e-06 (most); allowed are 1e-04" in lines[2]
    assert lines[3] == "classes   the same on 2 of 2 clips"
    assert lines[4].startswith("on edge   1 of these clips, by up to 2.0e-03")
    assert "within 5.0e-06" in lines[4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "model.pt"], "'model.pt' must end in .onnx"),
        (["--out", "model.onnx", "--clips", "0"], "'0' is not a number from 1"),
        ([], "the following arguments are required: --out"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(finished_run), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_store_of_other_classes_is_refused(
    finished_run: Path, store_folder: Path, run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run_copy / "config.json"
    settings = json.loads(config.read_text())
    settings["class_names"][0] = "something else"
    config.write_text(json.dumps(settings))
    words = ["--out", str(tmp_path / "m.onnx"), "--data", str(store_folder)]
    assert main(["export", str(run_copy), *words]) == 2
    assert "have different classes: number 0 is 'something else' in the model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--timeline", "out"], "--timeline and --overlay need the model's folder"),
        (["--device", "cuda"], "an ONNX file runs on the CPU"),
        (["--no-such-field", "1"], "unknown flag '--no-such-field'"),
        (["--modality", "video"], "the model looks at skeletons alone"),
    ],
)
def test_predict_refuses_what_an_onnx_file_cannot_do(
    words: list[str], message: str, written: Path, raw_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = next(file for file in sorted(raw_folder.rglob("*.json")) if file.name != "classes.json")
    assert main(["predict", str(written), str(clip), *words]) == 2
    assert message in capsys.readouterr().err
