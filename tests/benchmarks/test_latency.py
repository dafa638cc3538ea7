from __future__ import annotations

import sys
from pathlib import Path

import latency
import numpy as np
import pytest
import torch

from made_exports import exported

# One worker makes the graphs for all of them.
pytestmark = pytest.mark.xdist_group("export")


def test_all_ways_answer_alike_on_the_same_clip() -> None:
    model, content = exported("skeletons")
    found = {name: call() for name, call in latency.ways_of(model, content, 33, 1).items()}
    wanted = found["PyTorch, from joints"].logits  # type: ignore[attr-defined]
    np.testing.assert_allclose(found["PyTorch, network alone"].logits, wanted, atol=1e-5)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found["onnxruntime, from joints"][0], wanted, atol=1e-4)  # type: ignore[index]


def test_every_call_is_timed_after_the_warm_up() -> None:
    made: list[str] = []
    found = latency.time_calls({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, 7)
    assert made == ["a", "b"] * (latency.WARM_UP + 7)
    assert {name: seconds.shape for name, seconds in found.items()} == {"a": (7,), "b": (7,)}
    assert all((seconds > 0).all() for seconds in found.values())


def test_the_table_has_a_line_for_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, content = exported("skeletons")
    model.save_pretrained(tmp_path / "two")
    (tmp_path / "two.onnx").write_bytes(content)
    words = ["--model", str(tmp_path / "two"), str(tmp_path / "two.onnx"), "--calls", "4", "--frames", "20"]
    monkeypatch.setattr(sys, "argv", ["latency.py", *words])
    threads = torch.get_num_threads()
    latency.main()
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("threads 1, 20 frames")
    assert [line.split(":")[1][1:25].strip() for line in lines[2:]] == [
        "PyTorch, from joints",
        "PyTorch, network alone",
        "preprocessing of joints",
        "onnxruntime, from joints",
    ]
    for line in lines[2:]:
        middle, late, least = map(float, line.split()[-3:])
        assert 0 < least <= middle <= late
