from __future__ import annotations

import numpy as np

from hhmnet.pose.estimators import MoveNet, region_around
from hhmnet.skeleton import COCO17


def person() -> tuple[np.ndarray, np.ndarray]:
    pixels = np.full((17, 2), 100.0)
    for name, place in {
        "nose": (100, 40),
        "left_shoulder": (120, 60),
        "right_shoulder": (80, 60),
        "left_hip": (110, 110),
        "right_hip": (90, 110),
        "left_ankle": (115, 200),
    }.items():
        pixels[COCO17.index(name)] = place
    return pixels, np.full(17, 0.8)


def test_the_region_holds_torso_and_limbs() -> None:
    pixels, scores = person()
    region = region_around(pixels, scores)
    assert region is not None
    # The ankle lies 90 below the hips, 1.2 times that is more than 1.9 times the shoulders' 50.
    np.testing.assert_allclose(region, [100, 110, 2 * 1.2 * 90, 0])


def test_without_limbs_the_torso_tells() -> None:
    pixels, scores = person()
    scores[COCO17.index("left_ankle")] = scores[COCO17.index("nose")] = 0.1
    region = region_around(pixels, scores)
    assert region is not None
    np.testing.assert_allclose(region, [100, 110, 2 * 1.9 * 50, 0])


def test_without_hips_there_is_none() -> None:
    pixels, scores = person()
    scores[[COCO17.index("left_hip"), COCO17.index("right_hip")]] = 0.1
    assert region_around(pixels, scores) is None


class MadeNet:
    """Answers as the network would: all joints at one place of the piece, y before x."""

    input_type = np.dtype(np.uint8)

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores
        self.pieces: list[np.ndarray] = []

    def run(self, piece: np.ndarray) -> dict[str, np.ndarray]:
        self.pieces.append(piece)
        joints = np.stack([np.full(17, 0.25), np.full(17, 0.75), self.scores], 1)
        return {"out": joints.reshape(1, 1, 17, 3).astype(np.float32)}


def test_joints_are_carried_back_to_the_picture() -> None:
    made = MoveNet.__new__(MoveNet)
    net = MadeNet(np.r_[np.full(4, 0.9), np.full(13, 0.1)])
    made._net = net  # type: ignore[assignment]
    image = np.full((200, 300, 3), 77, np.uint8)
    poses = made.estimate(image, np.float32([[100, 50, 200, 146]]), np.float32([[150, 100, 96, 0]]))
    assert net.pieces[0].dtype == np.uint8
    assert (net.pieces[0] == 77).all()
    assert poses.world is None
    np.testing.assert_allclose(poses.pixels[0], np.tile([174, 76], (17, 1)), atol=1e-4)
    np.testing.assert_allclose(poses.found, 0.5)  # four joints of the eight that are enough
    # Hips aren't seen, so the next look is at the box again.
    np.testing.assert_allclose(poses.regions[0], [150, 98, 125, 0])
