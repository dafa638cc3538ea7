from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hhmnet.models.layers import DropPath, Norm


def test_drop_path_drops_whole_samples_and_keeps_the_expectation():
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3)
    y = (drop(x, x) - x).flatten(1)
    assert ((y == 0).all(1) | torch.isclose(y, torch.tensor(1 / 0.75)).all(1)).all()
    assert y.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(x, x), x + x)


def plain_norm(x: Tensor, mask: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm over the frames that count, from its definition; its running statistics too."""
    real = x.permute(0, 3, 2, 1)[mask].flatten(0, 1)
    mean, variance = real.mean(0), real.var(0, correction=0)
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(real.var(0), norm.momentum)
    wide = (1, -1, 1, 1)
    y = (x - mean.view(wide)) / (variance + norm.eps).sqrt().view(wide)
    return y * norm.weight.view(wide) + norm.bias.view(wide)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_masked_norm_and_its_gradients_match_the_definition(layout):
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(4, 5, 3, 7, generator=generator, dtype=torch.float64) * 2 + 3
    mask = torch.rand(4, 7, generator=generator) < 0.6
    mask[2] = False
    x = torch.where(mask[:, None, None, :], x, x * 1e4)
    found, expected = [], []
    for results, own in ((found, True), (expected, False)):
        norm = Norm(5).double().train()
        batch_norm = norm.norm
        with torch.no_grad():
            batch_norm.weight.copy_(torch.linspace(0.5, 2, 5))
            batch_norm.bias.copy_(torch.linspace(-1, 1, 5))
        given = x.clone(memory_format=layout).requires_grad_()
        y = norm(given, mask) if own else plain_norm(given, mask, batch_norm)
        y = y.permute(0, 3, 2, 1)[mask]
        (y.square() * torch.linspace(1, 2, len(y))[:, None, None]).sum().backward()
        results += [y, given.grad, batch_norm.weight.grad, batch_norm.bias.grad]
        results += [batch_norm.running_mean, batch_norm.running_var]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_a_masked_norm_in_single_precision_is_as_exact_as_torchs(offset):
    """Also where the mean is a thousand deviations: a variance from a difference of squares would be noise there."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 4, 5, 20, generator=generator) + offset
    mask = torch.rand(8, 20, generator=generator) < 0.7
    rows = x.permute(0, 3, 2, 1)[mask]
    exact = nn.BatchNorm2d(4).double()
    wanted = exact(rows.reshape(-1, 4, 1, 1).double()).view_as(rows)
    theirs = (nn.BatchNorm2d(4)(rows.reshape(-1, 4, 1, 1)).view_as(rows) - wanted).abs().max()
    norm = Norm(4).train()
    ours = (norm(x, mask).permute(0, 3, 2, 1)[mask] - wanted).abs().max()
    assert ours <= 2 * theirs + 1e-6
    torch.testing.assert_close(norm.norm.running_var.double(), exact.running_var, rtol=1e-4, atol=0)
