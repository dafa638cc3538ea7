"""What a detector of persons and an estimator of joints must offer, the regions they look at, and BlazePose."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from hhmnet.pose.networks import PoseError
from hhmnet.skeleton import BLAZEPOSE33, SkeletonLayout

LOST = 0.5
"""Below this there is no person."""


class Pose(NamedTuple):
    """Joints of a person in a picture.

    Attributes:
        pixels: ``(V, 2)`` from the picture's upper left corner (x right, y down); a joint may lie outside the picture.
        confidence: trust in each joint, ``(V,)`` from 0 to 1.
        world: ``(V, 3)`` metres from the middle between the hips (x right, y down, z away from the camera).
        found: whether there is a person at all, from 0 to 1.
        region: the square piece of the picture in which to look for the same person in the next frame, ``(4,)``: centre
            x, centre y, side (pixels) and turn (radians, clockwise as seen); None from who only looks at boxes.
    """

    pixels: np.ndarray
    confidence: np.ndarray
    world: np.ndarray
    found: float
    region: np.ndarray | None


class Detector(Protocol):
    """Finds persons in a picture."""

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes ``(P, 4)`` (left, top, right, bottom) and scores ``(P,)`` from 0 to 1 in ``image (H, W, 3)`` uint8."""
        ...


class PoseEstimator(Protocol):
    """Finds the joints, of the skeleton ``layout``, of a person whose box is known."""

    layout: SkeletonLayout

    def estimate(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None = None) -> Pose:
        """The joints of the person in ``box (4,)`` of ``image (H, W, 3)`` uint8.

        ``region`` is what the frame before gave, which is finer than a box; None if the person wasn't there.
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


def cut(image: np.ndarray, region: np.ndarray, size: int) -> np.ndarray:
    """The piece ``(size, size, 3)`` float32, 0 to 255, of ``image (H, W, 3)`` uint8 that a region ``(4,)`` shows.

    Sampled bilinearly; outside the picture its edge goes on.
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
    places = torch.from_numpy(grid.astype(np.float32))[None]
    piece = F.grid_sample(part, places, padding_mode="border", align_corners=False)
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


_SIZE, _NUM_JOINTS = 256, 33
_MARGIN, _FIRST_MARGIN = 1.25, 1.6
_HIPS, _SCALE = 33, 34
_LANDMARKS, _FOUND, _HEATMAP, _WORLD = "Identity", "Identity_1", "Identity_3", "Identity_4"
_WINDOW = 7
_MIN_HEAT = 0.5


