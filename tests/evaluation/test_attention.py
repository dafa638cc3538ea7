"""What is shown of the attention is what the network used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.data.transform import DataConfig
from hhmnet.evaluation import attention
from hhmnet.evaluation.attention import QUERIES, Attention, attention_of, draw_attention
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
    module = REDMT(16, 2, KINECT20, mask=mask, density=0.4, reranking=reranking).eval()
    x = torch.randn(3, 16, 20, 6)
    used: list[torch.Tensor] = []
    module.dropout.register_forward_hook(lambda layer, inputs, output: used.append(output))
    module(x)
    found = module.explain(x)
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


@pytest.mark.parametrize("layout", [KINECT20, COCO17], ids=lambda layout: layout.name)
def test_lines_tell_weights_colours_their_change_and_hollow_joints_the_mask(
    layout: SkeletonLayout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    to_hex = pytest.importorskip("matplotlib.colors", reason="pictures need matplotlib").to_hex
    figures: list[Any] = []
    monkeypatch.setattr(attention, "save_figure", lambda figure, file: figures.append(figure))
    clip, count = sample(layout), layout.num_joints
    random = np.random.default_rng(1)
    blocks = [Attention(*random.random((3, count, count))) for _ in range(2)]
    draw_attention(blocks, clip, layout, tmp_path / "a.png")
    queries = [layout.index(name) for name in QUERIES if name in layout.joints]
    assert len(queries) == (4 if layout is KINECT20 else 3)  # coco17 has no joint that is called head
    names = [layout.joints[query].replace("_", " ") for query in queries]
    body = clip.joints[0, 5, :, :2]  # the middle one of the eight frames in which somebody is
    grid = figures[0].axes
    assert [axes.get_title() for axes in grid] == [f"block {row}, {name}" for row in (1, 2) for name in names]
    for place, axes in enumerate(grid):
        kept, plain, weights = (part[queries[place % len(queries)]] for part in blocks[place // len(queries)])
        query = queries[place % len(queries)]
        colours = np.where(weights > plain, "#d95f02", "#1b6ca8")
        others = [joint for joint in range(count) if joint != query]
        bones, lines = axes.lines[: len(layout.edges)], axes.lines[len(layout.edges) :]
        assert {to_hex(bone.get_color()) for bone in bones} == {"#dddddd"}
        for line, joint in zip(lines, others, strict=True):
            np.testing.assert_allclose(line.get_xydata(), body[[query, joint]], rtol=1e-6)
            assert line.get_linewidth() == pytest.approx(4 * weights[joint] / weights.max())
            assert to_hex(line.get_color()) == colours[joint]
        for joint, dot in enumerate(axes.collections):
            np.testing.assert_allclose(dot.get_offsets()[0], body[joint], rtol=1e-6)
            assert to_hex(dot.get_edgecolor()[0]) == colours[joint]
            assert to_hex(dot.get_facecolor()[0]) == (colours[joint] if kept[joint] > 0.5 else "#ffffff")
        sizes = [float(dot.get_sizes()[0]) for dot in axes.collections]
        assert int(np.argmax(sizes)) == query
        assert axes.yaxis_inverted() == (layout.dims == 2)


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
