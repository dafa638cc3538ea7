"""Made persons: boxes that walk, a detector that knows them, and an estimator that puts joints into boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hhmnet.pose.estimators import Pose
from hhmnet.skeleton import BLAZEPOSE33
from made_video import write_video

Way = Callable[[int], tuple[float, float, float, float] | None]
"""Frame → centre x, centre y, width and height of a person; None where the person isn't there."""


def box(center: tuple[float, float, float, float]) -> np.ndarray:
    x, y, width, height = center
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2], np.float32)


def straight(
    start: tuple[float, float],
    step: tuple[float, float],
    size: tuple[float, float] = (40.0, 100.0),
    hidden: range = range(0),
) -> Way:
    def way(frame: int) -> tuple[float, float, float, float] | None:
        if frame in hidden:
            return None
        return (start[0] + step[0] * frame, start[1] + step[1] * frame, *size)

    return way


def detections(ways: Sequence[Way], frame: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Boxes, scores, and whose each box is."""
    found = [(box(place), person) for person, way in enumerate(ways) if (place := way(frame)) is not None]
    boxes = np.array([one for one, _ in found], np.float32).reshape(-1, 4)
    return boxes, np.full(len(boxes), 0.9, np.float32), [person for _, person in found]


class MadeVideo:
    """A video whose first pixel's red value tells the frame, so that a made detector knows where it is.

    It is of flat colour, or with ``noisy`` of coloured noise that moves.
    """

    def __init__(
        self,
        path: Path,
        frames: int,
        size: tuple[int, int] = (320, 240),
        rate: int = 30,
        noisy: bool = False,
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
        images = [np.roll(noise, 3 * index, 1) if noisy else np.zeros_like(noise) for index in range(frames)]
        for index, image in enumerate(images):
            image[(0, 0) if noisy else ...][..., 0] = index
        write_video(path, "ffv1", pictures=images, pixels="bgr0", rate=rate)


class KnowingDetector:
    """Finds the persons of some ways, in pictures of a MadeVideo."""

    def __init__(self, *ways: Way) -> None:
        self.ways = ways
        self.asked: list[int] = []

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frame = int(image[0, 0, 0])
        self.asked.append(frame)
        boxes, scores, _ = detections(self.ways, frame)
        return boxes, scores


class BoxEstimator:
    """Puts the joints into the box that it is asked about, on a grid; or, led by a region, where the region is.

    Args:
        blind: frames in which it finds nobody.
        doubtful: joints, and the frames in which it doesn't trust them.
        leads: whether it says where to look in the next frame.
    """

    layout = BLAZEPOSE33

    def __init__(
        self,
        blind: Sequence[int] = (),
        doubtful: dict[int, Sequence[int]] | None = None,
        leads: bool = True,
    ) -> None:
        self.blind, self.doubtful, self.leads = blind, doubtful or {}, leads
        self.led: list[tuple[int, bool]] = []

    def estimate(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None = None) -> Pose:
        frame, count = int(image[0, 0, 0]), self.layout.num_joints
        self.led.append((frame, region is not None))
        if region is not None:
            x, y, side, _ = region
            box = np.array([x - 0.2 * side, y - 0.5 * side, x + 0.2 * side, y + 0.5 * side], np.float32)
        grid = np.stack([np.linspace(0.1, 0.9, count), np.linspace(0, 1, count)], 1)
        middle, pixels = (box[:2] + box[2:]) / 2, box[:2] + grid * (box[2:] - box[:2])
        confidence = np.full(count, 0.9, np.float32)
        for joint, frames in self.doubtful.items():
            if frame in frames:
                confidence[joint] = 0.02
        world = np.concatenate([(pixels - middle) / 100, np.zeros((count, 1))], 1)
        following = np.array([*middle, box[3] - box[1], 0]) if self.leads else None
        return Pose(pixels, confidence, world, 0.0 if frame in self.blind else 1.0, following)
