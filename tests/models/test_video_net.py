"""The video network: cells that own their features, and pictures that are missing."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hhmnet.models.backbones import RGBBackbone, SmallNet
from hhmnet.models.start import zero_heads
from hhmnet.models.video_net import VideoNetwork, over_time
from made_grid import blind, made_input, only


class Averages(RGBBackbone):
    """Mean colour of every 16 pixels squared: a map whose cells know nothing of each other."""

    channels, stride = 3, 16

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 16, ceil_mode=True)


class Normed(RGBBackbone):
    """A strided convolution and a batch norm."""

    channels, stride = 4, 16

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 16, 16), nn.BatchNorm2d(4, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def build(backbone: RGBBackbone | None = None, **options: Any) -> VideoNetwork:
    torch.manual_seed(0)
    return VideoNetwork(backbone or Averages(), 3, **options)


def cell(grid: Tensor, n: int, p: int, k: int, side: int = 32) -> Tensor:
    return grid[n, :, p * side : (p + 1) * side, k * side : (k + 1) * side]


@pytest.mark.parametrize("guided", [False, True])
def test_a_part_is_the_mean_of_its_cells(guided: bool) -> None:
    video = made_input()
    mask = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[1, 2] = False
    guidance = torch.rand(3, 5, 4) * 2 if guided else None
    found = build()(video._replace(cell_mask=mask), guidance)
    assert found.parts.shape == (3, 6, 3)
    for n in range(3):
        for p in range(5):
            cells = [
                cell(video.grid, n, p, k).mean((1, 2)) * (1 if guidance is None else guidance[n, p, k])
                for k in range(4)
                if mask[n, p, k]
            ]
            expected = torch.stack(cells).mean(0) if cells else torch.zeros(3)
            torch.testing.assert_close(found.parts[n, p], expected)
            assert bool(found.there[n, p]) == bool(cells)


def test_moments_are_cosine_waves_over_the_instants_that_are_there() -> None:
    x, there = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(2)) < 0.7
    there[1, 1] = False
    found = over_time(x, there, 3)
    assert found.shape == (2, 3, 15)
    for n, p, wave in itertools.product(range(2), range(3), range(3)):
        expected = torch.zeros(5)
        for k in range(4):
            if there[n, p, k]:
                expected += x[n, p, k] * math.cos(math.pi * wave * (k + 0.5) / 4) / there[n, p].sum()
        torch.testing.assert_close(found[n, p, 5 * wave : 5 * wave + 5], expected)


def test_the_first_step_leaves_the_backbone_alone() -> None:
    network = build(Normed())
    zero_heads(network)
    functional.cross_entropy(network(made_input()).logits, torch.tensor([0, 1, 2])).backward()
    slopes = {name: float(weight.grad.abs().sum()) for name, weight in network.named_parameters()}
    assert min(slopes["part_head.weight"], slopes["scene_head.weight"]) > 0
    assert slopes["backbone.conv.weight"] == 0


def test_the_whole_is_the_mean_of_the_scenes_that_are_there() -> None:
    video = made_input()
    mask = torch.tensor([[True, True], [False, True], [False, False]])
    found = build()(video._replace(scene_mask=mask))
    torch.testing.assert_close(found.parts[0, 5], video.scene[0].mean((0, 2, 3)))
    torch.testing.assert_close(found.parts[1, 5], video.scene[1, 1].mean((1, 2)))
    assert not found.parts[2, 5].any()
    assert found.there[:, 5].tolist() == [True, True, False]


def test_without_a_scene_the_whole_is_the_mean_of_the_parts() -> None:
    video = made_input()
    mask = video.cell_mask.clone()
    mask[1, :3] = False
    network = build(scene=False)
    found = network(video._replace(cell_mask=mask))
    torch.testing.assert_close(found.parts[0, 5], found.parts[0, :5].mean(0))
    torch.testing.assert_close(found.parts[1, 5], found.parts[1, 3:5].mean(0))
    assert not any("scene" in name for name in network.state_dict())


@torch.no_grad()
def test_what_is_missing_takes_its_summand_alone() -> None:
    video = made_input()
    network = build(SmallNet()).eval()
    whole = network(video)
    parts = network(blind(video, 1)._replace(cell_mask=video.cell_mask))
    scene = network(blind(video, 1)._replace(scene_mask=video.scene_mask))
    summand = whole.logits[1] - parts.logits[1]
    torch.testing.assert_close(summand, network.scene_head(whole.parts[1, 5]))  # type: ignore[misc]
    torch.testing.assert_close(scene.logits[1] - network.part_head.bias, summand, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.logits[[0, 2]], whole.logits[[0, 2]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scene", [True, False])
@torch.no_grad()
def test_unseen_pixels_have_no_influence(scene: bool) -> None:
    network = build(SmallNet(), scene=scene).eval()
    video = blind(made_input(), 1)
    before = network(video)
    grid, scenes = video.grid.clone(), video.scene.clone()
    grid[1], scenes[1] = torch.nan, torch.nan
    after = network(video._replace(grid=grid, scene=scenes))
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_missing_clips_stay_out_of_the_batch_statistics() -> None:
    full, some = build(Normed()), build(Normed())
    some.load_state_dict(full.state_dict())
    video = made_input(4)
    full(only(video, [0, 2]))
    some(blind(video, 1, 3))
    for one, other in zip(full.backbone.buffers(), some.backbone.buffers(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("freeze_norms", [True, False])
def test_frozen_is_frozen_for_good(freeze: bool, freeze_norms: bool) -> None:
    network = build(Normed(), frozen=float(freeze), freeze_norms=freeze_norms)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    network.eval()
    network.train()
    network(made_input()).logits.square().mean().backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert ("backbone.conv.weight" in moved) == (not freeze)
    assert ("backbone.norm.running_mean" in moved) == (not freeze and not freeze_norms)
    assert freeze is False or not any(name.startswith("backbone") for name in moved)
    assert "part_head.weight" in moved


@pytest.mark.parametrize(("frozen", "count"), [(0.0, 0), (0.7, 5), (1.0, 7)])
def test_a_share_of_the_layers_can_be_frozen(frozen: float, count: int) -> None:
    layers = build(SmallNet(), frozen=frozen).train().backbone.layers()
    assert [layer.training for layer in layers] == [False] * count + [True] * (7 - count)
