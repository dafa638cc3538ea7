from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.util.tensor_util import make_tensor_proto
from torch import Tensor

from hhmnet.pose.detectors import PersonDetector, anchors, decode, read_constants, same_conv, suppress
from hhmnet.pose.estimators import iou
from hhmnet.pose.networks import PoseError


def shapes(channels: int = 8) -> dict[str, tuple[int, ...]]:
    """Names of ssd_mobilenet_v2_coco's weights, from the tables of the two papers, with fewer channels."""
    found: dict[str, tuple[int, ...]] = {}

    def conv(name: str, size: int, into: int = channels) -> None:
        name, deep = f"FeatureExtractor/MobilenetV2/{name}", name.endswith("depthwise")
        found[f"{name}/{'depthwise_' if deep else ''}weights"] = (size, size, into, 1 if deep else channels)
        for norm in ("gamma", "beta", "moving_mean", "moving_variance"):
            found[f"{name}/BatchNorm/{norm}"] = (channels,)

    conv("Conv", 3, 3)
    for block in range(17):
        name = f"expanded_conv{f'_{block}' if block else ''}"
        if block:
            conv(f"{name}/expand", 1)
        conv(f"{name}/depthwise", 3)
        conv(f"{name}/project", 1)
    conv("Conv_1", 1)
    for layer, narrow, wide in ((2, 256, 512), (3, 128, 256), (4, 128, 256), (5, 64, 128)):
        conv(f"layer_19_1_Conv2d_{layer}_1x1_{narrow}", 1)
        conv(f"layer_19_2_Conv2d_{layer}_3x3_s2_{wide}_depthwise", 3)
        conv(f"layer_19_2_Conv2d_{layer}_3x3_s2_{wide}", 1)
    for level in range(6):
        count = 3 if level == 0 else 6
        for part, size in (("ClassPredictor", 91), ("BoxEncodingPredictor", 4)):
            found[f"BoxPredictor_{level}/{part}/weights"] = (3, 3, channels, count * size)
            found[f"BoxPredictor_{level}/{part}/biases"] = (count * size,)
    return found


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    """One in the second map's scores of persons, the other classes -1; else nothing but norms of one."""
    made = {
        name: np.full(shape, name.endswith(("moving_variance", "gamma")), np.float32)
        for name, shape in shapes().items()
    }
    scores = made["BoxPredictor_1/ClassPredictor/biases"].reshape(6, 91)
    scores[:], scores[:, 1] = -1, 9  # a person is class 1 of 91
    return made


@pytest.fixture(scope="module")
def net(weights: dict[str, np.ndarray]) -> PersonDetector:
    return PersonDetector(weights)


def test_the_network_reads_every_weight_and_finds_persons(
    net: PersonDetector, weights: dict[str, np.ndarray]
) -> None:
    scores, boxes = net.rate(torch.rand(1, 3, 300, 300) * 255)
    assert scores.shape == (1917,)  # 19²·3 + (10² + 5² + 3² + 2² + 1)·6, as in the published model
    level = scores[19 * 19 * 3 :][: 10 * 10 * 6]
    torch.testing.assert_close(level, torch.tensor(9.0).sigmoid().expand(600))
    scores, boxes = net.rate(torch.rand(1, 3, 100, 333) * 255)  # any size goes
    assert len(scores) == len(boxes)
    assert torch.isfinite(boxes).all()
    name = "FeatureExtractor/MobilenetV2/Conv_1/weights"
    with pytest.raises(PoseError, match=f"no weight '{name}'"):
        PersonDetector({key: array for key, array in weights.items() if key != name})


