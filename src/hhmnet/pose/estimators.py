"""Estimators of joints: BlazePose (33 joints in pixels and metres) and MoveNet Lightning (17 in pixels, faster)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hhmnet.pose.base import Poses, cut, rotate, square_around, to_image
from hhmnet.pose.networks import TFLite
from hhmnet.skeleton import BLAZEPOSE33, COCO17, SkeletonLayout

BLAZEPOSE_SIZE = 256
MARGIN = 1.25
FIRST_MARGIN = 1.6
NUM_JOINTS = 33

_HIPS, _SCALE = 33, 34
_LANDMARKS, _FOUND, _HEATMAP, _WORLD = "Identity", "Identity_1", "Identity_3", "Identity_4"
_WINDOW = 7
_MIN_HEAT = 0.5
_LOST = 0.5

MOVENET_SIZE = 192

_COCO_SEEN = 0.3
_COCO_SHOULDERS, _COCO_HIPS = (
    [COCO17.index(f"{side}_{joint}") for side in ("left", "right")] for joint in ("shoulder", "hip")
)
_TORSO = _COCO_SHOULDERS + _COCO_HIPS
_ENOUGH = 8


class _Person(NamedTuple):
    """One person's part of :class:`~hhmnet.pose.base.Poses`; ``world`` is None from an estimator of two dimensions."""

    pixels: np.ndarray
    confidence: np.ndarray
    world: np.ndarray | None
    found: float
    region: np.ndarray


class _Estimator:
    """What both estimators share: a network, asked about one person after the other.

    Args:
        model: the network's file.

    Raises:
        PoseError: the model can't be run.
    """

    layout: SkeletonLayout

    def __init__(self, model: Path) -> None:
        self._net = TFLite(model)

    def estimate(self, image: np.ndarray, boxes: np.ndarray, regions: np.ndarray | None = None) -> Poses:
        """Find the joints of the persons in ``boxes``; see :class:`~hhmnet.pose.base.PoseEstimator`."""
        if regions is None:
            regions = np.full((len(boxes), 4), np.nan)
        persons = [
            self._find(image, box, None if np.isnan(region).any() else region)
            for box, region in zip(boxes, regions, strict=True)
        ]

        def stacked(field: str, *shape: int) -> np.ndarray:
            return np.array([getattr(one, field) for one in persons], np.float32).reshape(-1, *shape)

        joints = self.layout.num_joints
        return Poses(
            pixels=stacked("pixels", joints, 2),
            confidence=stacked("confidence", joints),
            world=stacked("world", joints, 3) if self.layout.dims == 3 else None,
            found=stacked("found"),
            regions=stacked("region", 4),
        )

    def _find(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None) -> _Person:
        raise NotImplementedError


