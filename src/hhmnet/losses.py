"""Losses: cross-entropy, contrast among streams and between modalities, and distillation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional

from hhmnet.fields import within


@dataclass
class LossConfig:
    """Weights and variants of the losses beside the cross-entropy."""

    contrast: float = 0.1
    """Phase 1: weight of the contrast among the streams (lambda); 0 trains them side by side."""
    temperature: float = 0.07
    """Phase 1: temperature of that contrast."""
    part_contrast: float = 1.0
    """Phase 2: weight of the contrast between video and skeleton, part by part; 0 turns it off."""
    part_temperature: float = 0.1
    """Phase 2: temperature of that contrast."""
    distill: float = 0.0
    """Weight of the divergence of each stream's logits from the others' (phase 1), of the video's from the skeleton's
    (phase 2); 0 turns it off."""
    distill_temperature: float = 4.0
    """Temperature of that divergence."""

    def __post_init__(self) -> None:
        within(self, 0, math.inf, "contrast", "part_contrast", "distill")
        within(self, 1e-3, math.inf, "temperature", "part_temperature", "distill_temperature")


def smooth(classes: Tensor, smoothing: float) -> Tensor:
    """Label-smoothed targets of class shares ``(N, K)`` (Szegedy et al. 2016, section 7)."""
    return classes * (1 - smoothing) + smoothing / classes.shape[1]


def cross_entropy(logits: Tensor, classes: Tensor, smoothing: float, heads: Sequence[int]) -> Tensor:
    """Label-smoothed cross-entropy, the mean over clips; of several heads each clip's loss is that of its own.

    Args:
        logits: ``(N, K)``, the heads' one behind the other.
        classes: class shares ``(N, K)``; a clip that mixup mixed from two sets has shares, and a loss, in two heads.
        smoothing: share of the target that is spread over all classes of its head.
        heads: how many of the K classes are each head's.
    """
    if len(heads) == 1:
        return functional.cross_entropy(logits.float(), smooth(classes, smoothing))
    losses = [
        functional.cross_entropy(
            part, own.sum(1, keepdim=True) * smoothing / own.shape[1] + own * (1 - smoothing)
        )
        for part, own in zip(logits.float().split(heads, 1), classes.split(heads, 1), strict=True)
    ]
    return torch.stack(losses).sum()


def positive_shares(classes: Tensor) -> Tensor:
    """How much each clip of a batch counts as a positive of each other one: ``(N, N)``, rows sum to 1.

    A clip is always a positive of itself, with weight 1. Every other clip counts as far as it is of the same class
    (Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equation 2): by the product of the two clips' class
    shares, which is 1 or 0 for clips of one class each and in between for mixed ones.

    Args:
        classes: class shares ``(N, K)``, rows sum to 1; one-hot where no clips are mixed.
    """
    own = torch.eye(classes.shape[0], dtype=classes.dtype, device=classes.device)
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


def stream_contrast(embeddings: Sequence[Tensor], classes: Tensor, temperature: float) -> Tensor:
    """Mean of :func:`info_nce` over all pairs of streams (six pairs of four streams): a scalar.

    Under torch.distributed every process compares all processes' clips, so the loss and its gradient are those of
    the whole batch; each process must hold equally many clips.

    Args:
        embeddings: of every stream, ``(N, D)`` each; at least two.
        classes: class shares ``(N, K)``.
        temperature: of InfoNCE.
    """
    everyone = [gathered(embedding) for embedding in embeddings]
    shares = positive_shares(gathered(classes))
    losses = [info_nce(one, other, shares, temperature) for one, other in combinations(everyone, 2)]
    return torch.stack(losses).mean()


def gathered(x: Tensor) -> Tensor:
    """Rows of all processes, in rank order; gradients flow back to the process a row comes from."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return x
    everyone: Tensor = _Gathered.apply(x)
    return everyone


class _Gathered(torch.autograd.Function):
    """Every process's rows; the slope of a row is the sum of those that all processes find for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """All rows ``(processes · N, ...)`` of ``x (N, ...)``."""
        ctx.count = len(x)
        rows = x.contiguous()
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The slopes ``(N, ...)`` of this process's rows."""
        # A copy in plain order: gloo sends memory as it lies, and the slope may lie transposed.
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[ctx.count * distributed.get_rank() :][: ctx.count]


