"""Skeletons over pictures, as plain images: joints, bones and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hhmnet.skeleton import SkeletonLayout

Colour = tuple[int, int, int]

SIDES: dict[str, Colour] = {"left": (240, 120, 20), "right": (40, 140, 230), "": (235, 235, 235)}
"""Colour (red, green, blue) of left, right and middle joints and bones."""
OUTLINE: Colour = (20, 20, 20)


def draw_skeleton(
    image: np.ndarray, pixels: np.ndarray, layout: SkeletonLayout, confidence: np.ndarray | None = None
) -> np.ndarray:
    """A copy of an image with one body's joints and bones over it.

    Left is orange and right blue. Joints that aren't finite, or have confidence 0, are left out with their bones; an
    inferred joint (confidence up to a half) is a ring.

    ``image`` is ``(H, W, 3)`` uint8, ``pixels (V, 2)`` x right and y down, ``confidence (V,)`` from 0 to 1; (0, 0) is
    the middle of the upper left pixel. Raises LayoutError where there aren't as many joints as the layout has.
    """
    pixels = np.asarray(pixels, np.float64)
    layout.check(np.zeros((len(pixels), layout.dims)))
    trust = np.ones(len(pixels)) if confidence is None else np.asarray(confidence)
    seen = np.isfinite(pixels).all(1) & (trust > 0)
    image = image.copy()
    if not seen.any():
        return image
    thickness = max(1.5, min(float(np.ptp(pixels[seen, 1])), len(image)) / 60)
    colours = [SIDES.get(name.partition("_")[0], SIDES[""]) for name in layout.joints]
    bones = [(child, parent) for child, parent in layout.edges if seen[child] and seen[parent]]
    for child, parent in bones:
        _stroke(image, pixels[child], pixels[parent], thickness + 2, OUTLINE)
    for child, parent in bones:
        _stroke(image, pixels[child], pixels[parent], thickness, colours[child])
    for joint in np.flatnonzero(seen):
        place = pixels[joint]
        _stroke(image, place, place, 2 * thickness + 2, OUTLINE)
        _stroke(image, place, place, 2 * thickness, colours[joint])
        if trust[joint] <= 0.5:
            _stroke(image, place, place, thickness, OUTLINE)
    return image


def draw_box(image: np.ndarray, box: Sequence[float], colour: Colour, thickness: float = 2) -> np.ndarray:
    """A copy of an image ``(H, W, 3)`` with a box over it: left, top, right, bottom in pixels."""
    left, top, right, bottom = box
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    image = image.copy()
    if np.isfinite(corners).all():
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            _stroke(image, start, end, thickness, colour)
    return image


def _stroke(image: np.ndarray, start: np.ndarray, end: np.ndarray, thickness: float, colour: Colour) -> None:
    """Draw a line with round ends, smooth at its edges, in place; a dot if both ends are one point."""
    radius = thickness / 2
    corners = np.stack([start, end])
    # Far outside the picture nothing is seen, and the numbers there may be beyond what an index can hold.
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(0) - radius - 1), 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(0) + radius + 2), 0, limit).astype(int)
    if (low >= high).any():
        return
    x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    points = np.stack([x, y], -1) - start
    along = end - start
    length = float(along @ along)
    share = np.clip(points @ along / length, 0, 1) if length > 0 else np.zeros(x.shape)
    distance = np.linalg.norm(points - share[..., None] * along, axis=-1)
    cover = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    part = image[low[1] : high[1], low[0] : high[0]]
    part[...] = np.round(part * (1 - cover) + np.array(colour) * cover).astype(np.uint8)
