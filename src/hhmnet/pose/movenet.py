"""MoveNet Lightning: the 17 joints of COCO in pixels; faster than BlazePose, and without depth.

Source: Votel, Li, Next-Generation Pose Detection with MoveNet and TensorFlow.js, TensorFlow blog, May 2021. The piece
of the picture for the next frame follows its published description: around the hips, so large that torso and limbs fit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hhmnet.pose.base import Poses
from hhmnet.pose.crop import cut, square_around, to_image
from hhmnet.pose.tflite import TFLite
from hhmnet.skeleton import COCO17

SIZE = 192
MARGIN = 1.25

_SEEN = 0.3
_SHOULDERS, _HIPS = (
    [COCO17.index(f"{side}_{joint}") for side in ("left", "right")] for joint in ("shoulder", "hip")
)
_TORSO = _SHOULDERS + _HIPS
_ENOUGH = 8


class MoveNet:
    """Joints of persons by MoveNet Lightning.

    Args:
        model: the file ``movenet_lightning.tflite``.

    Raises:
        PoseError: the model can't be run.
    """

    layout = COCO17

    def __init__(self, model: Path) -> None:
        self._net = TFLite(model)

    def estimate(self, image: np.ndarray, boxes: np.ndarray, regions: np.ndarray | None = None) -> Poses:
        """Find the joints of the persons in ``boxes``; see :class:`~hhmnet.pose.base.PoseEstimator`."""
        pixels = np.zeros((len(boxes), COCO17.num_joints, 2), np.float32)
        scores = np.zeros((len(boxes), COCO17.num_joints), np.float32)
        following = np.full((len(boxes), 4), np.nan, np.float32)
        for i, box in enumerate(boxes):
            upright = square_around(box, MARGIN)
            known = regions is not None and not np.isnan(regions[i]).any()
            region = regions[i] if known and regions is not None else upright
            piece = cut(image, region, SIZE).round().astype(self._net.input_type)
            (found,) = self._net.run(piece[None]).values()
            joints = found.reshape(COCO17.num_joints, 3)
            pixels[i], scores[i] = to_image(joints[:, 1::-1], region), joints[:, 2]
            next_region = region_around(pixels[i], scores[i])
            following[i] = upright if next_region is None else next_region
        # Sure joints of half a body are enough to say that somebody is there.
        found = np.minimum((scores >= _SEEN).sum(1) / _ENOUGH, 1).astype(np.float32)
        return Poses(pixels, scores, None, found, following)


def region_around(pixels: np.ndarray, scores: np.ndarray) -> np.ndarray | None:
    """The square region ``(4,)`` around joints ``(17, 2)``; None if the hips or shoulders aren't seen."""
    seen = scores >= _SEEN
    if not (seen[_SHOULDERS].any() and seen[_HIPS].any()):
        return None
    hips = pixels[_HIPS][seen[_HIPS]].mean(0)
    away = np.abs(pixels - hips).max(1)
    torso = away[_TORSO][seen[_TORSO]].max()
    half = max(1.9 * torso, 1.2 * away[seen].max())
    return np.array([*hips, 2 * half, 0.0])
