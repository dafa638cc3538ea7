"""What is shown of the attention is what the network used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.data.transform import DataConfig
from hhmnet.evaluation.attention import attention_of, draw_attention
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.re_dmt import MASKS, REDMT, RERANKINGS
from hhmnet.models.stst import STSTConfig
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, KINECT20, SkeletonLayout

CONFIG = STSTConfig(widths=(16, 32, 32), strides=(1, 2, 1), head_width=8)


def model(stream: str = "joint", layout: SkeletonLayout = KINECT20, **changed: object) -> ActionModel:
    torch.manual_seed(0)
    config = replace(CONFIG, **changed)  # type: ignore[arg-type]
    spec = ModelSpec(config, DataConfig(stream=stream, frames=8, persons=2), layout, ("a", "b"))
    return ActionModel(spec.build(), spec)


def sample(layout: SkeletonLayout = KINECT20) -> Sample:
    random = np.random.default_rng(0)
    present = np.ones((1, 9), bool)
    present[0, 4] = False
    joints = random.normal(size=(1, 9, layout.num_joints, layout.dims)).astype(np.float32)
    joints *= present[..., None, None]
    return Sample("clip", 0, joints, present, np.arange(9, dtype=np.int32))


@pytest.mark.parametrize("reranking", RERANKINGS)
@pytest.mark.parametrize("mask", MASKS)
def test_an_explanation_holds_the_weights_that_are_used(mask: str, reranking: str) -> None:
    torch.manual_seed(0)
    attention = REDMT(16, 2, KINECT20, mask=mask, density=0.4, reranking=reranking).eval()
    x = torch.randn(3, 16, 20, 6)
    used: list[torch.Tensor] = []
    attention.dropout.register_forward_hook(lambda module, inputs, output: used.append(output))
    attention(x)
    found = attention.explain(x)
    torch.testing.assert_close(found.weights, used[0])
    torch.testing.assert_close(found.plain.sum(-1), torch.ones(3, 2, 20))
    assert not found.weights[~found.kept].any()
    assert bool(found.kept.all()) == (mask == "none")


def test_every_block_is_explained_and_the_network_stays_as_it_was() -> None:
    whole = model("bone+joint")
    before = {name: value.clone() for name, value in whole.network.state_dict().items()}
    blocks = attention_of(whole, sample())
    assert len(blocks) == 3
    for kept, plain, weights in blocks:
        assert kept.shape == plain.shape == weights.shape == (20, 20)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in whole.network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in whole.network.modules())
    alone = attention_of(whole.single("bone"), sample())
    for one, other in zip(blocks, alone, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)


def test_chunks_are_averaged() -> None:
    (first, *_), sizes = attention_of(model(chunks=2), sample()), (20, 20)
    assert first.weights.shape == sizes
    np.testing.assert_allclose(first.plain.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("layout", [KINECT20, COCO17], ids=lambda layout: layout.name)
def test_a_picture_is_drawn(layout: SkeletonLayout, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    clip = sample(layout)
    draw_attention(attention_of(model(layout=layout), clip), clip, layout, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_draws_it(
    finished_run: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    from hhmnet.store import Store

    name = str(Store(store_folder).sample_ids[0])
    words = ["inspect", str(store_folder), "--sample", name, "--attention", str(finished_run)]
    assert main([*words, "--picture", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert main(words) == 2
    assert "--attention draws a picture; name it with --picture FILE.png" in capsys.readouterr().err
