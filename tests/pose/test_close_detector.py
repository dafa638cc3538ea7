from __future__ import annotations

import numpy as np

from hhmnet.pose.detectors import CloseDetector, anchors


class MadeNet:
    """Answers as the network would: one anchor sees a person."""

    def __init__(
        self, anchor: int, hips: tuple[float, float], top: tuple[float, float], score: float
    ) -> None:
        self.codes = np.zeros((1, 2254, 12), np.float32)
        self.codes[0, anchor, 4:8] = (*hips, *top)
        self.scores = np.full((1, 2254, 1), -1e4, np.float32)
        self.scores[0, anchor] = score
        self.seen: list[np.ndarray] = []

    def run(self, piece: np.ndarray) -> dict[str, np.ndarray]:
        self.seen.append(piece)
        return {"Identity": self.codes, "Identity_1": self.scores}


def test_anchors_lie_in_the_middle_of_their_places() -> None:
    places = anchors()
    assert places.shape == (2254, 2)
    np.testing.assert_allclose(places[:4], [[4 / 224, 4 / 224]] * 2 + [[12 / 224, 4 / 224]] * 2)
    coarse = places[28 * 28 * 2 + 14 * 14 * 2 :]  # six at each of 7·7 places
    np.testing.assert_allclose(coarse[:6], [[16 / 224, 16 / 224]] * 6)
    np.testing.assert_allclose(coarse[-1], [208 / 224, 208 / 224])


def test_the_box_is_the_square_around_the_circle_of_the_body() -> None:
    made = CloseDetector.__new__(CloseDetector)
    anchor = 28 * 28 * 2 + 14 * 14 * 2 + 6 * (3 * 7 + 3)  # the middle one of the coarse ones
    net = MadeNet(anchor, (0.0, 11.2), (0.0, -44.8), score=2.0)
    made._net, made._anchors = net, anchors()  # type: ignore[assignment]
    found = made.detect(np.full((200, 400, 3), 255, np.uint8))
    # The piece is 400 pixels wide around the picture's middle, (200, 100); 11.2 of 224 are 20 of 400.
    np.testing.assert_allclose(net.seen[0][0, 60:160], 1, atol=1e-6)
    np.testing.assert_allclose(net.seen[0][0, :50], -1, atol=1e-6)
    np.testing.assert_allclose(found.boxes, [[100, 20, 300, 220]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-2.0))], rtol=1e-5)


def test_doubtful_persons_are_left_out() -> None:
    made = CloseDetector.__new__(CloseDetector)
    made._net, made._anchors = MadeNet(5, (0, 0), (0, -50), score=-3.0), anchors()  # type: ignore[assignment]
    assert made.detect(np.zeros((50, 50, 3), np.uint8)).boxes.shape == (0, 4)
