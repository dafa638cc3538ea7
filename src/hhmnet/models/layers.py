"""The configuration of ST&ST, and the few layers that RE-DMT and SK-TC share.

Feature maps inside the encoder are ``(B, D, V, T)`` tensors in channels-last memory, where B counts persons
(clips times persons). In memory that is ``(B, V, T, D)``: a 1×1 convolution is one matrix product, a temporal
convolution runs on contiguous rows, and both take oneDNN's and cuDNN's fastest paths.

A mask ``(B, T)`` names the frames of each person that count. No shape depends on what a mask holds, so that a network
can be exported, and its training step recorded as a CUDA graph.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hhmnet.fields import one_of, within
from hhmnet.skeleton import PARTS, SkeletonLayout

MASKS = ("none", "threshold")
RERANKINGS = ("none", "jaccard")


@dataclass
class STSTConfig:
    """Shape and variants of one ST&ST encoder."""

    widths: tuple[int, ...] = (64, 64, 64, 128, 128, 128, 256, 256)
    """Channels of every block."""
    strides: tuple[int, ...] = (1, 1, 1, 2, 1, 1, 2, 1)
    """Temporal stride of every block."""
    head_width: int = 16
    """Channels per attention head; a block has width / head_width heads."""
    mask: str = "threshold"
    """Dynamic mask of RE-DMT: none or threshold."""
    reranking: str = "jaccard"
    """Reranking of RE-DMT: none or jaccard."""
    mutual: bool = False
    """Let persons see each other: the joints of all persons of a clip are keys of one attention."""
    select: bool = True
    """Mix SK-TC's branches by learned selection; false takes their mean, a plain multi-branch convolution."""
    drop_path: float = 0.1
    """Stochastic depth rate of the last block (linear from 0)."""
    dropout: float = 0.3
    """Dropout before the classifier."""

    def __post_init__(self) -> None:
        one_of(self, "mask", MASKS)
        one_of(self, "reranking", RERANKINGS)
        within(self, 1, math.inf, "widths")
        within(self, 1, 2**16, "head_width")
        within(self, 1, 1000, "strides")
        within(self, 0, 0.99, "drop_path", "dropout")
        if len(self.widths) != len(self.strides):
            raise ValueError(
                f"field 'strides' has {len(self.strides)} entries, field 'widths' has {len(self.widths)}: "
                "give as many"
            )
        if any(width % max(1, width // self.head_width) for width in self.widths):
            raise ValueError(
                f"field 'head_width' is {self.head_width}; it must divide every one of {self.widths}"
            )


def part_weights(layout: SkeletonLayout) -> Tensor:
    """Weight of every joint in the mean over each part, ``(P, V)`` float32; rows sum to 1, or 0 without a joint."""
    weights = torch.zeros(len(PARTS), layout.num_joints)
    for row, part in enumerate(PARTS):
        joints = list(layout.parts[part])
        weights[row, joints] = 1 / max(len(joints), 1)
    return weights


class Norm(nn.Module):
    """Batch normalisation of ``(B, D, V, T)`` whose statistics are those of the frames that count.

    Args:
        width: channels D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``x``; what comes out at frames that ``mask (B, T)`` leaves out means nothing."""
        if mask is None or not self.norm.training:
            return self.norm(x)
        if type(self.norm) is nn.BatchNorm2d:
            return masked_batch_norm(x, mask, self.norm)
        # A norm over several processes has statistics of its own, and is shown nothing but what counts.
        rows = x.permute(0, 3, 2, 1)[mask]  # (frames, V, D)
        y = self.norm(rows.reshape(-1, rows.shape[-1], 1, 1)).view_as(rows)
        out = y.new_zeros(x.shape[0], x.shape[3], x.shape[2], x.shape[1])
        out[mask] = y
        return out.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)


def masked_batch_norm(x: Tensor, mask: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch normalisation in training, ``(x - mean) / sqrt(var + eps) · weight + bias`` channel by channel.

    Mean and variance are those of the frames that count; the others come out as the bias. Torch's own batch norm does
    the work, of all frames, after those that don't count are set to the mean of the others. Then the mean is right, and
    the variance too small by the share of frames that count, for which the frames are made larger beforehand.

    Args:
        x: ``(B, D, V, T)``.
        mask: ``(B, T)`` bool.
        norm: its running statistics are updated.
    """
    counts = mask[:, None, None, :].to(norm.weight.dtype)
    count, every = counts.sum().clamp_min(1) * x.shape[2], mask.numel() * x.shape[2]
    share = count / every
    larger = x * (counts * share.rsqrt())
    mean = larger.sum((0, 2, 3)) / count
    away = larger - mean[:, None, None] * counts
    mean = mean.detach() * share.sqrt()
    unused, var = torch.zeros_like(norm.bias), torch.zeros_like(norm.bias)
    y = functional.batch_norm(away, unused, var, norm.weight * share.sqrt(), norm.bias, True, 1.0, norm.eps)
    # Torch keeps the unbiased variance, Σ/(n-1); it has counted all frames.
    keep_statistics(norm, mean, var * ((every - 1) / every * count / (count - 1).clamp_min(1)))
    return y.to(x.dtype)


@torch.no_grad()
def keep_statistics(norm: _BatchNorm, mean: Tensor, var: Tensor) -> None:
    """Move a norm's running statistics towards a batch's mean and unbiased variance, both ``(D,)``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(var, norm.momentum)
    norm.num_batches_tracked += 1


def folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution (it has none of its own) that does the work of the norm behind it.

    A batch norm in eval mode is one factor and one shift a channel. Any other norm is left to itself: the bias is None.
    On a CPU a norm takes up to half as long as its convolution, since both move the same memory.
    """
    if not isinstance(norm, nn.BatchNorm2d) or norm.training:
        return conv.weight, None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def convolve(conv: nn.Conv2d, norm: Norm, x: Tensor, mask: Tensor | None) -> Tensor:
    """A convolution without bias of ``x (B, D, V, T)``, and the norm behind it."""
    weight, bias = folded(conv, norm.norm)
    y = functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation)
    return y if bias is not None else norm(y, mask)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a residual branch for whole samples while training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """``x`` plus its residual branch, both ``(B, ...)``, which is left out or made larger sample by sample."""
        if self.rate == 0.0 or not self.training:
            return x + branch
        keep = 1.0 - self.rate
        scale = branch.new_empty((len(branch),) + (1,) * (branch.ndim - 1)).bernoulli_(keep).div_(keep)
        return torch.addcmul(x, branch, scale)


def masked_mean_time(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over time of ``x (B, D, V, T)`` over the frames of ``mask (B, T)``: ``(B, D, V)``."""
    if mask is None:
        return x.mean(-1)
    weight = mask.to(x.dtype)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1.0)
    return (x * weight[:, None, None, :]).sum(-1)


def apply_mask(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the frames of ``x (B, D, V, T)`` that ``mask (B, T)`` leaves out; all of its numbers are finite."""
    return x if mask is None else x * mask.to(x.dtype)[:, None, None, :]


def stride_mask(mask: Tensor | None, stride: int) -> Tensor | None:
    """The mask ``(B, ceil(T / stride))`` of a feature map after a temporal stride, from ``mask (B, T)``.

    A frame counts if any of the ``stride`` frames that it stands for did: otherwise a body that is seen in
    odd frames only would vanish from the logits.
    """
    if mask is None or stride == 1:
        return mask
    padded = functional.pad(mask, (0, -mask.shape[1] % stride))
    return padded.unflatten(1, (-1, stride)).any(-1)


def pointwise(width_in: int, width_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 1×1 convolution on ``(B, D, V, T)``, optionally strided along time."""
    return nn.Conv2d(width_in, width_out, 1, stride=(1, stride), bias=bias)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A block without autocast on ``x``'s device; where there is none, an exported graph shows no trace."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
