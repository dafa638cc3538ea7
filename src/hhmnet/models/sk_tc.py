"""SK-TC, Selective Kernel Temporal Convolution: short and long kernels in time, mixed per channel and clip.

Given by the paper's abstract: long- and short-term features, adaptive fusion. The form is SKNet's (Li et al.,
"Selective Kernel Networks", CVPR 2019, section 3.1: split, fuse, select), turned to time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hhmnet.models.layers import (
    Norm,
    STSTConfig,
    activation,
    apply_mask,
    convolve,
    masked_mean_time,
    pointwise,
    stride_mask,
)


class SKTC(nn.Module):
    """Selective kernel temporal convolution on ``(B, D, V, T)``.

    Args:
        width_in: channels in.
        width: channels out.
        stride: temporal stride, taken inside the branches.
        config: kernel, and a branch for each dilation; branch channels as a share of ``width``; and whether they are
            mixed by softmax, or, for the ablation, simply by their mean. The selection's hidden width is SKNet's
            ``max(channels / r, 32)``.
    """

    def __init__(self, width_in: int, width: int, stride: int, config: STSTConfig) -> None:
        super().__init__()
        inner, kernel = max(16, round(width * config.bottleneck)), config.kernel
        self.stride = stride
        self.reduce = pointwise(width_in, inner, bias=False)
        self.reduce_norm = Norm(inner)
        self.branches = nn.ModuleList(
            nn.Conv2d(
                inner,
                inner,
                (1, kernel),
                stride=(1, stride),
                padding=(0, dilation * (kernel // 2)),
                dilation=(1, dilation),
                bias=False,
            )
            for dilation in config.dilations
        )
        count = len(config.dilations)
        self.branch_norms = nn.ModuleList(Norm(inner) for _ in range(count))
        hidden = max(inner // config.reduction, 32)
        select = config.select and count > 1  # one branch leaves nothing to choose
        self.squeeze = nn.Linear(inner, hidden) if select else None
        self.choose = nn.Linear(hidden, count * inner) if select else None
        self.expand = pointwise(inner, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``x (B, D, V, T)`` to ``(B, width, V, ceil(T / stride))``; ``mask (B, T)``: the real frames."""
        x = apply_mask(activation(convolve(self.reduce, self.reduce_norm, x, mask)), mask)
        later = stride_mask(mask, self.stride)
        outputs = [
            convolve(branch, norm, x, later)  # type: ignore[arg-type]
            for branch, norm in zip(self.branches, self.branch_norms, strict=True)
        ]
        return self.expand(self._select([activation(y) for y in outputs], later))

    def weights(self, outputs: list[Tensor], mask: Tensor | None) -> Tensor:
        """Selection weights ``(branches, B, D)`` that sum to 1 over branches (SKNet, equations 1 to 4)."""
        assert self.squeeze is not None
        assert self.choose is not None
        total = sum(outputs[1:], outputs[0])
        pooled = masked_mean_time(total, mask).mean(-1)
        scores = self.choose(activation(self.squeeze(pooled)))
        return scores.unflatten(1, (len(outputs), -1)).softmax(1).transpose(0, 1)

    def _select(self, outputs: list[Tensor], mask: Tensor | None) -> Tensor:
        if self.squeeze is None:
            return sum(outputs[1:], outputs[0]) / len(outputs)
        first, *others = self.weights(outputs, mask)[..., None, None].unbind()
        mixed = outputs[0] * first
        for weight, y in zip(others, outputs[1:], strict=True):
            mixed = torch.addcmul(mixed, y, weight)
        return mixed
