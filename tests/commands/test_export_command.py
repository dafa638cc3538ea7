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
from hhmnet.data.protocols import get_protocol
from hhmnet.export.parity import Parity
from hhmnet.store import Store

for _package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(_package, reason="exporting needs pip install 'hhmnet[export]'")

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
    assert len({one["top"][0]["probability"] for one in found}) > 1
    for one, other in zip(found, wanted, strict=True):
        assert (one["input"], one["label"], one["modalities"]) == (
            other["input"],
            other["label"],
            ["skeleton"],
        )
        for mine, theirs in zip(one["top"], other["top"], strict=True):
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-4)


def test_size_and_comparison_are_printed(
    written: Path,
    finished_run: Path,
    store_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export, "to_onnx", lambda model: written.read_bytes())
    out, store = tmp_path / "again.onnx", Store(store_folder)
    count = len(get_protocol(store.protocol).indices(store, "test"))
    call = ["export", str(finished_run), "--out", str(out)]
    test = ["--data", str(store_folder), "--split", "test", "--clips", "99"]
    both = (["--clips", "5"], "5 made-up clips", 5), (test, f"{count} clips of {store_folder} (test)", count)
    for words, on, clips in both:
        assert main([*call, *words, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["file"], document["bytes"], document["opset"]) == (str(out), out.stat().st_size, 20)
        assert (document["compared_on"], document["parity"]["clips"]) == (on, clips)
        assert 0 < document["parity"]["largest_difference_off_edge"] <= 1e-4
    edge = Parity(np.array([1e-6, 2e-3]), np.array([1e-6, 5e-6]), np.array([True, True]))
    monkeypatch.setattr(export, "measure_parity", lambda *given: edge)
    assert main([*call, "--clips", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"file      {out}, " in printed
    assert "members   one stream" in printed
    assert (
        "parity    2 made-up clips: logits differ from PyTorch's by 1.0e-03 (median), 1.0e-06 (most)"
        in printed
    )
    assert "classes   the same on 2 of 2 clips" in printed
    assert "on edge   1 of these clips, by up to 2.0e-03" in printed


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
    assert main(["export", str(finished_run), "--out", str(tmp_path / "wrong.onnx")]) == 1
    assert not list(tmp_path.iterdir())
    said = "is not written: on 1 of 2 clips the graph answers otherwise than PyTorch, by up to 2.0e-01"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "RUN", "--out", "model.pt"], "'model.pt' must end in .onnx"),
        (["export", "RUN", "--out", "model.onnx", "--clips", "0"], "'0' is not a number from 1"),
        (["export", "RUN"], "the following arguments are required: --out"),
        (
            ["predict", "ONNX", "CLIP", "--timeline", "out"],
            "--timeline and --overlay need the model's folder",
        ),
        (["predict", "ONNX", "CLIP", "--device", "cuda"], "an ONNX file runs on the CPU"),
        (["predict", "ONNX", "CLIP", "--no-such-field", "1"], "unknown flag '--no-such-field'"),
        (["predict", "ONNX", "CLIP", "--modality", "video"], "the model looks at skeletons alone"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    finished_run: Path,
    written: Path,
    raw_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = next(file for file in sorted(raw_folder.rglob("*.json")) if file.name != "classes.json")
    places = {"RUN": str(finished_run), "ONNX": str(written), "CLIP": str(clip)}
    capsys.readouterr()
    assert main([places.get(word, word) for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_store_of_other_classes_is_refused(
    store_folder: Path, run_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run_copy / "config.json"
    settings = json.loads(config.read_text())
    settings["class_names"][0] = "something else"
    config.write_text(json.dumps(settings))
    words = ["--out", str(tmp_path / "m.onnx"), "--data", str(store_folder)]
    assert main(["export", str(run_copy), *words]) == 2
    assert "have different classes: number 0 is 'something else' in the model" in capsys.readouterr().err
