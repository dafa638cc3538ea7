from __future__ import annotations

import math

import numpy as np
import pytest

from hhmnet.pose.base import cut, rotate, square_around, to_image


def slow_cut(image: np.ndarray, region: np.ndarray, size: int) -> np.ndarray:
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
            upper = corner[0, 0] * (1 - a) + corner[0, 1] * a
            lower = corner[1, 0] * (1 - a) + corner[1, 1] * a
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
    np.testing.assert_allclose(piece, slow_cut(image, np.array(region, float), 12), atol=0.05)


def test_outside_the_picture_it_can_be_black() -> None:
    piece = cut(np.full((20, 40, 3), 200, np.uint8), np.array([20, 10, 40, 0]), 40, black=True)
    np.testing.assert_allclose(piece[11:29], 200, atol=1e-3)
    np.testing.assert_allclose(piece[:9], 0, atol=1e-3)
    np.testing.assert_allclose(piece[31:], 0, atol=1e-3)


def test_a_whole_square_picture_is_itself() -> None:
    image = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    np.testing.assert_allclose(cut(image, np.array([12, 12, 24, 0]), 24), image, atol=1e-3)


def test_points_of_a_region_are_where_cutting_looks() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[120:124, 70:74] = 255
    region = np.array([90.0, 100.0, 80.0, 0.7])
    piece = cut(image, region, 160)[..., 0]
    y, x = np.argwhere(piece > 128).mean(0)
    np.testing.assert_allclose(to_image(np.array([x + 0.5, y + 0.5]) / 160, region), [72, 122], atol=0.3)


def test_turning_is_clockwise_as_seen() -> None:
    np.testing.assert_allclose(rotate(np.array([1.0, 0]), math.pi / 2), [0, 1], atol=1e-12)


def test_square_around_a_box() -> None:
    np.testing.assert_allclose(square_around(np.array([10, 20, 30, 80]), 1.5), [20, 50, 90, 0])
