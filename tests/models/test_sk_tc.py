from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hhmnet.models.layers import STSTConfig
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


# The definition, in numpy loops over clips, joints and frames.


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def normalise(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Batch norm of one feature vector ``(D,)`` by its running statistics."""
    scaled = (x - state[f"{name}.norm.running_mean"]) / np.sqrt(state[f"{name}.norm.running_var"] + 1e-5)
    return scaled * state[f"{name}.norm.weight"] + state[f"{name}.norm.bias"]


def plain_forward(module: SKTC, x: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """SK-TC by its definition; also whether an output frame counts."""
    state = {name: value.double().numpy() for name, value in module.state_dict().items()}
    there, stride = mask.numpy(), module.stride
    batch, _, joints, frames = x.shape
    late = -(-frames // stride)
    out = np.zeros((batch, state["expand.bias"].size, joints, late))
    counts = np.array(
        [[any(there[b, t * stride : (t + 1) * stride]) for t in range(late)] for b in range(batch)]
    )
    for b in range(batch):
        small = np.zeros((joints, frames, state["reduce.weight"].shape[0]))
        for v, t in itertools.product(range(joints), range(frames)):
            if there[b, t]:
                reduced = state["reduce.weight"][:, :, 0, 0] @ x[b, :, v, t].double().numpy()
                small[v, t] = gelu(normalise(reduced, state, "reduce_norm"))
        branches = []
        for i, layer in enumerate(module.branches):
            branch = convolve(small, state[f"branches.{i}.weight"][:, :, 0], layer.dilation[1], stride)
            branches.append(gelu(normalise(branch, state, f"branch_norms.{i}")))
        if "squeeze.weight" in state:
            summed = sum(branches)
            pooled = sum(summed[v, t] for v in range(joints) for t in range(late) if counts[b, t])
            pooled = pooled / (joints * counts[b].sum())
            hidden = gelu(state["squeeze.weight"] @ pooled + state["squeeze.bias"])
            scores = (state["choose.weight"] @ hidden + state["choose.bias"]).reshape(len(branches), -1)
            shares = np.exp(scores) / np.exp(scores).sum(0)
        else:
            shares = np.full((len(branches), small.shape[-1]), 1 / len(branches))
        mixed = sum(share * branch for share, branch in zip(shares, branches, strict=True))
        out[b] = (mixed @ state["expand.weight"][:, :, 0, 0].T + state["expand.bias"]).transpose(2, 0, 1)
    return out, counts


def convolve(x: np.ndarray, kernel: np.ndarray, dilation: int, stride: int) -> np.ndarray:
    """Zero-padded convolution of ``x (V, T, D)`` along time with ``kernel (D', D, taps)``."""
    joints, frames, _ = x.shape
    taps = kernel.shape[-1]
    out = np.zeros((joints, -(-frames // stride), kernel.shape[0]))
    for v, t, tap in itertools.product(range(joints), range(out.shape[1]), range(taps)):
        source = t * stride + (tap - taps // 2) * dilation
        if 0 <= source < frames:
            out[v, t] += kernel[:, :, tap] @ x[v, source]
    return out


@pytest.mark.parametrize("frames", [1, 7])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("select", [True, False])
def test_module_matches_the_definition(frames, stride, select):
    module, x = build(stride=stride, select=select), feature(frames)
    there = torch.tensor([[1, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]]).bool()
    for mask in (None, torch.ones(2, frames).bool(), *([there] if frames == 7 else [])):
        expected, counts = plain_forward(module, x, torch.ones(2, frames).bool() if mask is None else mask)
        found = module(x, mask).detach().numpy()
        assert found.shape == (2, 8, 3, -(-frames // stride))
        np.testing.assert_allclose(found.swapaxes(1, 3)[counts], expected.swapaxes(1, 3)[counts], atol=2e-5)


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