def part_contrast(students: Tensor, teachers: Tensor, mask: Tensor | None, temperature: float) -> Tensor:
    """Multi-part contrast: the student finds those clips alike that the teacher finds alike; a scalar.

    For every part apart, each clip is contrasted with all others of the batch that have the part: the divergence of the
    softmax of the student's cosine similarities from that of the teacher's (SEED, Fang et al., ICLR 2021, with the
    batch as its queue). What a part's teachers have in common is taken from them first: bodies differ less than they
    are alike. The mean is over clips and parts that have another to be told from; a missing part is nothing to anybody.
    No gradient reaches the teachers.

    Under torch.distributed all processes' clips are compared, as in :func:`stream_contrast`.

    Args:
        students: ``(N, P, D)``, any length; they are normalised here.
        teachers: ``(N, P, D)``.
        mask: ``(N, P)`` bool, true where both are there; None where all are.
        temperature: divides the cosine similarities of both.
    """
    students, teachers = gathered(students).float(), gathered(teachers.detach()).float()
    there = torch.ones(students.shape[:2], device=students.device)
    if mask is not None:
        there = gathered(mask.to(torch.float32))
    mean = (teachers * there[..., None]).sum(0) / there.sum(0).clamp_min(1)[:, None]
    pairs = torch.einsum("ip,jp->pij", there, there) > 0
    pairs &= ~torch.eye(len(there), dtype=torch.bool, device=there.device)

    def alike(x: Tensor) -> Tensor:
        x = functional.normalize(x, dim=2)
        # Filled with a finite number: a row without any clip would be NaN, and 0 times NaN is NaN.
        lowest = torch.finfo(torch.float32).min / 2
        return (torch.einsum("ipd,jpd->pij", x, x) / temperature).masked_fill(~pairs, lowest).log_softmax(2)

    goal, found = alike(teachers - mean), alike(students)
    each = functional.kl_div(found, goal, reduction="none", log_target=True).masked_fill(~pairs, 0.0)
    return each.sum() / pairs.any(2).sum().clamp_min(1)


def distillation(students: Tensor, teachers: Tensor, mask: Tensor | None, temperature: float) -> Tensor:
    """Mean over clips of the divergence of a student's answer from a teacher's: a scalar.

    ``T² · KL(softmax(teacher / T) ‖ softmax(student / T))`` (Hinton et al., "Distilling the knowledge in a neural
    network", 2015, section 2). The teachers are detached.

    Args:
        students: logits ``(N, classes)``.
        teachers: logits ``(N, classes)``.
        mask: ``(N,)``, which clips count, or how far each does; None counts all. Without any the loss is 0.
        temperature: T, softens both answers.
    """
    goal = (teachers.detach().float() / temperature).log_softmax(1)
    found = (students.float() / temperature).log_softmax(1)
    each = temperature**2 * functional.kl_div(found, goal, reduction="none", log_target=True).sum(1)
    if mask is None:
        return each.mean()
    return (each * mask).sum() / mask.sum().clamp_min(1)


def mutual_distillation(each: Tensor, classes: Tensor, temperature: float, heads: Sequence[int]) -> Tensor:
    """Streams that learn from one another: the sum over streams of the mean divergence from the others' answers.

    A scalar (Zhang et al., "Deep mutual learning", CVPR 2018, section 3.4). Of several heads a clip's is its own.

    Args:
        each: logits ``(S, N, K)`` of S streams, at least two.
        classes: class shares ``(N, K)``, as for :func:`cross_entropy`.
        temperature: see :func:`distillation`.
        heads: how many of the K classes are each head's.
    """
    losses = []
    for logits, own in zip(each.split(heads, 2), classes.split(heads, 1), strict=True):
        shares = own.sum(1)
        pairs = [distillation(*pair, shares, temperature) for pair in permutations(logits, 2)]
        losses.append(torch.stack(pairs).sum() * shares.sum().clamp_min(1) / len(shares))
    return torch.stack(losses).sum() / (len(each) - 1)
