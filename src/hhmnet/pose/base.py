"""What a detector of persons and an estimator of joints must offer, so that others can take their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hhmnet.skeleton import SkeletonLayout


@dataclass(frozen=True)
class Detections:
    """Persons found in one picture.

    Attributes:
        boxes: ``(P, 4)`` float32 pixels: left, top, right, bottom.
        scores: ``(P,)`` float32 from 0 to 1.
    """

    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Poses:
    """Joints of P persons in one picture.

    Attributes:
        pixels: ``(P, V, 2)`` float32 pixels from the picture's upper left corner (x right, y down); a joint may lie
            outside the picture.
        confidence: trust in each joint, ``(P, V)`` float32 from 0 to 1.
        world: ``(P, V, 3)`` float32 metres from the middle between the hips (x right, y down, z away from the camera),
            or None from an estimator of two dimensions.
        found: whether there is a person at all, ``(P,)`` float32 from 0 to 1.
        regions: the square pieces of the picture in which to look for the same persons in the next frame, ``(P, 4)``
            float32: centre x, centre y, side (pixels) and turn (radians, clockwise as seen).
    """

    pixels: np.ndarray
    confidence: np.ndarray
    world: np.ndarray | None
    found: np.ndarray
    regions: np.ndarray


class Detector(Protocol):
    """Finds persons in a picture."""

    def detect(self, image: np.ndarray) -> Detections:
        """Find the persons in ``image (H, W, 3)`` uint8, red, green, blue."""
        ...


class PoseEstimator(Protocol):
    """Finds the joints of persons whose boxes are known.

    Attributes:
        layout: the skeleton its joints have.
    """

    layout: SkeletonLayout

    def estimate(self, image: np.ndarray, boxes: np.ndarray, regions: np.ndarray | None = None) -> Poses:
        """Find the joints of the persons in ``boxes``.

        Args:
            image: ``(H, W, 3)`` uint8, red, green, blue.
            boxes: ``(P, 4)`` pixels: left, top, right, bottom.
            regions: ``(P, 4)`` as the frame before gave them, NaN for persons who were not there; None if none was.
                They are finer than boxes; an estimator may do without.
        """
        ...


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box in ``a (N, 4)`` with every box in ``b (M, 4)``, ``(N, M)``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(x[:, 2:] - x[:, :2], 0, None).prod(-1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return shared / np.maximum(union, 1e-9)


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Non-maximum suppression: indices of the boxes to keep, the best first.

    Args:
        boxes: ``(P, 4)``.
        scores: ``(P,)``.
        overlap: of two boxes with a larger intersection over union, the better one stays.
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = iou(boxes[order], boxes[order]) > overlap
    kept: list[int] = []
    for i in range(len(order)):
        if not overlaps[i, kept].any():
            kept.append(i)
    return order[kept]
