"""The few layers that RE-DMT and SK-TC share.

Feature maps inside the encoder are ``(B, D, V, T)`` tensors in channels-last memory, where B counts persons
(clips times persons). In memory that is ``(B, V, T, D)``: a 1×1 convolution is one matrix product, a temporal
convolution runs on contiguous rows, and both take oneDNN's and cuDNN's fastest paths.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NORMS = ("batch", "layer")


class Norm(nn.Module):
    """Batch or layer normalisation of ``(B, D, V, T)`` over channels, blind to masked frames.

    Args:
        width: channels D.
        kind: ``batch`` (statistics over B, V, T) or ``layer`` (statistics over D at each joint and frame).
    """

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        if kind not in NORMS:
            raise ValueError(f"norm must be 'batch' or 'layer', got '{kind}'")
        self.norm: nn.Module = nn.BatchNorm2d(width) if kind == "batch" else nn.LayerNorm(width, eps=1e-5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``x (B, D, V, T)``; ``mask (B, T)`` names the frames that count for the statistics.

        In training the other frames of a batch norm come out as zeros.
        """
        if isinstance(self.norm, nn.LayerNorm):
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if mask is None or not self.training:
            return self.norm(x)
        # Elsewhere than on a CPU it has never been run, and a norm of another kind has statistics of its own.
        if type(self.norm) is nn.BatchNorm2d and self.norm.training and x.device.type == "cpu":
            return _masked_batch_norm(x, mask, self.norm)
        rows = x.permute(0, 3, 2, 1)[mask]  # (frames that count, V, D)
        y = self.norm(rows.reshape(-1, rows.shape[-1], 1, 1)).view_as(rows)
        out = x.new_zeros(x.shape[0], x.shape[3], x.shape[2], x.shape[1])
        out[mask] = y.to(out.dtype)
        return out.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)


def affine(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Scale and shift per channel, ``(D,)`` each, of a batch norm in eval mode; None of any other norm."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.training:
        return None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def convolve(conv: nn.Conv2d, norm: Norm, x: Tensor, mask: Tensor | None) -> Tensor:
    """A convolution without bias and the norm behind it; the convolution does the work of a norm in eval mode.

    On a CPU the norm of a map takes up to half as long as its convolution, since both move the same memory.
    """
    fixed = affine(norm.norm)
    if fixed is None:
        return norm(conv(x), mask)
    scale, shift = fixed
    weight = conv.weight * scale[:, None, None, None]
    return functional.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation)


