"""The heterogeneous network: a frozen guide and teacher, and answers to what there is of a clip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hhmnet.data.transform import STREAMS
from hhmnet.models.heterogeneous import HeterogeneousConfig, HeterogeneousNetwork
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork
from hhmnet.models.layers import part_weights
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.models.video_net import guidance
from hhmnet.skeleton import KINECT20
from made_grid import blind, made_input

ENCODER = STSTConfig(widths=(16, 32), strides=(2, 2), head_width=8, dropout=0.2, drop_path=0.2)
CLASSES = 3


def build(streams: int = 2, fusion: dict[str, Any] | None = None, **config: Any) -> HeterogeneousNetwork:
    torch.manual_seed(0)
    skeleton: STST | HomogeneousNetwork
    if streams == 1:
        skeleton = STST(ENCODER, KINECT20, CLASSES)
    else:
        names = STREAMS[:streams]
        skeleton = HomogeneousNetwork(ENCODER, FusionConfig(**fusion or {}), KINECT20, CLASSES, names)
    # As after a training: statistics that aren't the fresh ones.
    skeleton.train()
    for seed in range(3):
        skeleton(*made_clips(streams, seed=seed))
    chosen = HeterogeneousConfig(**({"backbone": "small", "projection": 16} | config))
    return HeterogeneousNetwork(skeleton, chosen, KINECT20, CLASSES)


def made_clips(streams: int = 2, count: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two persons over 16 frames; clip 1 has one, in some of the frames."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3 * streams, 16, 20, 2, generator=generator)
    mask = torch.ones(count, 16, 2, dtype=torch.bool)
    if count > 1:
        mask[1, :, 1] = False
        mask[1, :5, 0] = False
    return x, mask


def gone(mask: Tensor, *rows: int) -> Tensor:
    """The mask without these clips' skeletons."""
    mask = mask.clone()
    mask[list(rows)] = False
    return mask


# What it returns.


@torch.no_grad()
def test_the_skeleton_answers_as_it_does_alone_and_guides_the_video():
    x, mask = made_clips()
    video = made_input()
    there = torch.ones(3, 2, 4, dtype=torch.bool)
    there[1, 1] = False
    there[1, 0, 0] = False  # frames 0 to 3; frame 5, which is there, belongs to the second four
    network = build(2, {"weights": (3.0, 1.0)}).eval()
    alone, output = network.skeleton(x, mask), network(x, mask, video)
    torch.testing.assert_close(output.skeleton, alone.each, rtol=0, atol=0)
    torch.testing.assert_close(output.teacher, alone.logits)
    torch.testing.assert_close(network(x, mask).logits, alone.logits)
    expected = guidance(alone.features, there, video.times, 16, 4, part_weights(KINECT20))
    torch.testing.assert_close(output.guidance, expected)
    torch.testing.assert_close(output.video, network.video(video, expected).logits)
    plain = build(2, {"weights": (3.0, 1.0)}, guidance="none").eval()(x, mask, video)
    assert plain.guidance is None
    assert (output.video - plain.video).abs().max() > 1e-4


# Missing modalities.


@pytest.mark.parametrize("weights", [(), (0.5, 0.1, 2.0), (0.0, 0.0, 3.0)])
@torch.no_grad()
def test_every_clip_is_answered_by_what_it_has(weights):
    """By the weighted mean of it; by the plain one where all of it weighs nothing."""
    network = build(2, weights=weights).eval()
    x, mask = made_clips(count=4)
    output = network(x, gone(mask, 1, 3), blind(made_input(4), 2, 3))
    used = [[True, True], [False, True], [True, False], [False, False]]
    assert output.used.tolist() == used
    for n, (skeleton, video) in enumerate(used):
        there = torch.tensor([skeleton, skeleton, video]).float()
        shares = there * torch.tensor(weights or (1.0, 1.0, 1.0))
        shares = shares if shares.any() else there
        members = torch.cat([output.skeleton[:, n], output.video[n][None]])
        torch.testing.assert_close(output.logits[n], shares @ members / max(float(shares.sum()), 1e-9))


@torch.no_grad()
def test_only_what_both_know_is_compared():
    network = build(2).eval()
    video = made_input(4)
    cells, scenes = video.cell_mask.clone(), video.scene_mask.clone()
    cells[0, 3], scenes[1] = False, False
    x, mask = made_clips(count=4)
    output = network(x, gone(mask, 2), blind(video._replace(cell_mask=cells, scene_mask=scenes), 3))
    assert output.part_mask.tolist() == [
        [True, True, True, False, True, True],
        [True] * 5 + [False],
        [False] * 6,
        [False] * 6,
    ]


@torch.no_grad()
def test_weights_default_to_those_of_phase_1_and_an_average_stream():
    network = build(4, {"weights": (0.6, 0.6, 0.4, 0.4)})
    torch.testing.assert_close(network.weights, torch.tensor([1.2, 1.2, 0.8, 0.8, 1.0]) / 5)
    torch.testing.assert_close(build(1).weights, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(build(1, weights=(3.0, 1.0)).weights, torch.tensor([0.75, 0.25]))
