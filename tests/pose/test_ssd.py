from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.compat.proto.graph_pb2 import GraphDef
from torch import Tensor, nn

from hhmnet.pose.ssd import SSD, GraphError, _SameConv, anchors, decode, read_constants


class MadeWeights(dict):
    """Weights of the right shapes for every name the network asks for."""

    def __init__(self) -> None:
        super().__init__()
        made = np.random.default_rng(0)
        for name, shape in shapes().items():
            self[name] = made.normal(0, 0.05, shape).astype(np.float32)
            if name.endswith(("moving_variance", "gamma")):
                self[name] = np.ones(shape, np.float32)


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of ssd_mobilenet_v2_coco, from the tables of the two papers."""
    found: dict[str, tuple[int, ...]] = {}
    base = "FeatureExtractor/MobilenetV2"

    def conv(name: str, size: int, into: int, out: int, deep: bool = False) -> None:
        found[f"{name}/{'depthwise_' if deep else ''}weights"] = (size, size, into, 1 if deep else out)
        for norm in ("gamma", "beta", "moving_mean", "moving_variance"):
            found[f"{name}/BatchNorm/{norm}"] = (into if deep else out,)

    conv(f"{base}/Conv", 3, 3, 32)
    into, block = 32, 0
    for expansion, out, count in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ):
        for _ in range(count):
            name = f"{base}/expanded_conv{f'_{block}' if block else ''}"
            if expansion > 1:
                conv(f"{name}/expand", 1, into, into * expansion)
            conv(f"{name}/depthwise", 3, into * expansion, 0, deep=True)
            conv(f"{name}/project", 1, into * expansion, out)
            into, block = out, block + 1
    conv(f"{base}/Conv_1", 1, 320, 1280)
    maps = [576, 1280]
    into = 1280
    for number, narrow, wide in ((2, 256, 512), (3, 128, 256), (4, 128, 256), (5, 64, 128)):
        conv(f"{base}/layer_19_1_Conv2d_{number}_1x1_{narrow}", 1, into, narrow)
        conv(f"{base}/layer_19_2_Conv2d_{number}_3x3_s2_{wide}_depthwise", 3, narrow, 0, deep=True)
        conv(f"{base}/layer_19_2_Conv2d_{number}_3x3_s2_{wide}", 1, narrow, wide)
        maps.append(wide)
        into = wide
    for level, channels in enumerate(maps):
        count = 3 if level == 0 else 6
        for part, size in (("ClassPredictor", 91), ("BoxEncodingPredictor", 4)):
            found[f"BoxPredictor_{level}/{part}/weights"] = (3, 3, channels, count * size)
            found[f"BoxPredictor_{level}/{part}/biases"] = (count * size,)
    return found


@pytest.fixture(scope="module")
def net() -> SSD:
    return SSD(MadeWeights())


def test_one_score_and_box_an_anchor_at_the_trained_size(net: SSD) -> None:
    scores, boxes = net(torch.rand(1, 3, 300, 300) * 255)
    assert scores.shape == (1917,)  # 19²·3 + (10² + 5² + 3² + 2² + 1)·6, as in the published model
    assert boxes.shape == (1917, 4)
    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize("size", [(288, 512), (512, 288), (100, 333), (64, 64)])
def test_any_size_goes(net: SSD, size: tuple[int, int]) -> None:
    scores, boxes = net(torch.rand(1, 3, *size) * 255)
    assert len(scores) == len(boxes)
    assert torch.isfinite(boxes).all()


def test_a_missing_weight_is_named() -> None:
    weights = MadeWeights()
    del weights["FeatureExtractor/MobilenetV2/Conv_1/weights"]
    with pytest.raises(GraphError, match="no weight 'FeatureExtractor/MobilenetV2/Conv_1/weights'"):
        SSD(weights)


def test_the_person_is_class_1_of_91(net: SSD) -> None:
    weights = MadeWeights()
    bias = np.zeros((6, 91), np.float32)
    bias[:, 1] = 9
    bias[:, 2] = -9
    weights["BoxPredictor_1/ClassPredictor/biases"] = bias.ravel()
    weights["BoxPredictor_1/ClassPredictor/weights"] = np.zeros((3, 3, 1280, 546), np.float32)
    scores, _ = SSD(weights)(torch.rand(1, 3, 300, 300) * 255)
    level = scores[19 * 19 * 3 :][: 10 * 10 * 6]
    torch.testing.assert_close(level, torch.full_like(level, torch.sigmoid(torch.tensor(9.0)).item()))


@pytest.mark.parametrize("length", [75, 38, 19, 10, 5, 3, 2])
def test_padding_is_tensorflows_at_the_trained_sizes(length: int) -> None:
    kernel = torch.randn(1, 1, 3, 3)
    x = torch.randn(1, 1, length, length)
    out = -(-length // 2)
    total = (out - 1) * 2 + 3 - length
    layer = _SameConv(kernel, torch.zeros(1), 2, total // 2)
    expected = torch.zeros(out, out)
    for i in range(out):  # the definition: output i sees inputs 2i - before … 2i - before + 2
        for j in range(out):
            for a in range(3):
                for b in range(3):
                    y, z = 2 * i - total // 2 + a, 2 * j - total // 2 + b
                    if 0 <= y < length and 0 <= z < length:
                        expected[i, j] += kernel[0, 0, a, b] * x[0, 0, y, z]
    torch.testing.assert_close(layer(x)[0, 0], expected, atol=1e-5, rtol=1e-5)


def seen_center(layers: list[_SameConv], length: int, place: int) -> float:
    """Middle of the input pixels that an output place sees, found by the gradient."""
    x = torch.zeros(1, 1, length, length, requires_grad=True)
    y: Tensor = x
    for layer in layers:
        y = _SameConv(torch.ones(1, 1, 3, 3), torch.zeros(1), 2, layer.before)(y)
    y[0, 0, place, place].backward()
    assert x.grad is not None
    seen = torch.nonzero(x.grad[0, 0].sum(0))
    return (seen.min() + seen.max()).item() / 2


@pytest.mark.parametrize("size", [300, 512, 640, 736])
def test_anchors_lie_where_the_network_looks(net: SSD, size: int) -> None:
    """The way from what a place sees to its anchor must be the one that the network was trained with."""
    layers = [module for module in net.modules() if isinstance(module, _SameConv) and module.stride == 2]
    for level, depth in enumerate((4, 5, 6)):
        trained = 300 // 2**depth // 2  # a place in the middle, where no edge is seen
        here = size // 2**depth // 2
        offsets = []
        for length, place in ((300, trained), (size, here)):
            count = -(-length // 2**depth)
            grid = anchors(level, count, count, length, length)
            per = len(grid) // count**2
            offsets.append(seen_center(layers[:depth], length, place) - grid[place * per * count, 0].item())
        # Between two anchors of training lie 300/n pixels, not the stride: hence a little more or less.
        assert offsets[1] == pytest.approx(offsets[0], abs=0.13 * 2**depth)


def test_anchor_shapes_are_those_of_the_paper() -> None:
    grid = anchors(1, 10, 10, 300, 300).view(100, 6, 4)
    heights, widths = grid[0, :, 2].tolist(), grid[0, :, 3].tolist()
    ratios = [w / h for h, w in zip(heights, widths, strict=True)]
    assert ratios == pytest.approx([1, 2, 0.5, 3, 1 / 3, 1], rel=1e-3)
    scales = [(h * w) ** 0.5 / 300 for h, w in zip(heights, widths, strict=True)]
    assert scales == pytest.approx([0.35] * 5 + [(0.35 * 0.5) ** 0.5], rel=1e-3)
    assert grid[12, 0, :2].tolist() == pytest.approx([45, 75])  # row 1, column 2 of ten


def test_decoding_follows_the_definition() -> None:
    code, anchor = torch.tensor([[2.0, -1.0, 1.5, 0.5]]), torch.tensor([[50.0, 80.0, 20.0, 10.0]])
    center_y, center_x = 50 + 2.0 / 10 * 20, 80 - 1.0 / 10 * 10
    height, width = 20 * np.exp(1.5 / 5), 10 * np.exp(0.5 / 5)
    expected = [center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2]
    assert decode(code, anchor)[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_relu_is_cut_at_six(net: SSD) -> None:
    assert isinstance(net.first, nn.Sequential)
    out = net.first(torch.randn(1, 3, 32, 32) * 1000)
    assert out.min() >= 0
    assert out.max() <= 6


def frozen(**constants: np.ndarray) -> GraphDef:
    graph = GraphDef()
    for name, array in constants.items():
        node = graph.node.add(name=name, op="Const")
        tensor = node.attr["value"].tensor
        tensor.dtype = 1 if array.dtype == np.float32 else 3
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = array.tobytes()
    return graph


def test_constants_are_read_with_their_shapes(tmp_path: Path) -> None:
    weights = {"weights": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "scale": np.float32(7)}
    graph = frozen(**weights, axis=np.int32([1]), ones=np.zeros(3, np.float32))
    graph.node[-1].attr["value"].tensor.tensor_content = b""
    graph.node[-1].attr["value"].tensor.float_val.append(1)  # one number stands for all
    graph.node.add(name="out", op="Identity", input=["weights"])
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    found = read_constants(tmp_path / "graph.pb")
    assert set(found) == {"weights", "scale", "ones"}
    for name, array in (weights | {"ones": np.ones(3, np.float32)}).items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is text", frozen(weights=np.ones(5, np.float32)).SerializeToString()[:-3]],
    ids=["empty", "text", "cut"],
)
def test_other_files_are_no_graph(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "graph.pb").write_bytes(content)
    with pytest.raises(GraphError, match=r"graph\.pb is not a frozen TensorFlow graph"):
        read_constants(tmp_path / "graph.pb")
