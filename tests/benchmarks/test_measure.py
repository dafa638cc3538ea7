"""The clock of ``hhmnet bench``, and the plain ST-GCN that it is held against."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from rich.console import Console

from hhmnet.benchmarks import measure
from hhmnet.benchmarks.measure import ratios, take_turns, turns_of
from hhmnet.benchmarks.st_gcn import STGCN, spatial_partition
from hhmnet.skeleton import NTU25, SkeletonLayout


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves a clock that nothing else moves."""
    now = 0.0

    def move(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(measure, "perf_counter", lambda: now)
    return move


def test_a_turn_lasts_as_long_as_asked_for_and_the_ratio_is_that_within_a_round(advance):
    made: list[int] = []

    def step() -> None:
        made.append(1)
        advance(0.01)

    turn = turns_of(step, 0.1, torch.device("cpu"), size=8)
    made.clear()
    assert turn() == pytest.approx(800)  # 8 things in 10 ms
    assert len(made) == 10
    count = itertools.count(1)
    found = take_turns({name: lambda: float(next(count)) for name in "ab"}, 2, Console(quiet=True))
    assert found == {"a": [1, 3], "b": [2, 4]}
    assert ratios([6, 9, 1], [2, 9, 2]) == {"median": 1, "min": 0.5, "max": 3, "rounds": [3, 1, 0.5]}


def plain_partition(layout: SkeletonLayout) -> np.ndarray:
    """Equation 8 of ST-GCN's paper, pair by pair."""

    def bones_to_the_root(joint: int) -> int:
        above = int(layout.parents[joint])
        return 0 if above == joint else 1 + bones_to_the_root(above)

    joints = range(layout.num_joints)
    bones = {frozenset(edge) for edge in layout.edges}
    found = np.zeros((3, layout.num_joints, layout.num_joints))
    for j in joints:
        neighbours = [i for i in joints if i == j or frozenset((i, j)) in bones]
        for i in neighbours:
            near, far = bones_to_the_root(j), bones_to_the_root(i)
            part = 0 if near == far else 1 if near < far else 2
            found[part, i, j] = 1 / len(neighbours)
    return found


def test_st_gcns_partition_and_number_of_weights() -> None:
    """Written out: ten units of 64 to 256 channels, three parts, nine taps; the first without a shortcut."""
    layout = NTU25
    np.testing.assert_allclose(spatial_partition(layout), plain_partition(layout), atol=1e-7)
    joints, classes, total = layout.num_joints, 60, 0
    widths = (3, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
    for width_in, width in itertools.pairwise(widths):
        total += 3 * joints**2 + 3 * width * (width_in + 1)  # importance; graph convolution
        total += width * (9 * width + 1) + 2 * 2 * width  # temporal convolution; two norms
        if width_in not in (3, width):
            total += width * (width_in + 1) + 2 * width  # shortcut and its norm
    total += 2 * 3 * joints + (256 + 1) * classes
    assert sum(weight.numel() for weight in STGCN(layout, classes).parameters()) == total
