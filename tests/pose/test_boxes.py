from __future__ import annotations

import numpy as np
import pytest

from hhmnet.pose.base import iou, suppress


def test_intersection_over_union() -> None:
    a = np.array([[0, 0, 4, 4], [10, 10, 12, 12]], float)
    b = np.array([[2, 2, 6, 6], [0, 0, 4, 4], [20, 20, 20, 20]], float)
    np.testing.assert_allclose(iou(a, b), [[4 / 28, 1, 0], [0, 0, 0]])


def test_suppression_keeps_the_best_of_those_that_overlap() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [2, 0, 12, 10]], float)
    scores = np.array([0.5, 0.9, 0.3, 0.6])
    assert suppress(boxes, scores, 0.5).tolist() == [1, 2]
    assert suppress(boxes, scores, 0.95).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("seed", range(5))
def test_suppression_follows_its_definition(seed: int) -> None:
    made = np.random.default_rng(seed)
    low = made.uniform(0, 50, (40, 2))
    boxes = np.concatenate([low, low + made.uniform(5, 30, (40, 2))], 1)
    scores = made.random(40)
    kept: list[int] = []
    for i in sorted(range(40), key=lambda i: -scores[i]):
        if all(iou(boxes[i : i + 1], boxes[j : j + 1])[0, 0] <= 0.4 for j in kept):
            kept.append(i)
    assert suppress(boxes, scores, 0.4).tolist() == kept


def test_nothing_to_suppress() -> None:
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []
