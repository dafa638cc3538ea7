"""Backbones: networks from pictures to feature maps, whose cells each belong to one place of the picture, by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hhmnet.data.video_batch import MEAN, STD
from hhmnet.models.mobile import BackboneError, EfficientNetLite0, RGBBackbone, SmallNet

BACKBONES = ("efficientnet_lite0", "small")
TORCHVISION = "torchvision:"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchvisionBackbone(RGBBackbone):
    """The part of a torchvision image or video network that lies before its global pooling.

    Args:
        name: torchvision's name of the network, such as ``resnet18`` or ``r3d_18``.
        pretrained: take torchvision's default weights, which it downloads once.

    Raises:
        BackboneError: torchvision isn't installed, doesn't know the name, can't get the weights, or the network has
            no feature map.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        self.trunk = _torchvision_trunk(name, pretrained)
        self.video = any(isinstance(module, nn.Conv3d) for module in self.trunk.modules())
        pixels = 128
        probe = torch.zeros(1, 3, 8, pixels, pixels) if self.video else torch.zeros(1, 3, pixels, pixels)
        try:
            with torch.no_grad():
                shape = self.trunk.eval()(probe).shape
        except (RuntimeError, AttributeError, TypeError):
            shape = torch.Size()
        self.trunk.train()
        if len(shape) != probe.ndim or shape[-1] != shape[-2] or pixels % shape[-1]:
            raise BackboneError(
                f"field 'backbone': {TORCHVISION}{name} has no feature map; take a convolutional network"
            )
        self.channels, self.stride = int(shape[1]), pixels // int(shape[-1])
        # Undo our scaling of the pixels, then apply ImageNet's.
        mean, std = torch.tensor(_IMAGENET_MEAN), torch.tensor(_IMAGENET_STD)
        shape_of_one = (3,) + (1,) * (probe.ndim - 2)
        self.register_buffer("scale", (STD / std).view(shape_of_one), persistent=False)
        self.register_buffer("shift", ((MEAN - mean) / std).view(shape_of_one), persistent=False)

    def layers(self) -> list[nn.Module]:
        """The trunk's outermost modules."""
        return list(self.trunk.children())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x (B, 3, H, W)``, or ``(B, 3, K, H, W)`` of a video network, to its feature map."""
        return self.trunk(x * self.scale + self.shift)


def _torchvision_trunk(name: str, pretrained: bool) -> nn.Module:
    try:
        from torchvision import models
    except ImportError:
        raise BackboneError(
            f"field 'backbone': {TORCHVISION}{name} needs torchvision, which is not installed; "
            f"pip install torchvision, or take one of {', '.join(BACKBONES)}"
        ) from None
    except RuntimeError as error:  # its compiled part is of another torch
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"field 'backbone': {TORCHVISION}{name}: torchvision can't be imported ({reason}); "
            "install the version that belongs to this torch"
        ) from None
    try:
        network = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except (ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(f"field 'backbone': {TORCHVISION}{name}: {reason}") from None
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"field 'backbone': the weights of {TORCHVISION}{name} can't be had ({reason}); "
            "fetch them where there is a network, or set 'pretrained' to false"
        ) from None
    if isinstance(getattr(network, "features", None), nn.Module):
        return network.features
    layers: list[nn.Module] = []
    for child, layer in network.named_children():
        if child == "avgpool":
            return nn.Sequential(*layers)
        layers.append(layer)
    raise BackboneError(
        f"field 'backbone': {TORCHVISION}{name} has neither 'features' nor 'avgpool', so its feature map can't be found"
    )


def backbone_stride(name: str) -> int | None:
    """Stride of a backbone of ours by name; None for torchvision's, which tell only when they are built.

    Raises:
        BackboneError: no such backbone.
    """
    if name.startswith(TORCHVISION):
        return None
    if name not in BACKBONES:
        known = f"{', '.join(BACKBONES)} or {TORCHVISION}<name>"
        raise BackboneError(f"field 'backbone' must be one of {known}; got '{name}'")
    return SmallNet.stride if name == "small" else EfficientNetLite0.stride


def build_backbone(name: str, pretrained: bool = False) -> RGBBackbone:
    """A backbone by name.

    Args:
        name: ``small``, ``efficientnet_lite0`` or ``torchvision:<name>``.
        pretrained: begin with ImageNet's weights (torchvision: its default ones); ``small`` has none and always begins
            at random.

    Raises:
        BackboneError: no such backbone, or its weights aren't there.
    """
    backbone_stride(name)
    if name.startswith(TORCHVISION):
        return TorchvisionBackbone(name.removeprefix(TORCHVISION), pretrained)
    if name == "small":
        return SmallNet()
    network = EfficientNetLite0()
    if pretrained:
        network.load_imagenet()
    return network
