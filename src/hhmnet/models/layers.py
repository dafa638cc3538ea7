"""The few layers that RE-DMT and SK-TC share.

Feature maps inside the encoder are ``(B, D, V, T)`` tensors in channels-last memory, where B counts persons
(clips times persons). In memory that is ``(B, V, T, D)``: a 1×1 convolution is one matrix product, a temporal
convolution runs on contiguous rows, and both take oneDNN's and cuDNN's fastest paths.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

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
        """Normalise ``x (B, D, V, T)``; ``mask (B, T)`` names the frames that count for the statistics."""
        if isinstance(self.norm, nn.LayerNorm):
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if mask is None or not self.training:
            return self.norm(x)
        rows = x.permute(0, 3, 2, 1)[mask]  # (frames that count, V, D)
        y = self.norm(rows.reshape(-1, rows.shape[-1], 1, 1)).view_as(rows)
        out = x.new_zeros(x.shape[0], x.shape[3], x.shape[2], x.shape[1])
        out[mask] = y.to(out.dtype)
        return out.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a residual branch for whole samples while training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Zero some samples of ``x (B, ...)`` and scale the others to keep the expectation."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x * x.new_empty(shape).bernoulli_(keep).div_(keep)


def masked_mean_time(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over time of ``x (B, D, V, T)`` over the frames of ``mask (B, T)``: ``(B, D, V)``."""
    if mask is None:
        return x.mean(-1)
    weight = mask.to(x.dtype)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1.0)
    return (x * weight[:, None, None, :]).sum(-1)


def apply_mask(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the frames of ``x (B, D, V, T)`` that ``mask (B, T)`` leaves out: no convolution may see them."""
    # Filled, not multiplied: NaN times 0 is NaN.
    return x if mask is None else x.masked_fill(~mask[:, None, None, :], 0.0)


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
