"""What a detector of persons and an estimator of joints must offer, and the boxes and square regions they look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

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
    """Intersection over union ``(...)`` of boxes ``(..., 4)``, whose leading axes are broadcast."""
    shared = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared, one, other = (
        np.clip(sides, 0, None).prod(-1)
        for sides in (shared, a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2])
    )
    return np.asarray(shared / np.maximum(one + other - shared, 1e-9))


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Non-maximum suppression: indices of the boxes to keep, the best first.

    Args:
        boxes: ``(P, 4)``.
        scores: ``(P,)``.
        overlap: of two boxes with a larger intersection over union, the better one stays.
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = iou(boxes[order][:, None], boxes[order]) > overlap
    kept: list[int] = []
    for i in range(len(order)):
        if not overlaps[i, kept].any():
            kept.append(i)
    return order[kept]


def cut(image: np.ndarray, region: np.ndarray, size: int, black: bool = False) -> np.ndarray:
    """The piece ``(size, size, 3)`` float32, 0 to 255, of ``image (H, W, 3)`` uint8 that a region shows.

    Sampled bilinearly.

    Args:
        image: the picture.
        region: centre x, centre y, side (pixels), turn (radians).
        size: side of the result.
        black: what lies outside the picture is black; else the picture's edge goes on.
    """
    height, width = image.shape[:2]
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = to_image(np.stack(np.meshgrid(steps, steps), -1) + 0.5, region).transpose(2, 0, 1)
    # Only what the region touches is turned into floating point: the rest of a large picture would cost more.
    left, right = (int(np.clip(edge, 0, width - 1)) for edge in (x.min() - 2, x.max() + 2))
    top, bottom = (int(np.clip(edge, 0, height - 1)) for edge in (y.min() - 2, y.max() + 2))
    part = torch.from_numpy(image[top : bottom + 1, left : right + 1]).permute(2, 0, 1)[None].float()
    scale = np.array([2 / part.shape[3], 2 / part.shape[2]], np.float32)
    grid = (np.stack([x, y], -1) - np.array([left, top], np.float32)) * scale - 1
    piece = F.grid_sample(
        part,
        torch.from_numpy(grid.astype(np.float32))[None],
        padding_mode="zeros" if black else "border",
        align_corners=False,
    )
    return piece[0].permute(1, 2, 0).contiguous().numpy()


def to_image(points: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Pixels of the picture for ``points (..., 2)`` of a region, which spans 0 to 1 in x and y."""
    x, y, side, turn = (float(number) for number in region)
    return rotate((points - 0.5) * side, turn) + np.array([x, y])


def rotate(points: np.ndarray, turn: float) -> np.ndarray:
    """``points (..., 2)`` turned around the origin by ``turn`` radians, clockwise as seen (y goes down)."""
    cos, sin = np.cos(turn), np.sin(turn)
    x, y = points[..., 0], points[..., 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos], -1)


def square_around(box: np.ndarray, margin: float) -> np.ndarray:
    """The upright square region ``(4,)`` around a box, ``margin`` times as wide as its longer side."""
    left, top, right, bottom = (float(edge) for edge in box)
    return np.array([(left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) * margin, 0.0])
