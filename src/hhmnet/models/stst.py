"""ST&ST, the skeleton encoder: blocks of RE-DMT (over joints) and SK-TC (over frames).

Given by the paper's abstract: a spatial transformer and a selective temporal encoder. Widths, depth,
normalisation and pooling are ours; ``docs/method.md`` lists every choice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hhmnet.models.layers import DropPath, Norm, STSTConfig, apply_mask, pointwise, stride_mask
from hhmnet.models.re_dmt import REDMT, Company, Explanation, company_of
from hhmnet.models.sk_tc import SKTC
from hhmnet.skeleton import SkeletonLayout


class SkeletonOutput(NamedTuple):
    """What a network of S skeleton streams returns; ST&ST itself is one of a single stream.

    Attributes:
        logits: ``(N, classes)``, the streams' logits joined by weight.
        each: ``(S, N, classes)``, every stream's own.
        embeddings: ``(N, D)`` of every stream, the masked mean over T, V and M.
        projections: ``(N, P)`` of every stream, what the contrastive loss compares; none of a single stream.
        features: ``(N, M, T', V, D)`` of every stream, the last joint feature map; zero where a person or a frame is
            absent.
    """

    logits: Tensor
    each: Tensor
    embeddings: tuple[Tensor, ...]
    projections: tuple[Tensor, ...]
    features: tuple[Tensor, ...]


class STSTBlock(nn.Module):
    """RE-DMT then SK-TC, each residual and normalised first."""

    def __init__(
        self, width_in: int, width: int, stride: int, drop: float, config: STSTConfig, layout: SkeletonLayout
    ) -> None:
        super().__init__()
        self.stride = stride
        self.spatial_norm, self.temporal_norm = Norm(width_in), Norm(width_in)
        self.spatial = REDMT(width_in, config, layout)
        self.temporal = SKTC(width_in, width, stride, config)
        same = width_in == width and stride == 1
        self.shortcut: nn.Module = nn.Identity() if same else pointwise(width_in, width, stride)
        self.drop_path = DropPath(drop)

    def forward(self, x: Tensor, mask: Tensor | None = None, company: Company | None = None) -> Tensor:
        """Map ``x (B, D, V, T)`` to ``(B, width, V, ceil(T / stride))``.

        What comes out at frames that ``mask (B, T)`` leaves out means nothing.
        """
        x = self.drop_path(x, self.spatial(self.spatial_norm(x, mask), mask, company))
        y = self.temporal(functional.gelu(self.temporal_norm(x, mask)), mask)
        if self.stride > 1:  # a kept frame of the output may stand at a masked frame of x
            x = apply_mask(x, mask)
        return self.drop_path(self.shortcut(x), y)


class STST(nn.Module):
    """Skeleton encoder and classifier.

    Args:
        config: shape and variants.
        layout: the skeleton whose joints come in.
        num_classes: number of actions.

    Attributes:
        static_shapes: compute absent persons too, who count nothing, so that no shape depends on the mask, as a CUDA
            graph needs it. Otherwise they are left out, which is faster; so are they never in an exported graph.
    """

    static_shapes = False

    def __init__(self, config: STSTConfig, layout: SkeletonLayout, num_classes: int) -> None:
        super().__init__()
        self.config, self.layout, self.num_classes = config, layout, num_classes
        first, last, depth = config.widths[0], config.widths[-1], len(config.widths)
        self.input_norm = Norm(layout.dims * layout.num_joints)
        self.embed = pointwise(layout.dims, first)
        self.joint_embedding = nn.Parameter(torch.randn(first, layout.num_joints) * 0.02)
        blocks = []
        for i, (width, stride) in enumerate(zip(config.widths, config.strides, strict=True)):
            along = i / max(depth - 1, 1)
            before = config.widths[max(i - 1, 0)]
            blocks.append(STSTBlock(before, width, stride, config.drop_path * along, config, layout))
        self.blocks = nn.ModuleList(blocks)
        self.output_norm = Norm(last)
        self.dropout = nn.Dropout(config.dropout)
        # Each joint by weights of its own: one mean over the body loses 6 points (results/parts.md).
        self.classifier = nn.Linear(last * layout.num_joints, num_classes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> SkeletonOutput:
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
        if mask is not None:
            mask = mask.permute(0, 2, 1).reshape(clips * persons, frames)
        whole = mask is None or self.static_shapes or torch.compiler.is_compiling()
        present = x.new_ones(clips * persons).bool() if mask is None else mask.any(1)
        company = None
        if self.config.mutual and persons > 1:
            company = company_of(present.view(clips, persons), absent_too=whole)
        if mask is None or whole:
            features, mask = self._encode(x, mask, company)
        else:
            features, mask = self._encode_present(x, mask, present, company)
        return self._pool(features.unflatten(0, (clips, -1)), mask)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """All weights but the classifier's."""
        return [weight for name, weight in self.named_parameters() if not name.startswith("classifier.")]

    @torch.no_grad()
    def explain(self, x: Tensor, mask: Tensor | None = None) -> list[Explanation]:
        """What RE-DMT does in every block, for the bodies that are there; arguments as for :meth:`forward`."""
        found: list[Explanation] = []

        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
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

    def _encode(
        self, x: Tensor, mask: Tensor | None, company: Company | None
    ) -> tuple[Tensor, Tensor | None]:
        """Last feature map ``(B, D, V, T')`` of bodies ``x (B, C, V, T)``, and the frames that count in it."""
        bodies, channels, joints, frames = x.shape
        if mask is not None:
            x = x.masked_fill(~mask[:, None, None, :], 0.0)  # not multiplied: NaN times 0 is NaN
        # A coordinate's scale differs from joint to joint: every (C, V) pair is a channel of the input norm.
        x = self.input_norm(x.reshape(bodies, channels * joints, 1, frames), mask).reshape(x.shape)
        x = self.embed(x.contiguous(memory_format=torch.channels_last))
        x = x + self.joint_embedding[None, :, :, None]
        for block in self.blocks:
            x = block(x, mask, company)
            mask = stride_mask(mask, block.stride)  # type: ignore[arg-type]
        return apply_mask(functional.gelu(self.output_norm(x, mask)), mask), mask

    def _encode_present(
        self, x: Tensor, mask: Tensor, present: Tensor, company: Company | None
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`_encode` returns, for which nobody pays who is in no frame."""
        if not present.all():
            x, mask = x[present], mask[present]
        features, counted = self._encode(x, None if mask.all() else mask, company)
        if counted is None:
            counted = features.new_ones(len(features), features.shape[-1]).bool()
        return _put_back(features, present), _put_back(counted, present)

    def _pool(self, features: Tensor, mask: Tensor | None) -> SkeletonOutput:
        """The answer, from features ``(N, M, D, V, T')``; ``mask (N·M, T')`` names the frames that count."""
        exact = torch.promote_types(features.dtype, torch.float32)
        if mask is None:
            joints = features.mean((1, 4), dtype=exact)
        else:
            count = mask.unflatten(0, (features.shape[0], -1)).sum((1, 2)).to(exact)
            joints = features.sum((1, 4), dtype=exact) / count.clamp_min(1.0)[:, None, None]
        logits = self.classifier(self.dropout(joints.flatten(1)))
        return SkeletonOutput(logits, logits[None], (joints.mean(2),), (), (features.permute(0, 1, 4, 3, 2),))


def _put_back(rows: Tensor, present: Tensor) -> Tensor:
    """``(B, ...)`` with ``rows`` where ``present (B,)`` is true, and zeros elsewhere."""
    if present.all():
        return rows
    return rows.new_zeros(len(present), *rows.shape[1:]).index_put((present,), rows)