class BlazePose(_Estimator):
    """Joints of persons by BlazePose's landmark network, the variant *full*.

    The network wants a square piece of the picture, centred on the hips and turned until the person stands upright.
    Two of its outputs say where that piece should be; so the piece of one frame comes from the frame before. With
    nothing but a box it looks twice: first at a wide upright square around the box, then at the piece that follows from
    it. If nobody is found in the first, the box may show the upper half of a person whom the picture's edge cuts off.

    A joint's confidence is ``presence · (1 + visibility) / 2``: about 1 for a joint that is seen and about a half for
    one that is hidden or outside the picture and was inferred, as an NTU file's tracking states are read.

    Sources: Bazarevsky et al., BlazePose: On-device Real-time Body Pose Tracking, CV4ARVR 2020; Xu et al., GHUM &
    GHUML: Generative 3D Human Shape and Articulated Pose Models, CVPR 2020 (the joints in metres). What happens before
    and after the network follows MediaPipe's published graphs for the pose landmarks.

    The model is the file ``pose_landmark_full.tflite``.
    """

    layout = BLAZEPOSE33

    def _find(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None) -> _Person:
        if region is not None:
            return self._look(image, region)
        for first in (square_around(box, FIRST_MARGIN), whole_body(box)):
            person = self._look(image, first)
            if person.found >= _LOST:
                return max(person, self._look(image, person.region), key=lambda one: one.found)
        return person

    def _look(self, image: np.ndarray, region: np.ndarray) -> _Person:
        outputs = self._net.run((cut(image, region, BLAZEPOSE_SIZE) / np.float32(255))[None])
        landmarks = outputs[_LANDMARKS].reshape(-1, 5)
        points = to_image(refine(landmarks[:, :2] / BLAZEPOSE_SIZE, outputs[_HEATMAP][0]), region)
        pixels = points[:NUM_JOINTS]
        world = outputs[_WORLD].reshape(-1, 3)[:NUM_JOINTS].copy()
        world[:, :2] = rotate(world[:, :2], float(region[3]))
        visible, there = (sigmoid(landmarks[:NUM_JOINTS, column]) for column in (3, 4))
        height, width = image.shape[:2]
        inside = ((pixels >= 0) & (pixels <= (width, height))).all(1)
        confidence = there * (1 + visible * inside) / 2
        found = float(outputs[_FOUND].ravel()[0])
        return _Person(pixels, confidence, world, found, aligned(points[_HIPS], points[_SCALE]))


def whole_body(box: np.ndarray) -> np.ndarray:
    """The upright region ``(4,)`` around a person of whom ``box (4,)`` shows the part above the hips."""
    left, top, right, bottom = (float(edge) for edge in box)
    return np.array([(left + right) / 2, bottom, 2 * (bottom - top) * MARGIN, 0.0])


def aligned(hips: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The region ``(4,)`` around a person, from the middle of the hips and the point that tells size and turn.

    That point lies straight above the hips of an upright person, on the circle around the whole body.
    """
    across, down = scale - hips
    turn = math.pi / 2 - math.atan2(-down, across)
    turn -= 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))
    return np.array([*hips, 2 * math.hypot(across, down) * MARGIN, turn])


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
    """The logistic function, without overflow."""
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


class MoveNet(_Estimator):
    """Joints of persons by MoveNet Lightning: the 17 of COCO in pixels; faster than BlazePose, and without depth.

    Source: Votel, Li, Next-Generation Pose Detection with MoveNet and TensorFlow.js, TensorFlow blog, May 2021. The
    piece of the picture for the next frame follows its published description: around the hips, so large that torso and
    limbs fit.

    The model is the file ``movenet_lightning.tflite``.
    """

    layout = COCO17

    def _find(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None) -> _Person:
        upright = square_around(box, MARGIN)
        region = upright if region is None else region
        (output,) = self._net.run(cut(image, region, MOVENET_SIZE).round()[None]).values()
        joints = output.reshape(COCO17.num_joints, 3)
        pixels, scores = to_image(joints[:, 1::-1], region).astype(np.float32), joints[:, 2]
        following = region_around(pixels, scores)
        # Sure joints of half a body are enough to say that somebody is there.
        found = min((scores >= _COCO_SEEN).sum() / _ENOUGH, 1.0)
        return _Person(pixels, scores, None, found, upright if following is None else following)


def region_around(pixels: np.ndarray, scores: np.ndarray) -> np.ndarray | None:
    """The square region ``(4,)`` around joints ``(17, 2)``; None if the hips or shoulders aren't seen."""
    seen = scores >= _COCO_SEEN
    if not (seen[_COCO_SHOULDERS].any() and seen[_COCO_HIPS].any()):
        return None
    hips = pixels[_COCO_HIPS][seen[_COCO_HIPS]].mean(0)
    away = np.abs(pixels - hips).max(1)
    torso = away[_TORSO][seen[_TORSO]].max()
    half = max(1.9 * torso, 1.2 * away[seen].max())
    return np.array([*hips, 2 * half, 0.0])
