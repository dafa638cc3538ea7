from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from hhmnet.pose.estimators import BlazePose, cut, refine

IMAGE = np.full((200, 300, 3), 51, np.uint8)


def sampled(image: np.ndarray, region: tuple[float, ...], size: int) -> np.ndarray:
    """A region by SciPy's sampling; pixel (x, y) spans x … x + 1, its colour is that of its middle."""
    x, y, side, turn = region
    v, u = ((np.mgrid[:size, :size] + 0.5) / size - 0.5) * side
    across = x + u * math.cos(turn) - v * math.sin(turn) - 0.5
    down = y + u * math.sin(turn) + v * math.cos(turn) - 0.5
    colours = image.transpose(2, 0, 1).astype(float)
    return np.stack([map_coordinates(one, [down, across], order=1, mode="nearest") for one in colours], -1)


@pytest.mark.parametrize(
    "region",
    [(20, 15, 16, 0), (20.3, 14.8, 25, 0.6), (2, 3, 30, -2.0), (60, 40, 10, 1), (20, 15, 200, 0.1)],
    ids=["upright", "turned", "over the edge", "outside", "larger than the picture"],
)
def test_cutting_follows_the_definition(region: tuple[float, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    piece = cut(image, np.array(region), 12)
    assert piece.dtype == np.float32
    np.testing.assert_allclose(piece, sampled(image, region, 12), atol=0.05)


def slow_refine(points: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """MediaPipe's refinement, landmark by landmark."""
    rows, columns, _ = heatmap.shape
    refined = points.copy()
    for k, (x, y) in enumerate(points):
        column, row = math.floor(x * columns), math.floor(y * rows)
        if 0 <= column < columns and 0 <= row < rows:
            top, left = max(0, row - 3), max(0, column - 3)
            heat = 1 / (1 + np.exp(-heatmap[top : row + 4, left : column + 4, k]))
            down, across = np.indices(heat.shape)
            if heat.max() >= 0.5:
                middle = np.array([(heat * across).sum(), (heat * down).sum()]) / heat.sum() + (left, top)
                refined[k] = middle / (columns, rows)
    return refined


def test_refinement_follows_its_definition() -> None:
    made = np.random.default_rng(0)
    heatmap = made.normal(-3, 2.5, (64, 64, 39))
    heatmap[..., ::4] = -5  # nowhere warm: these points stay
    points = made.uniform(-0.1, 1.1, (39, 2))
    np.testing.assert_allclose(refine(points, heatmap), slow_refine(points, heatmap), rtol=1e-9)
    assert (refine(points, heatmap)[::4] == points[::4]).all()


class MadeBlazeNet:
    """Answers as the network would: all landmarks at one place of the piece, and a person found or not."""

    def __init__(self, found: list[float], visibility: float = 4.0, presence: float = 6.0) -> None:
        self.found = found
        self.pieces: list[np.ndarray] = []
        self.landmarks = np.zeros((39, 5), np.float32)
        self.landmarks[:, :2] = (192, 128)  # right of the middle
        self.landmarks[33, :2], self.landmarks[34, :2] = (128, 128), (128, 64)
        self.landmarks[:, 3], self.landmarks[:, 4] = visibility, presence

    def run(self, piece: np.ndarray) -> dict[str, np.ndarray]:
        self.pieces.append(piece)
        return {
            "Identity": self.landmarks.reshape(1, -1),
            "Identity_1": np.float32([[self.found[len(self.pieces) - 1]]]),
            "Identity_3": np.full((1, 64, 64, 39), -50, np.float32),
            "Identity_4": np.tile(np.float32([1, 0, 0.5]), 39),
        }


def blazepose(net: MadeBlazeNet) -> BlazePose:
    made = BlazePose.__new__(BlazePose)
    made._run = net.run  # type: ignore[method-assign]
    return made


def test_landmarks_are_carried_back_from_a_turned_piece() -> None:
    net = MadeBlazeNet([1.0])
    pose = blazepose(net).estimate(IMAGE, np.zeros(4), np.float32([150, 100, 128, math.pi / 2]))
    (piece,) = net.pieces
    assert piece.shape == (256, 256, 3)
    np.testing.assert_allclose(piece, 0.2, atol=1e-6)
    # A quarter of the piece to the right of its middle is a quarter below it in the picture, and so in metres.
    np.testing.assert_allclose(pose.pixels, np.tile([150, 132], (33, 1)), atol=1e-4)
    np.testing.assert_allclose(pose.world, np.tile([0, 1, 0.5], (33, 1)), atol=1e-6)
    # The person stands upright in the piece, so the next piece is turned alike.
    np.testing.assert_allclose(pose.region, [150, 100, 2 * 32 * 1.25, math.pi / 2], atol=1e-3)


@pytest.mark.parametrize(
    ("visibility", "presence", "x", "confidence"),
    [(50, 50, 150, 1.0), (-50, 50, 150, 0.5), (50, -50, 150, 0.0), (0, 0, 150, 0.375), (50, 50, 290, 0.5)],
    ids=["seen", "hidden", "not there", "unsure", "outside the picture"],
)
def test_confidence_tells_seen_from_inferred(
    visibility: float, presence: float, x: float, confidence: float
) -> None:
    net = MadeBlazeNet([1.0], visibility, presence)
    pose = blazepose(net).estimate(IMAGE, np.zeros(4), np.float32([x, 100, 128, 0]))
    np.testing.assert_allclose(pose.confidence, confidence, atol=1e-6)


@pytest.mark.parametrize(
    ("found", "looks", "best"),
    [([0.9, 0.99], 2, 0.99), ([0.9, 0.2], 2, 0.9), ([0.1, 0.8, 0.9], 3, 0.9), ([0.1, 0.2], 2, 0.2)],
    ids=["whole", "second look is worse", "half a person", "nobody"],
)
def test_looks_at_a_box(found: list[float], looks: int, best: float) -> None:
    net = MadeBlazeNet(found)
    assert blazepose(net).estimate(IMAGE, np.float32([100, 50, 200, 150])).found == pytest.approx(best)
    assert len(net.pieces) == looks
