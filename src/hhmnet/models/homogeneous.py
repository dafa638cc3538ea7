"""The homogeneous network of phase 1: one ST&ST for each skeleton stream, and a projection where they meet.

Given by the paper's abstract: contrastive learning among four skeletal modalities fuses their semantics. Our
choices: a two-layer projection (SimCLR, Chen et al., ICML 2020), and a weighted sum of raw logits at the end (the
field's ensemble since 2s-AGCN).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hhmnet.fields import within
from hhmnet.models.stst import STST, SkeletonOutput, STSTConfig
from hhmnet.skeleton import SkeletonLayout


@dataclass
class FusionConfig:
    """How several skeleton streams are compared and joined; without effect where there is one."""

    projection: int = 128
    """Channels of the space in which the streams are compared."""
    weights: tuple[float, ...] = ()
    """Weight of each stream's logits in the answer; empty weighs all alike."""

    def __post_init__(self) -> None:
        within(self, 1, 2**14, "projection")
        check_shares(self)


def check_shares(config: Any) -> None:
    """Raise ValueError where the ``weights`` of a configuration are below 0, or all of them 0; it may have none."""
    if config.weights:
        within(config, 0, math.inf, "weights")
        if not any(config.weights):
            raise ValueError(f"field 'weights' must not be all zero; got {config.weights}")


class HomogeneousNetwork(nn.Module):
    """ST&ST encoders of several skeleton streams.

    Args:
        config: shape and variants of every encoder.
        fusion: projection, and a weight for each stream or none.
        layout: the skeleton whose joints come in.
        num_classes: number of actions.
        streams: names of the streams, in the order in which their channels come in.
    """

    weights: Tensor

    def __init__(
        self,
        config: STSTConfig,
        fusion: FusionConfig,
        layout: SkeletonLayout,
        num_classes: int,
        streams: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.streams = streams
        width = config.widths[-1]
        self.encoders = nn.ModuleDict({name: STST(config, layout, num_classes) for name in streams})
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, fusion.projection))
                for name in streams
            }
        )
        weights = torch.tensor(fusion.weights or (1.0,) * len(streams))
        self.register_buffer("weights", weights / weights.sum(), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> SkeletonOutput:
        """Classify clips.

        Args:
            x: ``(N, S·C, T, V, M)``, the streams' coordinates one behind the other.
            mask: ``(N, T, M)`` bool, true where a person's body is there.
        """
        parts = x.chunk(len(self.streams), dim=1)
        outputs = [self.encoders[name](part, mask) for name, part in zip(self.streams, parts, strict=True)]
        each = torch.stack([output.logits.float() for output in outputs])
        embeddings = tuple(output.embeddings[0] for output in outputs)
        return SkeletonOutput(
            logits=torch.einsum("s,snk->nk", self.weights, each),
            each=each,
            embeddings=embeddings,
            projections=tuple(
                self.projections[name](embedding)
                for name, embedding in zip(self.streams, embeddings, strict=True)
            ),
            features=tuple(output.features[0] for output in outputs),
        )


def stream_parts(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each stream; all of them as one list where there is one stream.

    Gradients are clipped by these, so that streams without a contrastive loss train as they would alone.
    """
    if not isinstance(network, HomogeneousNetwork):
        return [list(network.parameters())]
    return [
        [*network.encoders[name].parameters(), *network.projections[name].parameters()]
        for name in network.streams
    ]