@pytest.mark.parametrize("length", [38, 19, 5, 3, 2])
def test_padding_is_tensorflows_at_the_trained_sizes(length: int) -> None:
    kernel, x = torch.randn(1, 1, 3, 3), torch.randn(1, 1, length, length)
    out = -(-length // 2)
    before = ((out - 1) * 2 + 3 - length) // 2  # output i sees inputs 2i - before … 2i - before + 2
    padded = np.pad(x[0, 0].numpy(), (before, 3))
    expected = torch.from_numpy(correlate2d(padded, kernel[0, 0].numpy(), "valid")[::2, ::2][:out, :out])
    made = same_conv(x, kernel, torch.zeros(1), 2, before)[0, 0]
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def seen_center(paddings: list[int], length: int, place: int) -> float:
    """Middle of the input pixels that an output place sees, found by the gradient."""
    x = torch.zeros(1, 1, length, length, requires_grad=True)
    y: Tensor = x
    for before in paddings:
        y = same_conv(y, torch.ones(1, 1, 3, 3), torch.zeros(1), 2, before)
    y[0, 0, place, place].backward()
    assert x.grad is not None
    seen = torch.nonzero(x.grad[0, 0].sum(0))
    return (seen.min() + seen.max()).item() / 2


@pytest.mark.parametrize("size", [300, 512, 736])
def test_anchors_lie_where_the_network_looks(net: PersonDetector, size: int) -> None:
    """The way from what a place sees to its anchor must be the one that the network was trained with."""
    halving = ["Conv", *(f"expanded_conv_{block}/depthwise" for block in (1, 3, 6, 13))]
    paddings = [
        before for name, before in net.before.items() if name in halving or name.endswith("_depthwise")
    ]
    for level, depth in enumerate((4, 5, 6)):
        offsets = []
        for length in (300, size):
            place = length // 2**depth // 2  # in the middle, where no edge is seen
            count = -(-length // 2**depth)
            grid = anchors(level, count, count, length, length)
            per = len(grid) // count**2
            offsets.append(seen_center(paddings[:depth], length, place) - grid[place * per * count, 0].item())
        # Between two anchors of training lie 300/n pixels, not the stride: hence a little more or less.
        assert offsets[1] == pytest.approx(offsets[0], abs=0.13 * 2**depth)


def test_anchors_and_boxes_are_those_of_the_paper() -> None:
    grid = anchors(1, 10, 10, 300, 300).view(100, 6, 4)
    heights, widths = grid[0, :, 2], grid[0, :, 3]
    assert (widths / heights).tolist() == pytest.approx([1, 2, 0.5, 3, 1 / 3, 1], rel=1e-3)
    scales = [0.35] * 5 + [(0.35 * 0.5) ** 0.5]
    assert ((heights * widths) ** 0.5 / 300).tolist() == pytest.approx(scales, rel=1e-3)
    assert grid[12, 0, :2].tolist() == pytest.approx([45, 75])  # row 1, column 2 of ten
    code, anchor = torch.tensor([[2.0, -1.0, 1.5, 0.5]]), torch.tensor([[50.0, 80.0, 20.0, 10.0]])
    y, x, height, width = 54.0, 79.0, 20 * np.exp(0.3), 10 * np.exp(0.1)  # variances 10 and 5
    expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    assert decode(code, anchor)[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_constants_are_read_with_their_shapes_and_other_files_are_no_graph(tmp_path: Path) -> None:
    weights = {"weights": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "scale": np.float32(7)}
    graph = GraphDef()
    for name, array in (weights | {"axis": np.int32([1]), "ones": np.zeros(3, np.float32)}).items():
        tensor = graph.node.add(name=name, op="Const").attr["value"].tensor
        tensor.CopyFrom(make_tensor_proto(array))
    tensor.ClearField("tensor_content")
    tensor.float_val[:] = [1]  # one number stands for all
    graph.node.add(name="out", op="Identity", input=["weights"])
    file, whole = tmp_path / "graph.pb", graph.SerializeToString()
    file.write_bytes(whole)
    found = read_constants(file)
    assert set(found) == {"weights", "scale", "ones"}
    for name, array in (weights | {"ones": np.ones(3, np.float32)}).items():
        np.testing.assert_array_equal(found[name], array)
    for content in (b"", b"text", whole[:-3]):
        file.write_bytes(content)
        with pytest.raises(PoseError, match=r"graph\.pb is not a frozen TensorFlow graph"):
            read_constants(file)


@pytest.mark.parametrize("count", [0, 40])
def test_suppression_follows_its_definition(count: int) -> None:
    made = np.random.default_rng(0)
    low = made.uniform(0, 50, (count, 2))
    boxes = np.concatenate([low, low + made.uniform(5, 30, (count, 2))], 1)
    scores = made.random(count)
    kept: list[int] = []
    for i in sorted(range(count), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j]) <= 0.4 for j in kept):
            kept.append(i)
    assert suppress(boxes, scores, 0.4).tolist() == kept
