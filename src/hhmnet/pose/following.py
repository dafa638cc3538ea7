"""The chosen persons over time: joints frame by frame, gaps masked, filled and marked, and the way through the room."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from hhmnet.pose.estimators import LOST, PoseEstimator, iou
from hhmnet.pose.tracking import Track

AHEAD, BEHIND = 30, 30
"""A person is looked for so many frames before the first detection, and after the last."""
SAME = 0.7
"""Boxes of two tracks with this intersection over union show one person."""
SMOOTHING = 5.0
"""Standard deviation, in frames, of the smoothing of a person's size: depth follows from it and would tremble."""

_SEEN = 0.3
_APART = 0.1
_BORDER = 0.1
_MIN_JOINTS, _TRUSTED = 4, 0.7


class Follower:
    """Joints of some tracks, frame by frame.

    In every frame a person is looked for where the frame before leads; where the detector saw the person too, and
    somewhere else, the detector is right.

    Attributes:
        layout: the estimator's skeleton, with V joints.
        pixels: ``(M, T, V, 2)`` float32 from the picture's upper left corner.
        confidence: ``(M, T, V)`` float32.
        world: ``(M, T, V, 3)`` float32 metres from the middle between the hips (x right, y down, z away).
        boxes: ``(M, T, 4)`` float32 pixels, around the joints inside the picture, with a border.
        present: whether the person is there, ``(M, T)`` bool.
    """

    def __init__(self, estimator: PoseEstimator, tracks: Sequence[Track], num_frames: int) -> None:
        self._estimator, self.layout = estimator, estimator.layout
        shape, joints = (len(tracks), num_frames), estimator.layout.num_joints
        self.pixels = np.zeros((*shape, joints, 2), np.float32)
        self.confidence = np.zeros((*shape, joints), np.float32)
        self.world = np.zeros((*shape, joints, 3), np.float32)
        self.boxes = np.zeros((*shape, 4), np.float32)
        self.present, self._wanted, self._detected = (np.zeros(shape, bool) for _ in range(3))
        self.arrays = self.pixels, self.confidence, self.world, self.boxes, self.present
        self._paths = np.zeros((*shape, 4))
        self._regions: list[np.ndarray | None] = [None] * len(tracks)
        for row, track in enumerate(tracks):
            frames = np.asarray(track.frames)
            frames = frames[frames < num_frames]
            self._detected[row, frames] = True
            self._wanted[row, max(frames[0] - AHEAD, 0) : frames[-1] + BEHIND + 1] = True
            self._paths[row] = track.boxes_at(np.arange(num_frames))

    def estimate(self, frame: int, image: np.ndarray) -> None:
        """Find all persons in one frame; frames come in order."""
        for row in map(int, np.flatnonzero(self._wanted[:, frame])):
            for _ in range(1 if self._regions[row] is None else 2):  # who was lost is looked for in the box
                self._estimate(row, frame, image)
                is_near = iou(self.boxes[row, frame], self._paths[row, frame]) >= _APART
                if self.present[row, frame] and (is_near or not self._detected[row, frame]):
                    break
                self._drop(row, frame)
        for pair in combinations(map(int, np.flatnonzero(self.present[:, frame])), 2):
            wrong = stray(self.boxes[list(pair), frame], self._paths[list(pair), frame])
            if wrong is not None:
                self._drop(pair[wrong], frame)
                self._estimate(pair[wrong], frame, image)
                if iou(*self.boxes[list(pair), frame]) >= SAME:
                    self._drop(pair[wrong], frame)

    def _estimate(self, row: int, frame: int, image: np.ndarray) -> None:
        """Look where the frame before leads, or else at the box, and enter what came of it."""
        pose = self._estimator.estimate(image, self._paths[row, frame], self._regions[row])
        self.pixels[row, frame], self.confidence[row, frame] = pose.pixels, pose.confidence
        self.world[row, frame] = pose.world
        height, width = image.shape[:2]
        self.boxes[row, frame] = body_box(self.pixels[row, frame], self.confidence[row, frame], width, height)
        self.present[row, frame] = pose.found >= LOST and self.boxes[row, frame].any()
        self._regions[row] = None if pose.region is None else pose.region.astype(np.float32)
        if not self.present[row, frame]:
            self._drop(row, frame)

    def _drop(self, row: int, frame: int) -> None:
        for array in self.arrays:
            array[row, frame] = 0
        self._regions[row] = None


def stray(found: np.ndarray, paths: np.ndarray) -> int | None:
    """Which of two persons who were found in one place is wrong there: the one whose way leads elsewhere.

    ``found (2, 4)`` is where they were found, ``paths (2, 4)`` where the detector's tracks lead. None if they were
    found apart, or their ways lie together.
    """
    if iou(*found) < SAME or iou(*paths) >= SAME:
        return None
    return int(np.argmin(iou(found, paths)))


