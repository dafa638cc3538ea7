"""What a model leans on, as a user asks for it; the parts of a model with a video."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.evaluation.knock_out import parts_of
from hhmnet.evaluation.scores import Scores, score
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.store import Store
from made_video_world import VideoWorld


def test_what_a_video_is_worth(video_world: VideoWorld) -> None:
    model, store = from_pretrained(video_world.run), Store(video_world.store)
    network = model.network
    assert isinstance(network, HeterogeneousNetwork)
    network.register_buffer("weights", torch.tensor([0.0, 0.0, 1.0]))  # the video's answer alone
    whole = score(model, store, np.arange(30)).logits

    def run() -> Scores:
        return score(model, store, np.arange(30), batch_size=7)

    found = {}
    for part, taken_out in parts_of(model, run).items():
        with taken_out():
            found[part] = run().logits
    assert list(found)[-7:] == [
        *("stream joint", "stream bone", "video", "guidance", "guidance, against another clip's"),
        *("pictures of body parts", "picture of the scene"),
    ]
    bias = network.video.part_head.bias.detach().numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            network.video.scene_head.weight, "data", torch.zeros_like(network.video.scene_head.weight)
        )  # type: ignore[union-attr]
        np.testing.assert_allclose(
            found["picture of the scene"], score(model, store, np.arange(30)).logits, atol=1e-5
        )
    scenes = found["pictures of body parts"] - bias
    np.testing.assert_allclose(whole - found["picture of the scene"], scenes, atol=1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "config", replace(network.config, guidance="none"))
        np.testing.assert_allclose(found["guidance"], score(model, store, np.arange(30)).logits, atol=1e-5)
    assert abs(found["guidance, against another clip's"] - whole).max() > 1e-4
    np.testing.assert_array_equal(score(model, store, np.arange(30)).logits, whole)


def test_the_command_has_the_table(
    video_world: VideoWorld,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    words = ["evaluate", str(video_world.phase1), "--data", str(video_world.store), "--out", str(tmp_path)]
    assert main([*words, "--knock-out"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    parts = [part["part"] for part in metrics["knock_out"]]
    assert {"dynamic mask", "stream joint", "stream bone"} < set(parts)
    printed, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for part in metrics["knock_out"]:
        clips = (part["top1"] - metrics["top1"]) / 100 * metrics["n"]
        assert part["won"] - part["lost"] == pytest.approx(clips)
        assert part["interval"][0] <= metrics["top1"] - part["top1"] <= part["interval"][1]
        assert f"<td>without {part['part']}</td>".replace("'", "&#x27;") in page
    assert "without reranking" in printed
    assert 0 < metrics["static_share"] < 1
    assert f"{100 * metrics['static_share']:.0f} % is the learned graph" in page
