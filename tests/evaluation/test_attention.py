"""What is drawn of RE-DMT's attention is what was used."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from hhmnet.cli import main
from hhmnet.models.layers import MASKS, RERANKINGS, STSTConfig
from hhmnet.models.re_dmt import REDMT
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store


@pytest.mark.parametrize(("mask", "reranking"), list(itertools.product(MASKS, RERANKINGS)))
def test_an_explanation_holds_the_weights_that_are_used(
    mask: str, reranking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = STSTConfig((16,), (1,), head_width=8, mask=mask, reranking=reranking)
    module = REDMT(16, config, KINECT20).eval()
    x, used = torch.randn(3, 16, 20, 6), []
    plain = module.attention
    monkeypatch.setattr(module, "attention", lambda logits: used.append(plain(logits)) or used[-1])
    module(x)
    found = module.explain(x)
    torch.testing.assert_close(found.weights, used[0])
    torch.testing.assert_close(found.plain.sum(-1), torch.ones(3, 2, 20))
    assert not found.weights[~found.kept].any()
    assert bool(found.kept.all()) == (mask == "none")


def test_inspect_draws_attention(
    finished_run: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(Store(store_folder).sample_ids[0])
    words = ["inspect", str(store_folder), "--sample", name, "--attention", str(finished_run)]
    assert main([*words, "--picture", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert main(words) == 2
    assert "--attention draws a picture; name it with --picture FILE.png" in capsys.readouterr().err
