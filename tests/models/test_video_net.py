"""The video network: cells that own their features, pictures that are missing, and what the skeleton tells it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hhmnet.models.backbones import RGBBackbone, SmallNet
from hhmnet.models.layers import part_weights
from hhmnet.models.video_net import HeterogeneousConfig, VideoNetwork, guidance, over_time, part_meanings
from hhmnet.skeleton import KINECT20, PARTS
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
    config = HeterogeneousConfig(**{"dropout": 0.0, "pretrained": False} | options)
    return VideoNetwork(backbone or Averages(), 3, config)


def cell(grid: Tensor, n: int, p: int, k: int, side: int = 32) -> Tensor:
    return grid[n, :, p * side : (p + 1) * side, k * side : (k + 1) * side]


@pytest.mark.parametrize("guided", [False, True])
def test_a_part_is_the_mean_of_its_cells(guided):
    video = made_input()
    mask = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[1, 2] = False
    weights = torch.rand(3, 5, 4) * 2 if guided else torch.ones(3, 5, 4)
    found = build()(video._replace(cell_mask=mask), weights if guided else None)
    assert found.parts.shape == (3, 6, 3)
    for n in range(3):
        for p in range(5):
            seen = mask[n, p].nonzero().flatten().tolist()
            cells = [cell(video.grid, n, p, k).mean((1, 2)) * (1 + weights[n, p, k]) / 2 for k in seen]
            expected = torch.stack(cells).mean(0) if cells else torch.zeros(3)
            torch.testing.assert_close(found.parts[n, p], expected)
            assert bool(found.there[n, p]) == bool(cells)


def test_moments_are_cosine_waves_over_the_instants_that_are_there():
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


def test_the_whole_is_the_mean_of_the_scenes_that_are_there():
    video = made_input()
    mask = torch.tensor([[True, True], [False, True], [False, False]])
    found = build()(video._replace(scene_mask=mask))
    torch.testing.assert_close(found.parts[0, 5], video.scene[0].mean((0, 2, 3)))
    torch.testing.assert_close(found.parts[1, 5], video.scene[1, 1].mean((1, 2)))
    assert not found.parts[2, 5].any()
    assert found.there[:, 5].tolist() == [True, True, False]


def test_without_a_scene_the_whole_is_the_mean_of_the_parts():
    video = made_input()
    mask = video.cell_mask.clone()
    mask[1, :3] = False
    network = build(scene=False)
    found = network(video._replace(cell_mask=mask))
    torch.testing.assert_close(found.parts[0, 5], found.parts[0, :5].mean(0))
    torch.testing.assert_close(found.parts[1, 5], found.parts[1, 3:5].mean(0))
    assert not any("scene" in name for name in network.state_dict())


@torch.no_grad()
def test_what_is_missing_takes_its_summand_alone():
    video = made_input()
    network = build(SmallNet()).eval()
    whole = network(video)
    parts = network(blind(video, 1)._replace(cell_mask=video.cell_mask))
    scene = network(blind(video, 1)._replace(scene_mask=video.scene_mask))
    summand = whole.logits[1] - parts.logits[1]
    torch.testing.assert_close(summand, network.scene_head(whole.parts[1, 5]))
    torch.testing.assert_close(scene.logits[1] - network.part_head.bias, summand, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.logits[[0, 2]], whole.logits[[0, 2]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scene", [True, False])
@torch.no_grad()
def test_unseen_pixels_have_no_influence(scene):
    network = build(SmallNet(), scene=scene).eval()
    video = blind(made_input(), 1)
    before = network(video)
    grid, scenes = video.grid.clone(), video.scene.clone()
    grid[1], scenes[1] = torch.nan, torch.nan
    after = network(video._replace(grid=grid, scene=scenes))
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_missing_clips_stay_out_of_the_batch_statistics():
    full, some = build(Normed()), build(Normed())
    some.load_state_dict(full.state_dict())
    video = made_input(4)
    full(only(video, [0, 2]))
    some(blind(video, 1, 3))
    for one, other in zip(full.backbone.buffers(), some.backbone.buffers(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("pretrained", [True, False])
def test_frozen_is_frozen_for_good(freeze, pretrained):
    network = build(Normed(), frozen=float(freeze), pretrained=pretrained)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    network.eval()
    network.train()
    network(made_input()).logits.square().mean().backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert ("backbone.conv.weight" in moved) == (not freeze)
    assert ("backbone.norm.running_mean" in moved) == (not freeze and not pretrained)
    assert freeze is False or not any(name.startswith("backbone") for name in moved)
    assert "part_head.weight" in moved


@pytest.mark.parametrize(("frozen", "count"), [(0.0, 0), (0.7, 5), (1.0, 7)])
def test_a_share_of_the_layers_can_be_frozen(frozen, count):
    layers = build(SmallNet(), frozen=frozen).train().backbone.layers()
    assert [layer.training for layer in layers] == [False] * count + [True] * (7 - count)


# What the skeleton tells it, against the definition written out cell by cell.

WEIGHTS = part_weights(KINECT20)
FRAMES = 16
INSTANTS = [[0.0, 5.0, 9.0, 14.0], [3.0, 3.0, 3.0, 3.0], [1.5, 2.0, 2.25, 15.0], [1.0, 2.0, 3.0, 4.0]]


def feature_maps(streams: int, stride: int = 4) -> tuple[list[Tensor], Tensor]:
    """Feature maps ``(N, M, T', V, D)`` and bodies ``(N, M, T')``; clip 1 has gaps and one person, clip 3 nobody."""
    generator = torch.Generator().manual_seed(0)
    there = torch.ones(4, 2, FRAMES // stride, dtype=torch.bool)
    there[1, 1] = there[1, 0, 0] = there[3] = False
    maps = [torch.randn(*there.shape, 20, 6, generator=generator) for _ in range(streams)]
    return [x * there[..., None, None] for x in maps], there


def plain_overlap(times: list[float], k: int, frame: int, stride: int) -> float:
    """What instant k's chunk shares with a feature frame; the sampled frame i is there from i to i + 1."""
    middle = times[k] + 0.5
    low = 0.0 if k == 0 else (middle + times[k - 1] + 0.5) / 2
    high = float(FRAMES) if k == len(times) - 1 else (middle + times[k + 1] + 0.5) / 2
    low, high = min(low, middle - 0.5), max(high, middle + 0.5)
    return max(0.0, min(high, (frame + 1) * stride) - max(low, frame * stride))


