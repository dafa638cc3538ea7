"""Detectors of persons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hhmnet.pose.base import Detections, suppress
from hhmnet.pose.graphdef import read_constants
from hhmnet.pose.ssd import SSD

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
