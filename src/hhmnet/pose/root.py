"""Where a person is in the room: the way of the hips, from the size and place of the body in the picture."""

from __future__ import annotations

import numpy as np

SMOOTHING = 5.0
"""Standard deviation, in frames, of the smoothing of a person's size: depth follows from it and would tremble."""

_MIN_JOINTS = 4
_TRUSTED = 0.7


def root_path(
    world: np.ndarray,
    pixels: np.ndarray,
    confidence: np.ndarray,
    present: np.ndarray,
    size: tuple[int, int],
    focal: float,
) -> np.ndarray:
    """Positions of the hips relative to the camera, by weak perspective.

    In each frame the joints in metres are laid over the joints in pixels at the scale s (pixels a metre) and place
    that fit best. A camera of focal length f (pixels) then sees the hips, at the pixel (u, v), from the point
    ((u − cx)/s, (v − cy)/s, f/s). The focal length of a video is mostly unknown. If it is wrong by a factor, so is the
    way along the optical axis, while that across it stays right. A camera that moves adds its own way.

    Args:
        world: ``(T, V, 3)`` metres from the middle between the hips: x right, y down, z away from the camera.
        pixels: ``(T, V, 2)`` from the picture's upper left corner.
        confidence: ``(T, V)``; joints below 0.7 don't count.
        present: ``(T,)`` bool.
        size: width and height of the picture.
        focal: focal length as a share of the picture's longer side.

    Returns:
        ``(T, 3)`` float32 metres, axes as in ``world``; zero in frames without a body, and everywhere if in no frame
        enough joints are trusted.
    """
    frames = len(world)
    scale, hips = np.full(frames, np.nan), np.zeros((frames, 2))
    for t in np.flatnonzero(present):
        scale[t], hips[t] = _lay_over(world[t, :, :2], pixels[t], confidence[t])
    known = np.isfinite(scale)
    if not known.any():
        return np.zeros((frames, 3), np.float32)
    smooth = smoothed(np.log(np.where(known, scale, 1.0)), known)
    scale = np.exp(smooth)
    # Where too few joints were seen to lay one over the other, the place is taken from the frames around.
    at = np.flatnonzero(known)
    hips = np.stack([np.interp(np.arange(frames), at, hips[at, axis]) for axis in range(2)], 1)
    center = np.array(size) / 2
    path = np.concatenate([(hips - center) / scale[:, None], (focal * max(size) / scale)[:, None]], 1)
    return np.where(present[:, None], path, 0).astype(np.float32)


def smoothed(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A Gaussian mean over time of ``values (T,)`` where ``known (T,)``; elsewhere the mean of what is known around."""
    apart = np.arange(len(values))[:, None] - np.flatnonzero(known)[None, :]
    # Far from all that is known every weight would vanish; only differences between them count.
    power = -0.5 * (apart / SMOOTHING) ** 2
    weights = np.exp(power - power.max(1, keepdims=True))
    return np.asarray((weights * values[known]).sum(1) / weights.sum(1))


def _lay_over(world: np.ndarray, pixels: np.ndarray, confidence: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale, and the pixel of the origin, that lay ``world (V, 2)`` over ``pixels (V, 2)`` by least squares."""
    trusted = confidence >= _TRUSTED
    if trusted.sum() < _MIN_JOINTS:
        return float("nan"), np.zeros(2)
    weight = np.where(trusted, confidence, 0)[:, None].astype(np.float64)
    weight /= weight.sum()
    middle, place = (weight * world).sum(0), (weight * pixels).sum(0)
    spread = (weight * (world - middle) ** 2).sum()
    scale = (weight * (world - middle) * (pixels - place)).sum() / max(spread, 1e-9)
    if scale <= 0 or spread < 1e-4:
        return float("nan"), np.zeros(2)
    return float(scale), place - scale * middle


def kinect_axes(points: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """``points (..., 3)`` as a Kinect has them: y up, z away from the camera, x to the camera's left.

    Args:
        points: x right and y down in the picture, z away from the camera.
        mirrored: the picture is a mirror image.
    """
    return points * np.array([1 if mirrored else -1, -1, 1], np.float32)
