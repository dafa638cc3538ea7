"""SK-TC, Selective Kernel Temporal Convolution: short and long kernels in time, mixed per channel and clip.

Given by the paper's abstract: long- and short-term features, adaptive fusion. The form is SKNet's (Li et al.,
"Selective Kernel Networks", CVPR 2019, section 3.1: split, fuse, select), turned to time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hhmnet.models.layers import (
    Norm,
    STSTConfig,
    apply_mask,
    convolve,
    masked_mean_time,
    pointwise,
    stride_mask,
)

KERNEL = 5
"""Taps of both branches."""
DILATIONS = 1, 3
"""Frames between two taps of the short branch and of the long one."""
BOTTLENECK = 0.5
"""Channels of the branches as a share of the block's."""
REDUCTION = 4
"""SKNet's r: the selection's hidden width is ``max(channels / r, 32)``."""


class SKTC(nn.Module):
    """Selective kernel temporal convolution on ``(B, D, V, T)``.

    Args:
        width_in: channels in.
        width: channels out.
        stride: temporal stride, taken inside the branches.
        config: whether the branches are mixed by softmax, or, for the ablation, simply by their mean.
    """

    def __init__(self, width_in: int, width: int, stride: int, config: STSTConfig) -> None:
        super().__init__()
        inner = max(16, round(width * BOTTLENECK))
        self.stride = stride
        self.reduce = pointwise(width_in, inner, bias=False)
        self.reduce_norm = Norm(inner)
        self.branches = nn.ModuleList(
            nn.Conv2d(
                inner,
                inner,
                (1, KERNEL),
                stride=(1, stride),
                padding=(0, dilation * (KERNEL // 2)),
                dilation=(1, dilation),
                bias=False,
            )
            for dilation in DILATIONS
        )
        self.branch_norms = nn.ModuleList(Norm(inner) for _ in DILATIONS)
        hidden = max(inner // REDUCTION, 32)
        self.squeeze = nn.Linear(inner, hidden) if config.select else None
        self.choose = nn.Linear(hidden, len(DILATIONS) * inner) if config.select else None
        self.expand = pointwise(inner, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``x (B, D, V, T)`` to ``(B, width, V, ceil(T / stride))``; ``mask (B, T)``: the real frames."""
        x = apply_mask(functional.gelu(convolve(self.reduce, self.reduce_norm, x, mask)), mask)
        later = stride_mask(mask, self.stride)
        outputs = [
            convolve(branch, norm, x, later)  # type: ignore[arg-type]
            for branch, norm in zip(self.branches, self.branch_norms, strict=True)
        ]
        return self.expand(self._select([functional.gelu(y) for y in outputs], later))

    def weights(self, outputs: list[Tensor], mask: Tensor | None) -> Tensor:
        """Selection weights ``(branches, B, D)`` that sum to 1 over branches (SKNet, equations 1 to 4)."""
        assert self.squeeze is not None
        assert self.choose is not None
        short, long = outputs
        pooled = masked_mean_time(short + long, mask).mean(-1)
        scores = self.choose(functional.gelu(self.squeeze(pooled)))
        return scores.unflatten(1, (len(outputs), -1)).softmax(1).transpose(0, 1)

    def _select(self, outputs: list[Tensor], mask: Tensor | None) -> Tensor:
        short, long = outputs
        if self.squeeze is None:
            return (short + long) / 2
        first, second = self.weights(outputs, mask)[..., None, None].unbind()
        return torch.addcmul(short * first, long, second)
