from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hhmnet.models.sk_tc import SKTC


def build(width_in: int = 6, width: int = 8, *, seed: int = 0, **changed: object) -> SKTC:
    """A module in eval mode whose weights and running statistics are all drawn."""
    torch.manual_seed(seed)
    module = SKTC(width_in, width, **changed)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return module.eval()


def feature(frames: int, *, batch: int = 2, width: int = 6, joints: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, width, joints, frames, generator=generator)


# The definition, in numpy loops over clips, joints and frames.


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def normalise(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Batch norm of one feature vector ``(D,)`` by its running statistics, or layer norm."""
    if f"{name}.norm.running_mean" in state:
        centred = x - state[f"{name}.norm.running_mean"]
        scaled = centred / np.sqrt(state[f"{name}.norm.running_var"] + 1e-5)
    else:
        scaled = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
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
        branches = [
            conv(small, state[f"branches.{i}.weight"][:, :, 0], conv2d.dilation[1], stride)  # type: ignore[operator, index]
            for i, conv2d in enumerate(module.branches)
        ]
        if module.max_pool:
            branches.append(pool(small, there[b], stride))
        for i, branch in enumerate(branches):
            for v, t in itertools.product(range(joints), range(late)):
                branch[v, t] = gelu(normalise(branch[v, t], state, f"branch_norms.{i}"))
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
        for v, t in itertools.product(range(joints), range(late)):
            out[b, :, v, t] = state["expand.weight"][:, :, 0, 0] @ mixed[v, t] + state["expand.bias"]
    return out, counts


def conv(x: np.ndarray, kernel: np.ndarray, dilation: int, stride: int) -> np.ndarray:
    """Zero-padded convolution of ``x (V, T, D)`` along time with ``kernel (D', D, taps)``."""
    joints, frames, _ = x.shape
    taps = kernel.shape[-1]
    out = np.zeros((joints, -(-frames // stride), kernel.shape[0]))
    for v, t, tap in itertools.product(range(joints), range(out.shape[1]), range(taps)):
        source = t * stride + (tap - taps // 2) * dilation
        if 0 <= source < frames:
            out[v, t] += kernel[:, :, tap] @ x[v, source]
    return out


def pool(x: np.ndarray, there: np.ndarray, stride: int) -> np.ndarray:
    """Largest value of the frames around, among those that are there; 0 where none is."""
    joints, frames, width = x.shape
    out = np.zeros((joints, -(-frames // stride), width))
    for v, t in itertools.product(range(joints), range(out.shape[1])):
        near = [s for s in range(t * stride - 1, t * stride + 2) if 0 <= s < frames and there[s]]
        if near:
            out[v, t] = np.max([x[v, s] for s in near], 0)
    return out


@pytest.mark.parametrize("frames", [1, 2, 7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"max_pool": True},
        {"select": False},
        {"max_pool": True, "select": False, "norm": "layer"},
        {"norm": "layer"},
        {"kernel": 3, "dilations": (1, 2, 4)},
        {"dilations": (2,)},
    ],
    ids=str,
)
def test_module_matches_the_definition(frames: int, stride: int, variant: dict[str, object]) -> None:
    module = build(stride=stride, **variant)
    x = feature(frames)
    expected, _ = plain_forward(module, x, torch.ones(2, frames).bool())
    for answer in (module(x), module(x, torch.ones(2, frames).bool())):
        assert answer.shape == (2, 8, 3, -(-frames // stride))
        np.testing.assert_allclose(answer.detach().numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("max_pool", [False, True])
def test_masked_frames_match_the_definition(stride: int, max_pool: bool) -> None:
    module = build(stride=stride, max_pool=max_pool)
    there = torch.tensor([[1, 1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]]).bool()
    expected, counts = plain_forward(module, feature(7), there)
    answer = module(feature(7), there).detach()
    assert answer.isfinite().all()
    np.testing.assert_allclose(
        answer.numpy().swapaxes(1, 3)[counts], expected.swapaxes(1, 3)[counts], atol=2e-5
    )


@pytest.mark.parametrize("max_pool", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_what_stands_in_masked_frames_does_not_matter(max_pool: bool, training: bool) -> None:
    there = torch.tensor([[1, 1, 0, 1, 1, 0], [0, 0, 0, 1, 0, 0]]).bool()
    x, y = feature(6), feature(6)
    y.transpose(1, 3)[~there] = 100.0
    module, other = (build(max_pool=max_pool).train(training) for _ in range(2))
    a, b = (m(z, there).transpose(1, 3)[there] for m, z in ((module, x), (other, y)))
    torch.testing.assert_close(a, b)
    for (name, kept), changed in zip(module.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(kept, changed, msg=name)


def test_batch_statistics_are_those_of_the_real_frames() -> None:
    """In training a masked batch gives what its real frames give alone."""
    module = build(max_pool=True, norm="batch").train()
    alone = build(max_pool=True, norm="batch").train()
    x = feature(4, batch=2)
    padded = torch.cat([x, torch.full((2, 6, 3, 4), 9.0)], -1)
    there = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0]] * 2).bool()
    torch.testing.assert_close(module(padded, there)[..., :4], alone(x))
    for (name, a), b in zip(module.named_buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("count", [2, 3])
def test_selection_weights_sum_to_1_and_depend_on_the_clip(count: int) -> None:
    module = build(max_pool=count == 3)
    outputs = [feature(4, width=16, seed=i) for i in range(count)]
    weights = module.weights(outputs, None)
    assert weights.shape == (count, 2, 16)
    torch.testing.assert_close(weights.sum(0), torch.ones(2, 16))
    assert (weights[:, 0] - weights[:, 1]).abs().max() > 1e-2


def test_branches_see_short_and_long_spans() -> None:
    """An impulse reaches 2 frames to each side through the short branch and 6 through the long one."""
    for dilation, reach in ((1, 2), (3, 6)):
        module = build(dilations=(dilation,), width_in=1, norm="batch")
        leaf = torch.zeros(1, 1, 1, 21, requires_grad=True)
        module(leaf)[0, :, 0, 10].sum().backward()
        assert leaf.grad is not None
        reached = leaf.grad[0, 0, 0].nonzero().flatten().tolist()
        assert reached == list(range(10 - reach, 10 + reach + 1, dilation))


@pytest.mark.parametrize(
    "variant", [{}, {"max_pool": True}, {"select": False}, {"norm": "layer"}, {"dilations": (1,)}], ids=str
)
@pytest.mark.parametrize("stride", [1, 2])
def test_every_variant_learns(variant: dict[str, object], stride: int) -> None:
    module = build(stride=stride, **variant)
    x = feature(8).requires_grad_()
    module(x).square().mean().backward()
    assert x.grad is not None
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_one_branch_has_no_weights_for_choosing() -> None:
    assert not any(name.startswith(("squeeze", "choose")) for name in build(dilations=(1,)).state_dict())
    for several in ({"dilations": (1, 3)}, {"dilations": (1,), "max_pool": True}):
        assert "choose.weight" in build(**several).state_dict()


def test_variants_differ() -> None:
    reference = build(max_pool=True).state_dict()
    answers = []
    for variant in ({}, {"max_pool": True}, {"select": False}, {"dilations": (1, 2)}, {"dilations": (3, 1)}):
        module = build(**variant)
        module.load_state_dict(
            {k: v for k, v in reference.items() if k in module.state_dict()} | shrunk(module)
        )
        answers.append(module(feature(8)))
    for a, b in itertools.combinations(answers, 2):
        assert (a - b).abs().max() > 1e-3


def shrunk(module: SKTC) -> dict[str, Tensor]:
    """The selection layer's own weights: its size depends on the number of branches."""
    return {name: value for name, value in module.state_dict().items() if name.startswith("choose")}


@pytest.mark.parametrize("variant", [{}, {"norm": "layer", "max_pool": True}, {"stride": 2}], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_the_module(variant: dict[str, object], training: bool) -> None:
    module = build(2, 3, kernel=3, dilations=(1, 2), **variant).double().train(training)
    there = torch.tensor([[True, True, False, True], [True, False, False, True]])
    x = feature(4, width=2, joints=2).double().requires_grad_()
    names = ["reduce.weight", "branches.1.weight", "choose.bias", "branch_norms.0.norm.weight"]
    parameters = dict(module.named_parameters())

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, there))

    assert torch.autograd.gradcheck(call, (x, *(parameters[n] for n in names)), eps=1e-6, atol=1e-5)


def test_hidden_width_is_never_below_32() -> None:
    assert build(width=16).squeeze.out_features == 32  # type: ignore[union-attr]
    assert build(width=512, reduction=4).squeeze.out_features == 64  # type: ignore[union-attr]


def test_a_kernel_without_a_middle_is_refused() -> None:
    with pytest.raises(ValueError, match="odd kernel, got 4"):
        build(kernel=4)
