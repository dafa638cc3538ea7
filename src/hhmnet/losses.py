"""Contrastive losses between the embeddings of different modalities of the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather
from torch.nn import functional

POSITIVES = ("class", "clip")


def positive_shares(classes: Tensor, positives: str = "class") -> Tensor:
    """How much each clip of a batch counts as a positive of each other one: ``(N, N)``, rows sum to 1.

    A clip is always a positive of itself, with weight 1. With ``class`` every clip counts besides as far as it is of
    the same class (Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equation 2): by the product of the
    two clips' class shares, which is 1 or 0 for clips of one class each and in between for mixed ones.

    Args:
        classes: class shares ``(N, K)``, rows sum to 1; one-hot where no clips are mixed.
        positives: ``class`` or ``clip``.
    """
    own = torch.eye(classes.shape[0], dtype=classes.dtype, device=classes.device)
    if positives == "clip":
        return own
    shares = torch.maximum(classes @ classes.T, own)
    return shares / shares.sum(1, keepdim=True)


def info_nce(one: Tensor, other: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE between two modalities' embeddings of the same clips: a scalar.

    The mean over clips, and over both directions, of the cross-entropy between ``shares`` and the softmax of the
    cosine similarities over ``temperature`` (van den Oord et al. 2018, equation 4; supervised as in Khosla et al.
    2020, with the sum over positives outside the logarithm).

    Args:
        one: ``(N, D)``, any length; it is normalised here.
        other: ``(N, D)``.
        shares: ``(N, N)`` from :func:`positive_shares`.
        temperature: divides the similarities.
    """
    one, other = functional.normalize(one.float(), dim=1), functional.normalize(other.float(), dim=1)
    similarity = one @ other.T / temperature
    forth = -(shares * similarity.log_softmax(1)).sum(1).mean()
    back = -(shares * similarity.T.log_softmax(1)).sum(1).mean()
    return (forth + back) / 2


def stream_contrast(
    embeddings: Sequence[Tensor], classes: Tensor, temperature: float, positives: str = "class"
) -> Tensor:
    """Mean of :func:`info_nce` over all pairs of streams (six pairs of four streams): a scalar.

    Under torch.distributed every process compares all processes' clips, so the loss and its gradient are those of
    the whole batch; each process must hold equally many clips.

    Args:
        embeddings: of every stream, ``(N, D)`` each; at least two.
        classes: class shares ``(N, K)``.
        temperature: of InfoNCE.
        positives: ``class`` or ``clip``.
    """
    if len(embeddings) < 2:
        raise ValueError(f"contrast needs at least two streams, got {len(embeddings)}")
    everyone = [gathered(embedding) for embedding in embeddings]
    shares = positive_shares(gathered(classes), positives)
    losses = [info_nce(one, other, shares, temperature) for one, other in combinations(everyone, 2)]
    return torch.stack(losses).mean()


def gathered(x: Tensor) -> Tensor:
    """Rows of all processes, in rank order; gradients flow back to the process a row comes from."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return x
    if not x.requires_grad:
        parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)
    return torch.cat(all_gather(x.contiguous()))
