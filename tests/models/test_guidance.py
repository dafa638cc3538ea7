"""What the skeleton tells the video, against its definition written out cell by cell."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hhmnet.models.layers import part_weights
from hhmnet.models.video_net import guidance, part_meanings
from hhmnet.skeleton import KINECT20, PARTS

WEIGHTS = part_weights(KINECT20)
INSTANTS = [[0.0, 5.0, 9.0, 14.0], [3.0, 3.0, 3.0, 3.0], [1.5, 2.0, 2.25, 15.0]]


def made(
    streams: int = 2, count: int = 3, persons: int = 2, frames: int = 16, stride: int = 4, seed: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Feature maps ``(N, M, T', V, D)`` and bodies ``(N, M, T')``; clip 1 has gaps and one person."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.ones(count, persons, -(-frames // stride), dtype=torch.bool)
    if count > 1:
        there[1, 1] = False
        there[1, 0, 0] = False
    maps = [torch.randn(*there.shape, 20, 6, generator=generator) for _ in range(streams)]
    return [x * there[..., None, None] for x in maps], there


def plain_overlap(times: list[float], frames: int, stride: int) -> list[list[float]]:
    """Shared length of the chunk of every instant with the span of every feature frame, frame i being [i, i + 1)."""
    table = []
    for k, time in enumerate(times):
        middle = time + 0.5
        low = 0.0 if k == 0 else (middle + times[k - 1] + 0.5) / 2
        high = float(frames) if k == len(times) - 1 else (middle + times[k + 1] + 0.5) / 2
        low, high = min(low, middle - 0.5), max(high, middle + 0.5)
        spans = [(t, min(t + stride, frames)) for t in range(0, frames, stride)]
        table.append([max(0.0, min(high, end) - max(low, begin)) for begin, end in spans])
    return table


def plain_scale(cells: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    low, high = min(cells.values()), max(cells.values())
    return {cell: 2 * (value - low) / (high - low) for cell, value in cells.items()}


def plain_guidance(
    features: list[Tensor], there: Tensor, times: list[float], frames: int, stride: int
) -> Tensor:
    """One clip's: ``features`` of every stream ``(M, T', V, D)``, ``there (M, T')``."""
    overlap = plain_overlap(times, frames, stride)
    total: dict[tuple[int, int], float] = {}
    for feature in features:
        cells = {}
        for p, part in enumerate(PARTS):
            for k in range(len(times)):
                above = below = 0.0
                for m in range(there.shape[0]):
                    for t in range(there.shape[1]):
                        for joint in KINECT20.parts[part]:
                            if there[m, t]:
                                length = math.sqrt(sum(float(v) ** 2 for v in feature[m, t, joint]))
                                above += overlap[k][t] * length
                                below += overlap[k][t]
                if below:
                    cells[p, k] = above / below
        for cell, value in plain_scale(cells).items():
            total[cell] = total.get(cell, 0.0) + value
    if len(features) > 1:
        total = plain_scale(total)
    found = torch.ones(len(PARTS), len(times))
    for (p, k), value in total.items():
        found[p, k] = value
    return found


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("streams", "stride"), [(1, 4), (2, 1)])
def test_guidance_is_that_of_the_definition(streams: int, stride: int, autocast: bool) -> None:
    features, there = made(streams, stride=stride)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = guidance(features, there, torch.tensor(INSTANTS), 16, stride, WEIGHTS)
    assert found.shape == (3, 5, 4)
    for n in range(3):
        expected = plain_guidance([f[n] for f in features], there[n], INSTANTS[n], 16, stride)
        torch.testing.assert_close(found[n], expected, atol=1e-5, rtol=1e-4)


def test_what_nobody_saw_is_one_and_does_not_scale_the_rest() -> None:
    features, there = made(1)
    there[0] = False
    there[2, :, :2] = False
    features = [feature * there[..., None, None] for feature in features]
    times = torch.tensor([[1.5, 5.5, 9.5, 13.5]] * 3)
    found = guidance(features, there, times, 16, 4, WEIGHTS)
    assert (found[0] == 1).all()
    assert (found[2, :, :2] == 1).all()
    assert float(found[2, :, 2:].min()) == 0
    assert float(found[2, :, 2:].max()) == 2


def test_meanings_are_means_over_what_is_there() -> None:
    features, there = made(2)
    embeddings = [torch.randn(3, 6) for _ in features]
    found = part_meanings(features, embeddings, WEIGHTS)
    assert found.shape == (3, 6, 12)
    for n in range(3):
        for s, feature in enumerate(features):
            for p, part in enumerate(PARTS):
                seen = [
                    feature[n, m, t, joint]
                    for m in range(2)
                    for t in range(4)
                    for joint in KINECT20.parts[part]
                    if there[n, m, t]
                ]
                mean = torch.stack(seen).mean(0)
                torch.testing.assert_close(found[n, p, 6 * s : 6 * s + 6], mean / mean.norm())
            whole = embeddings[s][n]
            torch.testing.assert_close(found[n, 5, 6 * s : 6 * s + 6], whole / whole.norm())
