from __future__ import annotations

import math

import numpy as np
import pytest

from hhmnet.pose.estimators import cut, iou, square_around, suppress, to_image


def slow_cut(image: np.ndarray, region: tuple[float, ...], size: int) -> np.ndarray:
    """Bilinear sampling written from its definition; pixel (x, y) spans x … x + 1, its colour is that of its middle."""
    height, width = image.shape[:2]
    x0, y0, side, turn = region
    piece = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            u, v = ((column + 0.5) / size - 0.5) * side, ((row + 0.5) / size - 0.5) * side
            x = x0 + u * math.cos(turn) - v * math.sin(turn) - 0.5
            y = y0 + u * math.sin(turn) + v * math.cos(turn) - 0.5
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            a, b = x - left, y - top
            corner = image[top : top + 2, left : left + 2].astype(float)
            upper, lower = (corner[i, 0] * (1 - a) + corner[i, 1] * a for i in (0, 1))
            piece[row, column] = upper * (1 - b) + lower * b
    return piece


@pytest.mark.parametrize(
    "region",
    [(20, 15, 16, 0), (20.3, 14.8, 25, 0.6), (2, 3, 30, -2.0), (60, 40, 10, 1), (20, 15, 200, 0.1)],
    ids=["upright", "turned", "over the edge", "outside", "larger than the picture"],
)
def test_cutting_follows_the_definition(region: tuple[float, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    piece = cut(image, np.array(region), 12)
    assert piece.dtype == np.float32
    np.testing.assert_allclose(piece, slow_cut(image, region, 12), atol=0.05)
    black = cut(np.full((20, 40, 3), 200, np.uint8), np.array([20, 10, 40, 0]), 40, black=True)
    np.testing.assert_allclose(black[11:29], 200, atol=1e-3)
    np.testing.assert_allclose(black[[*range(9), *range(31, 40)]], 0, atol=1e-3)


def test_points_of_a_region_are_where_cutting_looks() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[120:124, 70:74] = 255
    region = np.array([90.0, 100.0, 80.0, 0.7])
    y, x = np.argwhere(cut(image, region, 160)[..., 0] > 128).mean(0)
    np.testing.assert_allclose(to_image(np.array([x + 0.5, y + 0.5]) / 160, region), [72, 122], atol=0.3)
    np.testing.assert_allclose(square_around(np.array([10, 20, 30, 80]), 1.5), [20, 50, 90, 0])


@pytest.mark.parametrize("count", [0, 40])
def test_suppression_follows_its_definition(count: int) -> None:
    a, b = np.array([0.0, 0, 4, 4]), np.array([[2.0, 2, 6, 6], [0, 0, 4, 4], [20, 20, 20, 20]])
    np.testing.assert_allclose(iou(a, b), [4 / 28, 1, 0])
    made = np.random.default_rng(0)
    low = made.uniform(0, 50, (count, 2))
    boxes = np.concatenate([low, low + made.uniform(5, 30, (count, 2))], 1)
    scores = made.random(count)
    kept: list[int] = []
    for i in sorted(range(count), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j]) <= 0.4 for j in kept):
            kept.append(i)
    assert suppress(boxes, scores, 0.4).tolist() == kept
