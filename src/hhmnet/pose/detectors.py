"""Detectors of persons: SSD with MobileNetV2 for persons of any size, BlazePose's own for those near the camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hhmnet.pose.base import Detections, cut, suppress
from hhmnet.pose.estimators import sigmoid
from hhmnet.pose.networks import TFLite
from hhmnet.pose.ssd import SSD, read_constants

OVERLAP = 0.5
MIN_SCORE = 0.2


class PersonDetector:
    """Persons of any size, by SSD with MobileNetV2.

    Args:
        model: the file ``frozen_inference_graph.pb`` of ssd_mobilenet_v2_coco.
        size: length in pixels to which the picture's longer side is brought. The larger, the smaller the persons that
            are found (from about a tenth of ``size`` in height), and the slower: the time goes with its square.

    Raises:
        GraphError: the file isn't that network.
    """

    def __init__(self, model: Path, size: int = 512) -> None:
        self._net = SSD(read_constants(model))
        self.size = size

    def detect(self, image: np.ndarray) -> Detections:
        """Find the persons in ``image (H, W, 3)`` uint8; those with a score below 0.2 are left out."""
        height, width = image.shape[:2]
        scale = self.size / max(height, width)
        target = [max(round(length * scale), 1) for length in (height, width)]
        with torch.inference_mode():
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
            pixels = F.interpolate(pixels, size=target, mode="bilinear", antialias=True)
            scores, boxes = self._net(pixels.float())
            likely = scores >= MIN_SCORE
            found, places = scores[likely].numpy(), boxes[likely].numpy()
        places = places * np.tile([width / target[1], height / target[0]], 2)
        places = np.clip(places, 0, [width, height, width, height]).astype(np.float32)
        kept = suppress(places, found, OVERLAP)
        kept = kept[((places[kept, 2:] - places[kept, :2]) >= 2).all(1)]
        return Detections(places[kept], found[kept])


CLOSE_SIZE = 224
CLOSE_MIN_SCORE = 0.25
CLOSE_OVERLAP = 0.3

_STRIDES = (8, 16, 32, 32, 32)
_PER_PLACE = 2


class CloseDetector:
    """Persons who fill a good part of the picture, by BlazePose's own detector: fast. In wide views it finds none.

    Source: Bazarevsky et al., BlazePose: On-device Real-time Body Pose Tracking, CV4ARVR 2020; anchors and decoding
    follow MediaPipe's published graph for the pose detector.

    The boxes are squares around the whole body, also around what lies outside the picture.

    Args:
        model: the file ``pose_detection.tflite``.

    Raises:
        PoseError: the model can't be run.
    """

    def __init__(self, model: Path) -> None:
        self._net = TFLite(model)
        self._anchors = anchors()

    def detect(self, image: np.ndarray) -> Detections:
        """Find the persons in ``image (H, W, 3)`` uint8; those with a score below 0.25 are left out."""
        height, width = image.shape[:2]
        whole = np.array([width / 2, height / 2, max(width, height), 0.0])
        outputs = self._net.run((cut(image, whole, CLOSE_SIZE, black=True) / np.float32(127.5) - 1)[None])
        scores = sigmoid(outputs["Identity_1"].ravel())
        likely = scores >= CLOSE_MIN_SCORE
        scores = scores[likely].astype(np.float32)
        codes = outputs["Identity"].reshape(-1, 12)[likely] / CLOSE_SIZE
        # After the box, which frames the face, come the middle of the hips and a point on the circle around the body.
        points = (codes[:, 4:8].reshape(-1, 2, 2) + self._anchors[likely, None] - 0.5) * whole[2] + whole[:2]
        hips = points[:, 0]
        reach = np.linalg.norm(points[:, 1] - hips, axis=1, keepdims=True)
        boxes = np.concatenate([hips - reach, hips + reach], 1).astype(np.float32)
        kept = suppress(boxes, scores, CLOSE_OVERLAP)
        return Detections(boxes[kept], scores[kept])


def anchors() -> np.ndarray:
    """Centres of all anchors, ``(2254, 2)`` from 0 to 1: two for each stride at every place of its grid."""
    places = []
    for stride in sorted(set(_STRIDES)):
        count = CLOSE_SIZE // stride
        steps = (np.arange(count) + 0.5) / count
        grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        places.append(np.repeat(grid, _PER_PLACE * _STRIDES.count(stride), 0))
    return np.concatenate(places)