class BlazePose:
    """Joints of persons by BlazePose's landmark network, the variant *full*.

    The network wants a square piece of the picture, centred on the hips and turned until the person stands upright;
    two of its outputs say where that is in the next frame. With nothing but a box it looks twice: at a wide upright
    square around the box, then at the piece that follows from it. If nobody is found in the first, the box may show the
    upper half of a person whom the picture's edge cuts off.

    A joint's confidence is ``presence · (1 + visibility) / 2``: about 1 for a joint that is seen and about a half for
    one that is hidden or outside the picture and was inferred, as an NTU file's tracking states are read.

    Sources: Bazarevsky et al., BlazePose: On-device Real-time Body Pose Tracking, CV4ARVR 2020; Xu et al., GHUM &
    GHUML: Generative 3D Human Shape and Articulated Pose Models, CVPR 2020 (the joints in metres). What happens before
    and after the network follows MediaPipe's published graphs for the pose landmarks.

    Args:
        model: the file ``pose_landmark_full.tflite``.
        threads: of the network; what it finds doesn't depend on it.

    Raises PoseError: the package ``ai-edge-litert`` is missing, or the file is not a model.
    """

    layout: SkeletonLayout = BLAZEPOSE33

    def __init__(self, model: Path, threads: int = 1) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            remedy = "install hhmnet with its extra: pip install 'hhmnet[pose]'"
            raise PoseError(f"the package ai-edge-litert can't be used ({error}); {remedy}") from None
        try:
            with _quiet():
                self._net: Any = Interpreter(str(model), num_threads=threads)
                self._net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise PoseError(f"{model} is not a TensorFlow Lite model ({error})") from None

    def estimate(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None = None) -> Pose:
        """The joints of the person in ``box``; see :class:`PoseEstimator`."""
        if region is not None:
            return self._look(image, region)
        left, top, right, bottom = (float(edge) for edge in box)
        x, height = (left + right) / 2, bottom - top
        around = np.array([x, (top + bottom) / 2, max(right - left, height) * _FIRST_MARGIN, 0.0])
        below = np.array([x, bottom, 2 * height * _MARGIN, 0.0])
        for first in (around, below):
            pose = self._look(image, first)
            if pose.found >= LOST and pose.region is not None:
                return max(pose, self._look(image, pose.region), key=lambda one: one.found)
        return pose

    def _look(self, image: np.ndarray, region: np.ndarray) -> Pose:
        outputs = self._run(cut(image, region, _SIZE) / np.float32(255))
        landmarks = outputs[_LANDMARKS].reshape(-1, 5)
        points = to_image(refine(landmarks[:, :2] / _SIZE, outputs[_HEATMAP][0]), region)
        pixels = points[:_NUM_JOINTS]
        world = outputs[_WORLD].reshape(-1, 3)[:_NUM_JOINTS].copy()
        world[:, :2] = rotate(world[:, :2], float(region[3]))
        visible, there = (sigmoid(landmarks[:_NUM_JOINTS, column]) for column in (3, 4))
        height, width = image.shape[:2]
        inside = ((pixels >= 0) & (pixels <= (width, height))).all(1)
        confidence = there * (1 + visible * inside) / 2
        found = float(outputs[_FOUND].ravel()[0])
        return Pose(pixels, confidence, world, found, aligned(points[_HIPS], points[_SCALE]))

    def _run(self, piece: np.ndarray) -> dict[str, np.ndarray]:
        """The network's outputs by name."""
        (first,) = self._net.get_input_details()
        self._net.set_tensor(first["index"], piece[None].astype(first["dtype"], copy=False))
        self._net.invoke()
        return {one["name"]: self._net.get_tensor(one["index"]) for one in self._net.get_output_details()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the runtime's own lines off standard error: it writes there, below Python, that it took its usual path."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):  # there is no standard error
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def aligned(hips: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The region ``(4,)`` around a person, from the middle of the hips and the point that tells size and turn.

    That point lies straight above the hips of an upright person, on the circle around the whole body.
    """
    across, down = scale - hips
    turn = math.pi / 2 - math.atan2(-down, across)
    turn -= 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))
    return np.array([*hips, 2 * math.hypot(across, down) * _MARGIN, turn])


def refine(points: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Move ``points (K, 2)``, from 0 to 1, to the centre of heat around them in ``heatmap (H, W, K)`` of logits.

    A point whose surroundings of 7×7 cells are nowhere warmer than 0.5 stays, and so does one that lies outside.
    """
    rows, columns, count = heatmap.shape
    near = np.floor(points * (columns, rows)).astype(int)
    reach = np.arange(_WINDOW) - _WINDOW // 2
    y, x = near[:, 1, None, None] + reach[:, None], near[:, 0, None, None] + reach[None, :]
    y, x = np.broadcast_arrays(y, x)
    valid = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    joint = np.arange(count)[:, None, None]
    heat = np.where(valid, sigmoid(heatmap[y.clip(0, rows - 1), x.clip(0, columns - 1), joint]), 0.0)
    total = heat.sum((1, 2))
    inside = ((near >= 0) & (near < (columns, rows))).all(1)
    warm = (heat.max((1, 2)) >= _MIN_HEAT) & inside
    total = np.where(warm, total, 1.0)
    moved = np.stack([(heat * x).sum((1, 2)) / total / columns, (heat * y).sum((1, 2)) / total / rows], 1)
    return np.where(warm[:, None], moved, points)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
