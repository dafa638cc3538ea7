"""The transfer script: three ways to a class on few clips, resumed, tabled and drawn."""

from __future__ import annotations

import json

import pytest
import transfer

from hhmnet.config import TrainConfig
from made_models import skeleton_model

CONFIG = (
    "protocol: nw_ucla_cross_view\noptim: {epochs: 4, batch_size: 4, warmup_epochs: 1}\nrun: {device: cpu}\n"
)


def test_outcomes_are_made_once_tabled_and_drawn(tiny_store, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    skeleton_model(streams="joint").save_pretrained(tmp_path / "model")
    (tmp_path / "c.yaml").write_text(CONFIG)
    out, picture = tmp_path / "out.jsonl", tmp_path / "curve.png"
    words = ["--data", str(tiny_store.path), "--init", str(tmp_path / "model")]
    words += ["--config", str(tmp_path / "c.yaml"), "--out", str(out), "--draws", "1", "--steps", "2"]
    transfer.main([*words, "--sizes", "2", "--time-limit", "0.000001s"])
    assert "0 of 3 outcomes are there" in capsys.readouterr().err
    transfer.main([*words, "--sizes", "2"])
    first = out.read_bytes()
    transfer.main([*words, "--sizes", "2", "3", "--picture", str(picture)])
    assert out.read_bytes().startswith(first)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["way"], line["clips"], len(line["right"])) for line in lines] == [
        (way, 3 * size, 10) for size in (2, 3) for way in ("nothing", "init", "head")
    ]
    assert f"{10 * lines[-1]['right'].count('1'):.1f}" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(transfer.BenchmarkError, match="with another steps"):
        transfer.main([*words, "--sizes", "2", "--steps", "3"])
    clips = transfer.Clips(tiny_store, TrainConfig(fold=0))
    few, more = (set(clips.draw(size, 3, "class").tolist()) for size in (1, 3))
    assert few < more
    assert not more & set(clips.scored.tolist())
