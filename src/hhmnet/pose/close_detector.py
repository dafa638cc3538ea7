"""BlazePose's own detector: fast, for persons who fill a good part of the picture.

Source: Bazarevsky et al., BlazePose: On-device Real-time Body Pose Tracking, CV4ARVR 2020; anchors and decoding follow
MediaPipe's published graph for the pose detector.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hhmnet.pose.base import Detections, suppress
from hhmnet.pose.blazepose import sigmoid
from hhmnet.pose.crop import cut
from hhmnet.pose.tflite import TFLite

SIZE = 224
MIN_SCORE = 0.25
OVERLAP = 0.3

_STRIDES = (8, 16, 32, 32, 32)
_PER_PLACE = 2


class CloseDetector:
    """Persons near the camera. In wide views it finds none.

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
        outputs = self._net.run((cut(image, whole, SIZE, black=True) / np.float32(127.5) - 1)[None])
        scores = sigmoid(outputs["Identity_1"].ravel())
        likely = scores >= MIN_SCORE
        scores = scores[likely].astype(np.float32)
        codes = outputs["Identity"].reshape(-1, 12)[likely] / SIZE
        # After the box, which frames the face, come the middle of the hips and a point on the circle around the body.
        points = (codes[:, 4:8].reshape(-1, 2, 2) + self._anchors[likely, None] - 0.5) * whole[2] + whole[:2]
        hips = points[:, 0]
        reach = np.linalg.norm(points[:, 1] - hips, axis=1, keepdims=True)
        boxes = np.concatenate([hips - reach, hips + reach], 1).astype(np.float32)
        kept = suppress(boxes, scores, OVERLAP)
        return Detections(boxes[kept], scores[kept])


def anchors() -> np.ndarray:
    """Centres of all anchors, ``(2254, 2)`` from 0 to 1: two for each stride at every place of its grid."""
    places = []
    for stride in sorted(set(_STRIDES)):
        count = SIZE // stride
        steps = (np.arange(count) + 0.5) / count
        grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        places.append(np.repeat(grid, _PER_PLACE * _STRIDES.count(stride), 0))
    return np.concatenate(places)
