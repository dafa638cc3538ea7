"""ST&ST, the skeleton encoder: blocks of RE-DMT (over joints) and SK-TC (over frames).

Given by the paper's abstract: a spatial transformer and a selective temporal encoder. Widths, depth,
normalisation and pooling are ours; ``docs/method.md`` lists every choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hhmnet.fields import one_of, within
from hhmnet.models.layers import (
    NORMS,
    DropPath,
    Norm,
    activation,
    apply_mask,
    pointwise,
    stride_mask,
)
from hhmnet.models.re_dmt import MASKS, REDMT, RERANKINGS, Explanation
from hhmnet.models.sk_tc import SKTC
from hhmnet.skeleton import SkeletonLayout


@dataclass
class STSTConfig:
    """Shape and variants of one ST&ST encoder."""

    widths: tuple[int, ...] = (64, 64, 64, 128, 128, 128, 256, 256)
    """Channels of every block."""
    strides: tuple[int, ...] = (1, 1, 1, 2, 1, 1, 2, 1)
    """Temporal stride of every block."""
    head_width: int = 16
    """Channels per attention head; a block has width / head_width heads."""
    mask: str = "topk"
    """Dynamic mask of RE-DMT: none, topk, threshold or random."""
    density: tuple[float, float] = (1.0, 0.4)
    """Share of joints that a query keeps, in the first and the last block (linear in between)."""
    reranking: str = "jaccard"
    """Reranking of RE-DMT: none, reciprocal or jaccard."""
    k1: int = 8
    """Size of the k-reciprocal neighbour sets."""
    k2: int = 3
    """Neighbours over which a joint's encoding is averaged; 1 leaves the average out."""
    balance: float = 0.3
    """Share of the plain attention logits among the reranked ones (lambda)."""
    chunks: int = 1
    """Temporal chunks that get spatial attention of their own."""
    kernel: int = 5
    """Taps of SK-TC's branches."""
    dilations: tuple[int, ...] = (1, 3)
    """Dilation of every SK-TC branch: short and long."""
    max_pool: bool = False
    """Add a max-pooling branch to SK-TC."""
    select: bool = True
    """Mix SK-TC's branches by learned selection; false takes their mean, a plain multi-branch convolution."""
    bottleneck: float = 0.5
    """Channels of SK-TC's branches as a share of the block's."""
    reduction: int = 4
    """Reduction ratio of SK-TC's selection."""
    norm: str = "batch"
    """Normalisation inside the blocks: batch or layer."""
    drop_path: float = 0.1
    """Stochastic depth rate of the last block (linear from 0)."""
    attention_dropout: float = 0.0
    """Dropout on attention weights."""
    dropout: float = 0.3
    """Dropout before the classifier."""

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.strides):
            raise ValueError(
                f"field 'strides' has {len(self.strides)} entries, field 'widths' has {len(self.widths)}: "
                "give as many"
            )
        one_of(self, "mask", MASKS)
        one_of(self, "reranking", RERANKINGS)
        one_of(self, "norm", NORMS)
        within(
            self, 1, math.inf, "widths", "strides", "head_width", "k1", "k2", "chunks", "dilations", "kernel"
        )
        within(self, 1, math.inf, "reduction")
        within(self, 0.01, 1, "density", "bottleneck")
        within(self, 0, 1, "balance")
        within(self, 0, 0.99, "drop_path", "attention_dropout", "dropout")
        if len(self.density) != 2:
            raise ValueError(
                f"field 'density' needs two shares, of the first and last block, got {self.density}"
            )
        if self.kernel % 2 == 0:
            raise ValueError(
                f"field 'kernel' must be odd, so that a frame has a middle tap; got {self.kernel}"
            )
        if any(width % max(1, width // self.head_width) for width in self.widths):
            raise ValueError(
                f"field 'head_width' is {self.head_width}; it must divide every one of {self.widths}"
            )


class STSTOutput(NamedTuple):
    """What ST&ST returns.

    Attributes:
        logits: ``(N, classes)``.
        embedding: ``(N, D)``, the masked mean over T, V and M that the classifier sees.
        features: ``(N, M, T', V, D)``, the last joint feature map; zero where a person or a frame is absent.
    """

    logits: Tensor
    embedding: Tensor
    features: Tensor


class STSTBlock(nn.Module):
    """RE-DMT then SK-TC, each residual and normalised first."""

    def __init__(
        self,
        width_in: int,
        width: int,
        stride: int,
        density: float,
        drop: float,
        config: STSTConfig,
        layout: SkeletonLayout,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.spatial_norm = Norm(width_in, config.norm)
        self.spatial = REDMT(
            width_in,
            max(1, width_in // config.head_width),
            layout,
            mask=config.mask,
            density=density,
            reranking=config.reranking,
            k1=config.k1,
            k2=config.k2,
            balance=config.balance,
            chunks=config.chunks,
            dropout=config.attention_dropout,
        )
        self.temporal_norm = Norm(width_in, config.norm)
        self.temporal = SKTC(
            width_in,
            width,
            stride=stride,
            kernel=config.kernel,
            dilations=config.dilations,
            max_pool=config.max_pool,
            bottleneck=config.bottleneck,
            reduction=config.reduction,
            select=config.select,
            norm=config.norm,
        )
        same = width_in == width and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else pointwise(width_in, width, stride)
        self.drop_path = DropPath(drop)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map ``x (B, D, V, T)`` to ``(B, width, V, ceil(T / stride))``.

        What comes out at frames that ``mask (B, T)`` leaves out means nothing.
        """
        x = self.drop_path.join(x, self.spatial(self.spatial_norm(x, mask), mask))
        y = self.temporal(activation(self.temporal_norm(x, mask)), mask)
        if self.stride > 1:  # a kept frame of the output may stand at a masked frame of x
            x = apply_mask(x, mask)
        return self.drop_path.join(self.shortcut(x), y)


class STST(nn.Module):
    """Skeleton encoder and classifier.

    Args:
        config: shape and variants.
        layout: the skeleton whose joints come in.
        num_classes: number of actions.
        channels: coordinates per joint, C; the layout's own by default.
    """

    def __init__(
        self, config: STSTConfig, layout: SkeletonLayout, num_classes: int, channels: int | None = None
    ) -> None:
        super().__init__()
        self.config, self.layout, self.num_classes = config, layout, num_classes
        channels = channels or layout.dims
        first, last, depth = config.widths[0], config.widths[-1], len(config.widths)
        self.input_norm = Norm(channels * layout.num_joints, "batch")
        self.embed = pointwise(channels, first)
        self.joint_embedding = nn.Parameter(torch.randn(first, layout.num_joints) * 0.02)
        blocks = []
        for i, (width, stride) in enumerate(zip(config.widths, config.strides, strict=True)):
            along = i / max(depth - 1, 1)
            density = config.density[0] + along * (config.density[1] - config.density[0])
            before = config.widths[max(i - 1, 0)]
            blocks.append(STSTBlock(before, width, stride, density, config.drop_path * along, config, layout))
        self.blocks = nn.ModuleList(blocks)
        self.output_norm = Norm(last, config.norm)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> STSTOutput:
        """Classify clips.

        Args:
            x: ``(N, C, T, V, M)`` joint coordinates of one stream.
            mask: ``(N, T, M)`` bool, true where a person's body is there; all of them by default. What stands
                in ``x`` elsewhere has no influence on the answer.

        Raises:
            ValueError: where the joints aren't the layout's.
        """
        clips, channels, frames, joints, persons = x.shape
        if joints != self.layout.num_joints:
            raise ValueError(
                f"the model takes {self.layout.num_joints} joints ({self.layout.name}), the clip has {joints}"
            )
        x = x.permute(0, 4, 1, 3, 2).reshape(clips * persons, channels, joints, frames)
        present = rows = None
        if mask is not None and not mask.all():
            rows = mask.permute(0, 2, 1).reshape(clips * persons, frames)
            present = rows.any(1)
            x, rows = x[present], rows[present]  # nobody pays for a person who is not there
            rows = None if rows.all() else rows
        features, rows = self._encode(x, rows)
        return self._pool(features, rows, present, clips, persons)

    @torch.no_grad()
    def explain(self, x: Tensor, mask: Tensor | None = None) -> list[Explanation]:
        """What RE-DMT does in every block, for the bodies that are there; arguments as for :meth:`forward`."""
        found: list[Explanation] = []

        def note(module: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
            assert isinstance(module, REDMT)
            found.append(module.explain(*inputs))

        attentions = [module for module in self.modules() if isinstance(module, REDMT)]
        hooks = [module.register_forward_pre_hook(note) for module in attentions]
        try:
            self(x, mask)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _encode(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        bodies, channels, joints, frames = x.shape
        x = apply_mask(x, mask)
        # A coordinate's scale differs from joint to joint: every (C, V) pair is a channel of the input norm.
        x = self.input_norm(x.reshape(bodies, channels * joints, 1, frames), mask).reshape(x.shape)
        x = self.embed(x.contiguous(memory_format=torch.channels_last))
        x = x + self.joint_embedding[None, :, :, None]
        x = apply_mask(x, mask)
        for block in self.blocks:
            x = block(x, mask)
            mask = stride_mask(mask, block.stride)  # type: ignore[arg-type]
        return apply_mask(activation(self.output_norm(x, mask)), mask), mask

    def _pool(
        self, features: Tensor, mask: Tensor | None, present: Tensor | None, clips: int, persons: int
    ) -> STSTOutput:
        bodies, width, joints, frames = features.shape
        exact = torch.promote_types(features.dtype, torch.float32)
        if present is None:
            full = features.view(clips, persons, width, joints, frames)
            embedding = full.mean((1, 3, 4), dtype=exact)
        else:
            owner = torch.arange(clips, device=features.device).repeat_interleave(persons)[present]
            each = features.sum((2, 3), dtype=exact)
            total = each.new_zeros(clips, width).index_add(0, owner, each)
            seen = each.new_full((bodies,), frames) if mask is None else mask.sum(1).to(exact)
            count = each.new_zeros(clips).index_add(0, owner, seen * joints)
            embedding = total / count.clamp_min(1.0)[:, None]
            full = features.new_zeros(clips * persons, width, joints, frames)
            full[present] = features
            full = full.view(clips, persons, width, joints, frames)
        logits = self.classifier(self.dropout(embedding))
        return STSTOutput(logits, embedding, full.permute(0, 1, 4, 3, 2))
