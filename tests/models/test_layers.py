from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from hhmnet.models.layers import DropPath, Norm, at_least_float32, convolve, stride_mask, without_autocast


@pytest.mark.parametrize("frames", [5, 6, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_strided_frame_counts_if_any_frame_it_stands_for_does(frames: int, stride: int) -> None:
    mask = torch.rand(4, frames, generator=torch.Generator().manual_seed(2)) < 0.4
    found = stride_mask(mask, stride)
    assert found is not None
    for b in range(4):
        expected = [bool(mask[b, t : t + stride].any()) for t in range(0, frames, stride)]
        assert found[b].tolist() == expected
    assert stride_mask(None, stride) is None


def test_drop_path_drops_whole_samples_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    y = drop(torch.ones(4000, 2, 3, 4)).flatten(1)
    assert ((y == 0).all(1) | (y == 1 / 0.75).all(1)).all()
    assert y.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(5, 2, 3, 4)), torch.ones(5, 2, 3, 4))


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_norm_in_training_matches_its_definition(kind: str) -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 5, 4, 6, generator=generator) * 2 + 1
    mask = torch.rand(3, 6, generator=generator) < 0.6
    found = Norm(5, kind).train()(x, mask)
    real = x.permute(0, 3, 2, 1)[mask]
    if kind == "batch":
        centre, variance = real.mean((0, 1)), real.var((0, 1), correction=0)
    else:
        centre, variance = real.mean(-1, keepdim=True), real.var(-1, correction=0, keepdim=True)
    expected = (real - centre) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(found.permute(0, 3, 2, 1)[mask], expected, atol=1e-5, rtol=1e-4)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm must be 'batch' or 'layer', got 'group'"):
        Norm(4, "group")


def _masked_definition(x: Tensor, mask: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm over the frames that are there, from its definition; its kept statistics too."""
    real = x.permute(0, 3, 2, 1)[mask].flatten(0, 1)
    mean, variance = real.mean(0), real.var(0, correction=0)
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(real.var(0), norm.momentum)
    wide = (1, -1, 1, 1)
    y = (x - mean.view(wide)) / (variance + norm.eps).sqrt().view(wide)
    y = y * norm.weight.view(wide) + norm.bias.view(wide)
    return y.masked_fill(~mask[:, None, None, :], 0.0)


@pytest.mark.parametrize("elsewhere", [1.0, 1e4])
@pytest.mark.parametrize("channels_last", [False, True])
def test_masked_batch_norm_and_its_gradients_match_the_definition(
    elsewhere: float, channels_last: bool
) -> None:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(4, 5, 3, 7, generator=generator, dtype=torch.float64) * 2 + 3
    mask = torch.rand(4, 7, generator=generator) < 0.6
    mask[2] = False
    x = torch.where(mask[:, None, None, :], x, x * elsewhere)
    found, expected = [], []
    for answers, own in ((found, True), (expected, False)):
        norm = Norm(5, "batch").double().train()
        with torch.no_grad():
            norm.norm.weight.copy_(torch.linspace(0.5, 2, 5))
            norm.norm.bias.copy_(torch.linspace(-1, 1, 5))
        given = x.clone(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        given.requires_grad_()
        y = norm(given, mask) if own else _masked_definition(given, mask, norm.norm)
        (y.square() * torch.arange(7)).sum().backward()
        assert torch.equal(given, x)  # what stood at the other frames stands there again
        answers += [y, given.grad, norm.norm.weight.grad, norm.norm.bias.grad]
        answers += [norm.norm.running_mean, norm.norm.running_var]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


def test_a_masked_batch_norm_counts_its_steps_and_survives_nobody() -> None:
    norm = Norm(3, "batch").train()
    y = norm(torch.randn(2, 3, 4, 5), torch.zeros(2, 5).bool())
    assert not y.any()
    assert norm.norm.num_batches_tracked == 1
    assert norm.norm.running_var.isfinite().all()


def test_a_batch_norm_that_stays_as_it_is_silences_masked_frames_of_a_network_in_training() -> None:
    """As where an encoder is frozen by its norms alone."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, 4, 5, generator=generator)
    mask = torch.tensor([[True, True, False, True, False], [False] * 5])
    norm = Norm(3, "batch").train()
    norm(x * 2 + 1)
    norm.norm.eval()
    before = norm.norm.running_mean.clone()
    found = norm(x, mask)
    torch.testing.assert_close(found, norm.norm(x) * mask[:, None, None, :])
    assert torch.equal(norm.norm.running_mean, before)


def test_a_norm_that_stays_as_it_is_is_not_run_behind_its_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conv, norm, x = nn.Conv2d(4, 6, 1, bias=False), Norm(6, "batch").eval(), torch.randn(3, 4, 5, 9)
    expected = norm(conv(x))
    monkeypatch.setattr(norm.norm, "forward", None)  # it would cost half of the convolution's time
    torch.testing.assert_close(convolve(conv, norm, x, None), expected, atol=1e-5, rtol=1e-4)


def test_half_precision_is_lifted_and_double_stays() -> None:
    for given, expected in (("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")):
        assert at_least_float32(torch.ones(2, dtype=getattr(torch, given))).dtype == getattr(torch, expected)


def test_without_autocast_nothing_is_switched_off() -> None:
    x = torch.randn(3, 3)
    assert isinstance(without_autocast(x), nullcontext)  # an exported graph would show it
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(x):
            assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("dilation", [1, 3])
def test_a_convolution_does_the_work_of_a_norm_that_stays_as_it_is(dilation: int) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(4, 6, (1, 5), (1, 2), (0, 2 * dilation), (1, dilation), bias=False)
    norm, x = Norm(6, "batch"), torch.randn(3, 4, 5, 9)
    norm(conv(x) * 3 + 2)  # statistics that aren't those of a fresh norm
    norm.eval()
    torch.testing.assert_close(convolve(conv, norm, x, None), norm(conv(x)), atol=1e-5, rtol=1e-4)
    layer = Norm(6, "layer").eval()
    assert torch.equal(convolve(conv, layer, x, None), layer(conv(x)))


def test_drop_path_joins_as_it_drops() -> None:
    drop, x, branch = DropPath(0.5), torch.randn(8, 2, 3, 4), torch.randn(8, 2, 3, 4)
    torch.manual_seed(3)
    expected = x + drop(branch)
    torch.manual_seed(3)
    torch.testing.assert_close(drop.join(x, branch), expected)
    assert torch.equal(drop.eval().join(x, branch), x + branch)
