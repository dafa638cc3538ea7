from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from hhmnet.export.network import PlainAttention, exportable, take_encoders
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork
from hhmnet.models.mobile import EfficientNetLite0
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import get_layout

KINECT = get_layout("kinect20")


def trained(config: STSTConfig) -> STST:
    """An encoder whose parameters and statistics have all left the values that they begin with."""
    torch.manual_seed(5)
    network = STST(config, KINECT, 4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return network.eval()


def some_bodies() -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of two persons with gaps, one of whom is never there."""
    draw = torch.Generator().manual_seed(2)
    mask = torch.rand(3, 12, 2, generator=draw) > 0.3
    mask[1, :, 1] = False
    return torch.randn(3, 3, 12, 20, 2, generator=draw), mask


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"mask": "threshold", "reranking": "none"},
        {"mask": "threshold", "reranking": "jaccard"},
        {"mask": "random", "reranking": "reciprocal"},
        {"mask": "none", "k2": 1},
        {"chunks": 3, "mask": "threshold"},
        {"max_pool": True},
        {"select": False},
        {"norm": "layer"},
        {"dilations": (1,)},
    ],
    ids=str,
)
def test_every_variant_keeps_its_answer(variant: dict[str, Any]) -> None:
    config = STSTConfig(**{"widths": (16, 16, 32), "strides": (1, 2, 1), "head_width": 8, **variant})
    network = trained(config)
    if "chunks" in variant:
        network.blocks[2].spatial.chunks = 1  # half the frames are left, which three chunks don't divide
    x, mask = some_bodies()
    # Double precision, so that no joint stands on an edge between two neighbourhoods.
    changed = exportable(network).double()
    network = network.double()
    with torch.no_grad():
        wanted, found = network(x.double(), mask), changed(x.double(), mask)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert (wanted.logits[0] - wanted.logits[2]).abs().max() > 1e-3


def test_what_stands_where_nobody_is_has_no_influence() -> None:
    x, mask = some_bodies()
    network = exportable(trained(STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8)))
    with torch.no_grad():
        wanted = network(x * mask[:, None, :, None], mask)
        found = network(x.masked_fill(~mask[:, None, :, None], torch.nan), mask)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_norms_go_into_convolutions() -> None:
    backbone = EfficientNetLite0().eval()
    torch.manual_seed(0)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    before = copy.deepcopy(backbone.state_dict())
    changed = exportable(backbone)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in changed.modules())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted, found = backbone(images), changed(images)
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(backbone.state_dict(), before, rtol=0, atol=0)


def test_only_several_streams_have_their_encoders_taken() -> None:
    config = STSTConfig(widths=(16,), strides=(1,), head_width=8)
    network = HomogeneousNetwork(config, FusionConfig(projection=4), KINECT, 4, ("joint", "bone"))
    changed = exportable(network)
    taken = take_encoders(changed)
    assert list(taken) == ["joint", "bone"]
    assert all(isinstance(encoder.blocks[0].spatial, PlainAttention) for encoder in taken.values())
    assert not any(isinstance(module, STST) for module in changed.modules())
    assert take_encoders(exportable(STST(config, KINECT, 4))) == {}
