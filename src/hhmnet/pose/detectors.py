"""Finds persons by SSD with MobileNetV2: a frozen TensorFlow graph whose weights are run in PyTorch, for persons only.

Sources: Sandler et al.,
MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018; Liu et al., SSD: Single Shot MultiBox Detector, ECCV
2016; the weights are those of the model ``ssd_mobilenet_v2_coco`` of TensorFlow's object detection models, trained on
COCO at 300×300 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hhmnet.pose.estimators import iou
from hhmnet.pose.networks import PoseError

TRAINED_SIZE = 300
PERSON = 1
_DT_FLOAT = 1  # TensorFlow's types.proto

_STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
# Distance and first place of the anchors on each feature map: what a place sees is centred 11 (first two maps), 43 or
# 299 pixels behind its multiple of the stride, and on average 5, 21 or 149 behind the anchor it was trained with.
_GRIDS = ((16, 6), (32, 6), (64, 22), (128, 22), (256, 22), (512, 150))
_FIRST_MAP = 13  # the block whose widened features are the first map
_EXTRAS = ((2, 256, 512), (3, 128, 256), (4, 128, 256), (5, 64, 128))
_EPSILON = 1e-3
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
_RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
_CENTER_VARIANCE, _SIZE_VARIANCE = 10.0, 5.0
MIN_SCORE, OVERLAP = 0.2, 0.5


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Non-maximum suppression: indices of the boxes to keep, the best first.

    Of two ``boxes (P, 4)`` whose intersection over union is above ``overlap``, the one with the better of their
    ``scores (P,)`` stays.
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = iou(boxes[order][:, None], boxes[order]) > overlap
    kept: list[int] = []
    for i in range(len(order)):
        if not overlaps[i, kept].any():
            kept.append(i)
    return order[kept]


def read_constants(path: Path) -> dict[str, np.ndarray]:
    """Every constant float tensor of a frozen TensorFlow graph, by the name of its node. Raises PoseError: the file is
    not a frozen graph, or the package ``tensorboard`` is missing."""
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.graph_pb2 import GraphDef
    except ImportError as error:
        remedy = "install hhmnet with its extra: pip install 'hhmnet[pose]'"
        raise PoseError(f"the package tensorboard can't be used ({error}); {remedy}") from None
    graph, constants = GraphDef(), {}
    try:
        graph.ParseFromString(Path(path).read_bytes())
        for node in graph.node:
            if node.op == "Const" and (tensor := node.attr["value"].tensor).dtype == _DT_FLOAT:
                values = np.array(tensor.float_val or np.frombuffer(tensor.tensor_content, "<f4"), np.float32)
                shape = [size.size for size in tensor.tensor_shape.dim]
                # One number may stand for all of them.
                constants[node.name] = np.resize(values, shape) if len(values) == 1 else values.reshape(shape)
    except (DecodeError, ValueError) as error:
        raise PoseError(f"{path} is not a frozen TensorFlow graph ({error})") from None
    if not constants:
        raise PoseError(f"{path} is not a frozen TensorFlow graph (it holds no weights)")
    return constants


class PersonDetector:
    """Finds persons of any size by SSD with MobileNetV2.

    All layers are convolutions, so the picture need not be 300×300: a larger one lets smaller persons be found, since
    the sizes that the anchors look for are fixed in pixels. What a place of a feature map sees depends on how its
    layers are padded, and that on whether sizes are even. So the padding on the left and above is always that of
    300×300, and :func:`anchors` are laid where the network learned to expect them; else boxes would be off by a tenth
    of the picture and more.

    Args:
        weights: constants of the frozen graph by name, as :func:`read_constants` gives them.
        size: length in pixels to which the picture's longer side is brought. The larger, the smaller the persons that
            are found (from about a tenth of ``size`` in height), and the slower: the time goes with its square.

    Attributes:
        before: padding on the left and above of each convolution, by name, in their order.

    Raises PoseError: a weight is missing.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], size: int = 512) -> None:
        self.size = size
        self._weights = {
            name: torch.from_numpy(np.array(array, np.float32)) for name, array in weights.items()
        }
        self._folded: dict[str, tuple[Tensor, Tensor]] = {}
        self.before: dict[str, int] = {}
        # Folds and names all weights, and learns the padding.
        self.rate(torch.zeros(1, 3, TRAINED_SIZE, TRAINED_SIZE))
        self._weights.clear()

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and scores of the persons in ``image (H, W, 3)`` uint8; those with a score below 0.2 are left out."""
        height, width = image.shape[:2]
        scale = self.size / max(height, width)
        target = [max(round(length * scale), 1) for length in (height, width)]
        with torch.inference_mode():
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
            pixels = F.interpolate(pixels, size=target, mode="bilinear", antialias=True)
            scores, boxes = self.rate(pixels.float())
            likely = scores >= MIN_SCORE
            found, places = scores[likely].numpy(), boxes[likely].numpy()
        places = places * np.tile([width / target[1], height / target[0]], 2)
        places = np.clip(places, 0, [width, height, width, height]).astype(np.float32)
        kept = suppress(places, found, OVERLAP)
        kept = kept[((places[kept, 2:] - places[kept, :2]) >= 2).all(1)]
        return places[kept], found[kept]

    def rate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(A,)`` and boxes ``(A, 4)`` of all anchors in ``image (1, 3, H, W)`` float32 from 0 to 255."""
        x = (image * (2 / 255) - 1).contiguous(memory_format=torch.channels_last)
        x, maps = self._layer(x, "Conv", 2), []
        for i, stride in enumerate(_STRIDES):  # inverted residuals: widen, filter each channel, narrow
            name = f"expanded_conv_{i}" if i else "expanded_conv"
            wide = self._layer(x, f"{name}/expand") if i else x
            if i == _FIRST_MAP:
                maps.append(wide)
            y = self._layer(self._layer(wide, f"{name}/depthwise", stride), f"{name}/project", active=False)
            x = x + y if x.shape == y.shape else y
        x = self._layer(x, "Conv_1")
        maps.append(x)
        for i, narrow, broad in _EXTRAS:
            x = self._layer(x, f"layer_19_1_Conv2d_{i}_1x1_{narrow}")
            x = self._layer(x, f"layer_19_2_Conv2d_{i}_3x3_s2_{broad}_depthwise", 2)
            x = self._layer(x, f"layer_19_2_Conv2d_{i}_3x3_s2_{broad}")
            maps.append(x)
        scores, boxes = [], []
        for level, features in enumerate(maps):
            found = F.conv2d(features, *self._head(level), padding=1)[0].permute(1, 2, 0)
            rows, columns, _ = found.shape
            found = found.reshape(-1, 5)
            scores.append(found[:, 0])
            boxes.append(decode(found[:, 1:], anchors(level, rows, columns, *image.shape[2:])))
        return torch.cat(scores).sigmoid(), torch.cat(boxes)

    def _layer(self, x: Tensor, name: str, stride: int = 1, active: bool = True) -> Tensor:
        """A convolution with the batch norm behind it folded in, and TensorFlow's padding."""
        if name not in self._folded:
            self._folded[name] = self._fold(f"FeatureExtractor/MobilenetV2/{name}")
        kernel, bias = self._folded[name]
        needed = [(-(-n // stride) - 1) * stride + kernel.shape[-1] - n for n in x.shape[2:]]
        x = same_conv(x, kernel, bias, stride, self.before.setdefault(name, needed[0] // 2))
        return F.relu6(x, inplace=True) if active else x

    def _fold(self, name: str) -> tuple[Tensor, Tensor]:
        if name.endswith("depthwise"):
            kernel = self._weight(f"{name}/depthwise_weights").permute(2, 3, 0, 1)
        else:
            kernel = self._weight(f"{name}/weights").permute(3, 2, 0, 1)
        gamma, beta, mean, variance = (
            self._weight(f"{name}/BatchNorm/{part}")
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / (variance + _EPSILON).sqrt()
        kernel = (kernel * scale[:, None, None, None]).contiguous(memory_format=torch.channels_last)
        return kernel, beta - mean * scale

    def _head(self, level: int) -> tuple[Tensor, Tensor]:
        """Score of a person and the box's four numbers in one convolution, ``(score, y, x, h, w)`` per anchor."""
        name = f"BoxPredictor_{level}"
        if name not in self._folded:
            kernel, bias = (self._weight(f"{name}/ClassPredictor/{part}") for part in ("weights", "biases"))
            boxes, shift = (
                self._weight(f"{name}/BoxEncodingPredictor/{part}") for part in ("weights", "biases")
            )
            count = len(shift) // 4
            kernel = kernel.unflatten(-1, (count, -1))[..., PERSON : PERSON + 1]
            kernel = torch.cat([kernel, boxes.unflatten(-1, (count, 4))], -1).flatten(-2).permute(3, 2, 0, 1)
            bias = torch.cat([bias.view(count, -1)[:, PERSON : PERSON + 1], shift.view(count, 4)], -1)
            self._folded[name] = kernel.contiguous(memory_format=torch.channels_last), bias.flatten()
        return self._folded[name]

    def _weight(self, name: str) -> Tensor:
        if name not in self._weights:
            raise PoseError(f"the frozen graph has no weight '{name}'; it is not ssd_mobilenet_v2_coco")
        return self._weights[name]


def same_conv(x: Tensor, kernel: Tensor, bias: Tensor, stride: int, before: int) -> Tensor:
    """Convolution with TensorFlow's "same" padding, which is uneven where the stride is 2.

    Args:
        x: ``(1, C, H, W)``.
        kernel: ``(out, in, k, k)``; with one input channel each output channel has its own.
        bias: ``(out,)``.
        stride: 1 or 2.
        before: padding on the left and above; what is needed is added on the right and below.
    """
    after = [(-(-n // stride) - 1) * stride + kernel.shape[-1] - n - before for n in x.shape[2:]]
    x = F.pad(x, [before, after[1], before, after[0]]) if after != [before, before] else x
    padding = 0 if after != [before, before] else before
    return F.conv2d(x, kernel, bias, stride, padding, groups=x.shape[1] if kernel.shape[1] == 1 else 1)


def anchors(level: int, rows: int, columns: int, height: int, width: int) -> Tensor:
    """Anchors of one feature map, ``(rows · columns · k, 4)`` float32: centre y, centre x, height, width in pixels.

    Their sizes are those of a picture of 300×300 pixels, whatever the picture's size. The first map has 3 a place,
    the others 6 (Liu et al., section 2.2).
    """
    scale, following = _SCALES[level : level + 2]
    if level == 0:
        shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
    else:
        shapes = [*((scale, ratio) for ratio in _RATIOS), ((scale * following) ** 0.5, 1.0)]
    sizes = torch.tensor([(size / ratio**0.5, size * ratio**0.5) for size, ratio in shapes]) * TRAINED_SIZE
    y, x = (_places(level, count, length) for count, length in ((rows, height), (columns, width)))
    centers = torch.cartesian_prod(y, x)
    return torch.cat([centers.repeat_interleave(len(shapes), 0), sizes.repeat(len(centers), 1)], 1)


def _places(level: int, count: int, length: int) -> Tensor:
    """Where the anchors of one row or column lie, ``(count,)`` pixels."""
    if length == TRAINED_SIZE:
        return (torch.arange(count) + 0.5) * (length / count)
    stride, first = _GRIDS[level]
    return torch.arange(count, dtype=torch.float32) * stride + first


def decode(codes: Tensor, grid: Tensor) -> Tensor:
    """Boxes ``(A, 4)`` (left, top, right, bottom) of the network's ``codes (A, 4)`` relative to anchors ``(A, 4)``."""
    center = grid[:, :2] + codes[:, :2] / _CENTER_VARIANCE * grid[:, 2:]
    half = grid[:, 2:] * torch.exp(codes[:, 2:] / _SIZE_VARIANCE) / 2
    return torch.cat([center - half, center + half], 1)[:, [1, 0, 3, 2]]