def plain_scale(cells: np.ndarray) -> np.ndarray:
    """From 0 to 2; cells that nobody saw aren't numbers, and scale nothing."""
    if np.isnan(cells).all():
        return cells
    return 2 * (cells - np.nanmin(cells)) / (np.nanmax(cells) - np.nanmin(cells))


def plain_guidance(features: list[Tensor], there: Tensor, times: list[float], stride: int) -> Tensor:
    """One clip's ``(P, K)``, from every stream's ``(M, T', V, D)``; 1 where nobody saw a cell."""
    scaled = []
    for feature in features:
        strength, cells = feature.norm(dim=-1).numpy(), np.full((len(PARTS), len(times)), np.nan)
        for (p, part), k in itertools.product(enumerate(PARTS), range(len(times))):
            overlap = [plain_overlap(times, k, frame, stride) for frame in range(there.shape[1])]
            weights = there.numpy() * overlap  # (M, T')
            if weights.sum():
                of_part = strength[..., list(KINECT20.parts[part])].mean(-1)
                cells[p, k] = (weights * of_part).sum() / weights.sum()
        scaled.append(plain_scale(cells))
    found = scaled[0] if len(features) == 1 else plain_scale(sum(scaled))
    return torch.from_numpy(np.where(np.isnan(found), 1.0, found)).float()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("streams", "stride"), [(1, 4), (2, 1)])
def test_guidance_is_that_of_the_definition(streams, stride, autocast):
    features, there = feature_maps(streams, stride)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = guidance(features, there, torch.tensor(INSTANTS), FRAMES, stride, WEIGHTS)
    assert found.shape == (4, 5, 4)
    for n in range(4):
        expected = plain_guidance([f[n] for f in features], there[n], INSTANTS[n], stride)
        torch.testing.assert_close(found[n], expected, atol=1e-5, rtol=1e-4)


def test_meanings_are_means_over_what_is_there():
    features, there = feature_maps(2)
    embeddings = [torch.randn(4, 6) for _ in features]
    found = part_meanings(features, embeddings, WEIGHTS)
    assert found.shape == (4, 6, 12)
    for n, s, (p, part) in itertools.product(range(3), range(2), enumerate(PARTS)):
        mean = features[s][n][there[n]][:, list(KINECT20.parts[part])].mean((0, 1))
        torch.testing.assert_close(found[n, p, 6 * s : 6 * s + 6], mean / mean.norm())
        whole = embeddings[s][n]
        torch.testing.assert_close(found[n, 5, 6 * s : 6 * s + 6], whole / whole.norm())
    assert not found[3, :5].any()
