"""What the skeleton tells the video, against its definition written out cell by cell."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from hhmnet.models.layers import part_weights
from hhmnet.models.video_net import guidance, part_meanings
from hhmnet.skeleton import KINECT20, PARTS

WEIGHTS = part_weights(KINECT20)
FRAMES = 16
INSTANTS = [[0.0, 5.0, 9.0, 14.0], [3.0, 3.0, 3.0, 3.0], [1.5, 2.0, 2.25, 15.0], [1.0, 2.0, 3.0, 4.0]]


def made(streams: int, stride: int = 4) -> tuple[list[Tensor], Tensor]:
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


def plain_scale(cells: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    if not cells:
        return {}
    low, high = min(cells.values()), max(cells.values())
    return {cell: 2 * (value - low) / (high - low) for cell, value in cells.items()}


def plain_guidance(features: list[Tensor], there: Tensor, times: list[float], stride: int) -> Tensor:
    """One clip's ``(P, K)``, from every stream's ``(M, T', V, D)``; what nobody saw is 1 and scales nothing."""
    scaled = []
    for feature in features:
        cells = {}
        for (p, part), k in itertools.product(enumerate(PARTS), range(len(times))):
            above = below = 0.0
            for m, t in there.nonzero().tolist():
                for joint in KINECT20.parts[part]:
                    above += plain_overlap(times, k, t, stride) * float(feature[m, t, joint].norm())
                    below += plain_overlap(times, k, t, stride)
            if below:
                cells[p, k] = above / below
        scaled.append(plain_scale(cells))
    found = scaled[0]
    if len(features) > 1:
        found = plain_scale({cell: sum(one[cell] for one in scaled) for cell in found})
    whole = torch.ones(len(PARTS), len(times))
    for (p, k), value in found.items():
        whole[p, k] = value
    return whole


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("streams", "stride"), [(1, 4), (2, 1)])
def test_guidance_is_that_of_the_definition(streams: int, stride: int, autocast: bool) -> None:
    features, there = made(streams, stride)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = guidance(features, there, torch.tensor(INSTANTS), FRAMES, stride, WEIGHTS)
    assert found.shape == (4, 5, 4)
    for n in range(4):
        expected = plain_guidance([f[n] for f in features], there[n], INSTANTS[n], stride)
        torch.testing.assert_close(found[n], expected, atol=1e-5, rtol=1e-4)


def test_meanings_are_means_over_what_is_there() -> None:
    features, there = made(2)
    embeddings = [torch.randn(4, 6) for _ in features]
    found = part_meanings(features, embeddings, WEIGHTS)
    assert found.shape == (4, 6, 12)
    for n, s, (p, part) in itertools.product(range(3), range(2), enumerate(PARTS)):
        mean = features[s][n][there[n]][:, list(KINECT20.parts[part])].mean((0, 1))
        torch.testing.assert_close(found[n, p, 6 * s : 6 * s + 6], mean / mean.norm())
        whole = embeddings[s][n]
        torch.testing.assert_close(found[n, 5, 6 * s : 6 * s + 6], whole / whole.norm())
    assert not found[3, :5].any()