class _MaskedBatchNorm(torch.autograd.Function):
    """Batch normalisation with the statistics of some frames, without gathering them.

    Most frames count, so torch's own statistics of all of them are corrected by the few that don't.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mask: Tensor, norm: nn.BatchNorm2d, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert norm.running_mean is not None
        absent = _absent(mask)
        others = len(absent[0]) * x.shape[2]
        every = mask.numel() * x.shape[2]
        count = max(every - others, 1)
        # What stands at absent frames may be large, and would drown the rest: the mean of the last steps stands there
        # meanwhile. Autograd needn't know, since it is taken back at once: hence `data`.
        usual = norm.running_mean.to(x.dtype)
        rows = _rows(x.data)
        before = rows[absent]
        rows[absent] = usual
        kept = torch.zeros_like(weight)  # of the type that the statistics shall have
        mean, var = torch.batch_norm_update_stats(x, kept, kept.clone(), 0.0)
        rows[absent] = before
        away = usual.to(mean.dtype) - mean
        shift = away * (-others / count)
        var = ((var * every - away.square() * others) / count - shift.square()).clamp_min(0.0)
        mean = mean + shift
        y = torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, norm.eps)[0]
        _rows(y)[absent] = 0.0
        ctx.save_for_backward(x, mask, weight, mean, (var + norm.eps).rsqrt())
        ctx.count = count
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, weight, mean, inverse = ctx.saved_tensors
        _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse, True, 0.0, [False, True, True]
        )
        absent = _absent(mask)
        lost = _rows(grad)[absent].flatten(0, 1).to(mean.dtype)
        away = _rows(x)[absent].flatten(0, 1).to(mean.dtype) - mean
        by_weight, by_bias = by_weight - (lost * away).sum(0) * inverse, by_bias - lost.sum(0)
        # The gradient is  scale · (grad - mean of grad - normalised x · mean of (grad · normalised x)).
        scale = weight * inverse
        slope = -scale * inverse * by_weight / ctx.count
        start = -scale * by_bias / ctx.count - slope * mean
        start, slope, scale = (each.to(x.dtype)[:, None, None] for each in (start, slope, scale))
        found = torch.addcmul(start, x, slope).addcmul_(grad, scale)
        _rows(found)[absent] = 0.0
        return found, None, None, by_weight, by_bias


def _rows(x: Tensor) -> Tensor:
    """``(B, T, V, D)``, another look at ``x (B, D, V, T)``."""
    return x.permute(0, 3, 2, 1)


def _absent(mask: Tensor) -> tuple[Tensor, ...]:
    """Places of the frames that ``mask (B, T)`` leaves out: there are few, and few are soon read or filled."""
    return (~mask).nonzero(as_tuple=True)


def _masked_batch_norm(x: Tensor, mask: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    y, mean, var = _MaskedBatchNorm.apply(x, mask, norm, norm.weight, norm.bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    count = mask.sum() * x.shape[2]
    unbiased = var * count / (count - 1).clamp_min(1)  # as torch's own keeps it
    norm.running_mean.lerp_(mean, norm.momentum)  # type: ignore[arg-type]
    norm.running_var.lerp_(unbiased, norm.momentum)  # type: ignore[arg-type]
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    return y


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a residual branch for whole samples while training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Zero some samples of ``x (B, ...)`` and scale the others to keep the expectation."""
        scale = self._scale(x)
        return x if scale is None else x * scale

    def join(self, x: Tensor, branch: Tensor) -> Tensor:
        """``x`` and what :meth:`forward` leaves of its residual branch, added in one go."""
        scale = self._scale(branch)
        return x + branch if scale is None else torch.addcmul(x, branch, scale)

    def _scale(self, x: Tensor) -> Tensor | None:
        if self.rate == 0.0 or not self.training:
            return None
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x.new_empty(shape).bernoulli_(keep).div_(keep)


def masked_mean_time(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over time of ``x (B, D, V, T)`` over the frames of ``mask (B, T)``: ``(B, D, V)``."""
    if mask is None:
        return x.mean(-1)
    weight = mask.to(x.dtype)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1.0)
    return (x * weight[:, None, None, :]).sum(-1)


def apply_mask(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the frames of ``x (B, D, V, T)`` that ``mask (B, T)`` leaves out: no convolution may see them."""
    # Put, not multiplied: NaN times 0 is NaN. Filling by the mask would look at every number, and takes thrice as long.
    return x if mask is None else _rows(_rows(x).index_put(_absent(mask), x.new_zeros(())))


def stride_mask(mask: Tensor | None, stride: int) -> Tensor | None:
    """The mask ``(B, ceil(T / stride))`` of a feature map after a temporal stride, from ``mask (B, T)``.

    A frame counts if any of the ``stride`` frames that it stands for did: otherwise a body that is seen in
    odd frames only would vanish from the answer.
    """
    if mask is None or stride == 1:
        return mask
    padded = functional.pad(mask, (0, -mask.shape[1] % stride))
    return padded.unflatten(1, (-1, stride)).any(-1)


def pointwise(width_in: int, width_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 1×1 convolution on ``(B, D, V, T)``, optionally strided along time."""
    return nn.Conv2d(width_in, width_out, 1, stride=(1, stride), bias=bias)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or unchanged where it has more digits, as in a gradient check."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A block without autocast on ``x``'s device; where there is none, an exported graph shows no trace."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def activation(x: Tensor) -> Tensor:
    """The encoder's nonlinearity."""
    return functional.gelu(x)
