from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hhmnet.models.layers import Norm, STSTConfig
from hhmnet.models.sk_tc import SKTC


def build(width_in: int = 6, width: int = 8, stride: int = 1, select: bool = True) -> SKTC:
    """A module in eval mode whose weights and running statistics are all drawn."""
    torch.manual_seed(0)
    module = SKTC(width_in, width, stride, STSTConfig(select=select))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return module.eval()


def feature(frames: int, width: int = 6, joints: int = 3) -> Tensor:
    return torch.randn(2, width, joints, frames, generator=torch.Generator().manual_seed(0))


# The definition, clip by clip and joint by joint.


def active(x: Tensor, norm: Norm) -> Tensor:
    """GELU of ``x (D, T)``, normalised by a batch norm's running statistics."""
    norm = norm.norm
    scaled = (x - norm.running_mean[:, None]) / (norm.running_var[:, None] + norm.eps).sqrt()
    return functional.gelu(scaled * norm.weight[:, None] + norm.bias[:, None])


def plain_forward(module: SKTC, x: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """SK-TC by its definition; also whether an output frame counts."""
    module, stride = copy.deepcopy(module).double(), module.stride
    late = -(-x.shape[-1] // stride)
    counts = torch.stack([there[:, t * stride : (t + 1) * stride].any(1) for t in range(late)], 1)
    found = []
    for clip, mask, real in zip(x.double(), there, counts, strict=True):
        reduced = [module.reduce.weight[:, :, 0, 0] @ joint for joint in clip.movedim(1, 0)]
        small, branches = [active(joint, module.reduce_norm) * mask for joint in reduced], []
        for layer, norm, dilation in zip(module.branches, module.branch_norms, (1, 3), strict=True):
            taps = {"stride": stride, "padding": 2 * dilation, "dilation": dilation}
            each = [functional.conv1d(joint, layer.weight[:, :, 0], **taps) for joint in small]
            branches.append(torch.stack([active(joint, norm) for joint in each]))
        if module.squeeze is None:
            mixed = (branches[0] + branches[1]) / 2
        else:
            pooled = (branches[0] + branches[1])[:, :, real].mean((0, 2))
            scores = module.choose(functional.gelu(module.squeeze(pooled))).view(2, -1)
            short, long = scores.softmax(0)[..., None]
            mixed = short * branches[0] + long * branches[1]
        expanded = [module.expand.weight[:, :, 0, 0] @ joint + module.expand.bias[:, None] for joint in mixed]
        found.append(torch.stack(expanded, 1))
    return torch.stack(found), counts


@pytest.mark.parametrize("frames", [1, 7])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("select", [True, False])
def test_module_matches_the_definition(frames, stride, select):
    module, x = build(stride=stride, select=select), feature(frames)
    there = torch.tensor([[1, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]]).bool()
    for mask in (None, torch.ones(2, frames).bool(), *([there] if frames == 7 else [])):
        expected, counts = plain_forward(module, x, torch.ones(2, frames).bool() if mask is None else mask)
        found = module(x, mask)
        assert found.shape == (2, 8, 3, -(-frames // stride))
        found, expected = found.transpose(1, 3)[counts].double(), expected.transpose(1, 3)[counts]
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_the_module(stride):
    module = build(2, 3, stride).double().train()
    there, x = torch.tensor([[1, 1, 0], [1, 0, 1]]).bool(), feature(3, width=2, joints=2).double()
    names = ["reduce.weight", "choose.bias", "branch_norms.0.norm.weight"]
    given = [x.requires_grad_(), *(module.get_parameter(name) for name in names)]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        y = torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, there))
        return y if stride > 1 else y.permute(0, 3, 1, 2)[there]

    assert torch.autograd.gradcheck(call, given, atol=1e-5)