def body_box(pixels: np.ndarray, confidence: np.ndarray, width: int, height: int) -> np.ndarray:
    """A box ``(4,)`` around the joints that are trusted, with a border of a tenth, inside the picture.

    Skull and fingers lie beyond the outermost joints. Without three trusted joints, or with all outside the picture,
    the box is zero.
    """
    points = pixels[confidence >= _SEEN]
    if len(points) < 3:
        return np.zeros(4, np.float32)
    low, high = points.min(0), points.max(0)
    border = _BORDER * float((high - low).max())
    box = np.clip(np.concatenate([low - border, high + border]), 0, [width, height, width, height])
    return np.asarray(box, np.float32) if (box[2:] > box[:2]).all() else np.zeros(4, np.float32)


def fill_bodies(
    present: np.ndarray, values: Sequence[np.ndarray], confidence: np.ndarray, longest: int
) -> np.ndarray:
    """Fill gaps of at most ``longest`` frames of whole bodies with a straight line, in place.

    In ``present (T,)`` bool, in ``values (T, ...)`` such as positions and boxes, and in ``confidence (T, V)``: a filled
    joint is as trusted as the less trusted of its two neighbours. Returns which bodies were filled in, ``(T,)`` bool.
    """
    filled = np.zeros_like(present)
    for before, after in gaps(present, longest):
        for array in values:
            _fill(array, before, after)
        confidence[before + 1 : after] = np.minimum(confidence[before], confidence[after])
        filled[before + 1 : after] = True
    present |= filled
    return filled


def fill_joints(
    present: np.ndarray,
    pixels: np.ndarray,
    world: np.ndarray,
    confidence: np.ndarray,
    least: float,
    longest: int,
) -> None:
    """Mask joints that can't be trusted, in place, and fill their short gaps.

    A joint whose ``confidence (T, V)`` is below ``least`` is missing: its ``pixels (T, V, 2)`` and confidence become
    zero, while in ``world (T, V, 3)`` it stays where the estimator supposes it. In gaps of at most ``longest`` frames
    in which the body was ``present (T,)`` it gets a place on the straight line, and half of ``least`` as confidence.
    """
    seen = (confidence >= least) & present[:, None]
    pixels[~seen] = 0
    confidence[~seen] = 0
    for joint in range(confidence.shape[1]):
        for before, after in gaps(seen[:, joint], longest):
            if present[before + 1 : after].all():
                _fill(pixels[:, joint], before, after)
                _fill(world[:, joint], before, after)
                confidence[before + 1 : after, joint] = least / 2


def _fill(array: np.ndarray, before: int, after: int) -> None:
    """Lay the frames of ``array (T, ...)`` between two on the straight line from one to the other, in place."""
    share = (np.arange(before + 1, after) - before) / (after - before)
    share = share.reshape(-1, *(1,) * (array.ndim - 1))
    array[before + 1 : after] = array[before] * (1 - share) + array[after] * share


def gaps(seen: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Last frame before and first frame after each gap of at most ``longest`` frames in ``seen (T,)`` bool."""
    frames = np.flatnonzero(seen)
    wide = np.flatnonzero((np.diff(frames) > 1) & (np.diff(frames) <= longest + 1))
    return [(int(frames[i]), int(frames[i + 1])) for i in wide]


def root_path(
    world: np.ndarray,
    pixels: np.ndarray,
    confidence: np.ndarray,
    present: np.ndarray,
    size: tuple[int, int],
    focal: float,
) -> np.ndarray:
    """Positions of the hips relative to the camera, ``(T, 3)`` float32 metres, by weak perspective.

    In each frame the joints in metres are laid over the joints in pixels at the scale s (pixels a metre) and place
    that fit best. A camera of focal length f (pixels) then sees the hips, at the pixel (u, v), from the point
    ((u − cx)/s, (v − cy)/s, f/s). If the focal length is wrong by a factor, so is the way along the optical axis, while
    that across it stays right. A camera that moves adds its own way.

    The first four are one person's of a :class:`Follower`; joints below a confidence of 0.7 don't count. ``size`` is
    the picture's width and height, ``focal`` the focal length as a share of the longer of them. The result is zero
    without a body, and everywhere if in no frame enough joints are trusted.
    """
    trusted = (confidence >= _TRUSTED) & present[:, None]
    weight = np.where(trusted, confidence, 0)[..., None].astype(np.float64)
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-9)
    flat = world[..., :2].astype(np.float64)
    middle, place = (weight * flat).sum(1), (weight * pixels).sum(1)
    around = flat - middle[:, None]
    spread = (weight * around**2).sum((1, 2))
    scale = (weight * around * (pixels - place[:, None])).sum((1, 2)) / np.maximum(spread, 1e-9)
    known = (trusted.sum(1) >= _MIN_JOINTS) & (scale > 0) & (spread >= 1e-4)
    if not known.any():
        return np.zeros((len(world), 3), np.float32)
    hips = place - scale[:, None] * middle
    scale = np.exp(smoothed(np.log(np.where(known, scale, 1.0)), known))
    # Where too few joints were seen to lay one over the other, the place is taken from the frames around.
    at = np.flatnonzero(known)
    hips = np.stack([np.interp(np.arange(len(world)), at, hips[at, axis]) for axis in range(2)], 1)
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


def kinect_axes(points: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """``points (..., 3)`` (x right, y down, z away) as a Kinect has them: x to its left, y up; or in a mirror image."""
    return points * np.array([1 if mirrored else -1, -1, 1], np.float32)
