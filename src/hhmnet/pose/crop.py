"""Turned square pieces of a picture: cutting them out, and carrying points back."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F


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
