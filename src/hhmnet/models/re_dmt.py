"""RE-DMT, Reranking-Enhanced Dynamic Mask Transformer: attention among the joints of a body.

Given by the paper's abstract: global spatial features from a transformer, whose redundancy a dynamic mask and
a reranking reduce. Our choices, and where they come from: relative bias over graph distance (Hyperformer),
logits from time-pooled features and a tanh-gated sum with a learned graph (DSTA-Net), a mask with a learned
threshold, k-reciprocal reranking (Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding",
CVPR 2017).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hhmnet.models.layers import STSTConfig, apply_mask, masked_mean_time, pointwise, without_autocast
from hhmnet.skeleton import SkeletonLayout

KEY_WIDTH = 16
"""Channels of queries and keys a head, d."""
K1, K2 = 8, 3
"""Size of the k-reciprocal neighbour sets, and neighbours over which a joint's encoding is averaged."""
BALANCE = 0.3
"""Share of the plain logits among the reranked ones (lambda in Zhong 2017, section 3.5)."""


class Explanation(NamedTuple):
    """What RE-DMT did with the joints of some bodies.

    Attributes:
        plain: softmax of the logits alone, ``(B, H, V, V)``: what attention without mask and reranking would be.
        kept: which of its own body's joints the dynamic mask leaves to each query, ``(B, H, V, V)`` bool.
        weights: the attention after mask and reranking, ``(B, H, V, V)``.
    """

    plain: Tensor
    kept: Tensor
    weights: Tensor


class Company(NamedTuple):
    """Who else is in the clip of each of B bodies, M of them a clip.

    Attributes:
        rows: the others' places among the B bodies, ``(B, M - 1)``; any place where one is absent.
        there: which of them are there, ``(B, M - 1)`` bool.
    """

    rows: Tensor
    there: Tensor


def company_of(present: Tensor, absent_too: bool) -> Company:
    """The company of bodies in clips of M persons, ``present (N, M)``.

    Args:
        present: who is there.
        absent_too: whether the absent have places among the bodies; then none is left out of what comes back.
    """
    places = torch.arange(present.numel(), device=present.device)
    rows = (places if absent_too else present.flatten().cumsum(0) - 1).view_as(present)
    turns = range(1, present.shape[1])
    there = torch.stack([present.roll(-turn, 1) for turn in turns], -1)
    others = torch.stack([rows.roll(-turn, 1) for turn in turns], -1) * there
    if absent_too:
        return Company(others.flatten(0, 1), there.flatten(0, 1))
    return Company(others[present], there[present])


def ranks(logits: Tensor, among: int) -> Tensor:
    """Each key's place, from 0, among a query's ``among`` strongest: ``(..., V, V)`` from ``(..., V, V)``.

    The query itself is first. Keys that aren't among the strongest are at V. Ranks carry no gradient.
    """
    joints = logits.shape[-1]
    self_first = torch.eye(joints, dtype=torch.bool, device=logits.device)
    ranked = logits.detach().masked_fill(self_first, torch.finfo(logits.dtype).max)
    order = ranked.topk(min(among, joints), dim=-1).indices
    places = torch.arange(order.shape[-1], device=logits.device).expand_as(order)
    return torch.full_like(ranked, joints, dtype=torch.long).scatter(-1, order, places)


def reciprocal_neighbours(rank: Tensor, k: int) -> Tensor:
    """Joints that are each among the other's k strongest (Zhong 2017, equation 2): bool ``(..., V, V)``.

    Args:
        rank: ``(..., V, V)`` from :func:`ranks`, among at least k.
        k: size of the sets.
    """
    near = rank < k
    return near & near.transpose(-1, -2)


def expanded_neighbours(rank: Tensor, k1: int) -> Tensor:
    """Reciprocal sets R*(i, k1), expanded as in Zhong 2017, equation 3: bool ``(..., V, V)``.

    The half-size set R(q, k1/2) of every member q joins R(i, k1) if at least two thirds of it lie in R(i, k1)
    already. Arguments as for :func:`reciprocal_neighbours`.
    """
    full, half = reciprocal_neighbours(rank, k1), reciprocal_neighbours(rank, math.ceil(k1 / 2))
    full_f, half_f = full.float(), half.float()
    overlap = full_f @ half_f.transpose(-1, -2)
    joins = full & (3 * overlap >= 2 * half_f.sum(-1).unsqueeze(-2) - 1e-4)
    return full | (joins.float() @ half_f > 0.5)


def jaccard_similarity(weights: Tensor) -> Tensor:
    """Jaccard similarity ``Σ min / Σ max`` of every two rows of ``weights (..., V, V)``: ``(..., V, V)``.

    Rows that sum to 1, as these do, need only their L1 distance: ``Σ min = 1 − ½·L1``, ``Σ max = 2 − Σ min``.
    """
    if weights.device.type == "cpu" and weights.dtype == torch.float32 and not torch.compiler.is_compiling():
        distance = torch.cdist(weights, weights, p=1)  # ten times faster than broadcasting on a CPU
    else:
        distance = (weights.unsqueeze(-2) - weights.unsqueeze(-3)).abs().sum(-1)
    common = 1.0 - 0.5 * distance
    return common / (2.0 - common)


def threshold_mask(scores: Tensor, threshold: Tensor) -> Tensor:
    """Keys that score ``threshold`` deviations above the query's mean: 1 or 0, ``(..., V, K)``; self always 1.

    A key that scores minus infinity is absent: it counts in no mean and isn't kept. The threshold learns by a
    straight-through estimate: forward the mask is hard, backward it is a sigmoid.
    """
    there = scores > float("-inf")
    count = there.sum(-1, keepdim=True)
    mean = scores.masked_fill(~there, 0.0).sum(-1, keepdim=True) / count
    away = (scores - mean).masked_fill(~there, 0.0)
    # As a length, whose slope is 0 where all scores are alike: there a deviation has none.
    spread = torch.linalg.vector_norm(away, dim=-1, keepdim=True) / (count - 1).clamp_min(1).sqrt()
    margin = away / (spread + 1e-6) - threshold
    own = torch.eye(*scores.shape[-2:], dtype=torch.bool, device=scores.device)
    hard = ((margin >= 0) & there | own).to(scores.dtype)
    if not margin.requires_grad:
        return hard
    soft = torch.sigmoid(margin / 0.1) * there
    return hard + soft - soft.detach()


def rerank(logits: Tensor, k1: int, k2: int) -> Tensor:
    """Similarity of joints by their k-reciprocal encodings (Zhong 2017, sections 3.2 to 3.4).

    Args:
        logits: attention logits ``(..., V, V)``.
        k1: size of the reciprocal sets.
        k2: neighbours over which an encoding is averaged (local query expansion); 1 leaves it out.

    Returns:
        Jaccard similarity ``(..., V, V)`` in [0, 1], symmetric, 1 on the diagonal. Differentiable through the
        attention weights that encode a joint; the ranks are constants.
    """
    k1, k2 = min(k1, logits.shape[-1]), min(k2, logits.shape[-1])
    rank = ranks(logits, max(k1, k2))  # found once for all three sets
    encoding = logits.masked_fill(~expanded_neighbours(rank, k1), float("-inf")).softmax(-1)
    if k2 > 1:
        near = (rank < k2).to(encoding.dtype)
        encoding = (near / near.sum(-1, keepdim=True)) @ encoding
    return jaccard_similarity(encoding)


class REDMT(nn.Module):
    """Reranking-enhanced dynamic mask attention over joints, on ``(B, D, V, T)``.

    Args:
        width: channels D in and out.
        config: mask, reranking and heads.
        layout: the skeleton, for graph distances and the initial graph.
    """

    def __init__(self, width: int, config: STSTConfig, layout: SkeletonLayout) -> None:
        super().__init__()
        joints = layout.num_joints
        self.heads = heads = max(1, width // config.head_width)
        self.mask, self.reranking = config.mask, config.reranking
        self.query_key = nn.Linear(width, 2 * heads * KEY_WIDTH)
        self.value = pointwise(width, width)
        self.distance_bias = nn.Parameter(torch.zeros(heads, int(layout.hops.max()) + 1))
        self.gate = nn.Parameter(torch.ones(heads))
        self.graph = nn.Parameter(torch.from_numpy(layout.adjacency).repeat(heads, 1, 1))
        self.register_buffer("hops", torch.from_numpy(layout.hops), persistent=False)
        if config.mutual:
            self.others_bias = nn.Parameter(torch.zeros(heads, 1, 1))
            self.others_graph = nn.Parameter(torch.zeros(heads, joints, joints))
        if config.reranking == "jaccard":
            self.rerank_scale = nn.Parameter(torch.full((heads, 1, 1), 4.0))
        if config.mask == "threshold":
            self.threshold = nn.Parameter(torch.zeros(heads, 1, 1))

    def logits(self, pooled: Tensor, company: Company | None = None) -> Tensor:
        """Attention logits ``(B, H, V, K)`` from pooled features ``(B, V, D)``.

        The keys are the K = V joints of the body itself, and behind them those of its company; minus infinity where
        one is absent.
        """
        batch, joints, _ = pooled.shape
        query_key = self.query_key(pooled).view(batch, joints, 2, self.heads, KEY_WIDTH)
        query, key = query_key.permute(2, 0, 3, 1, 4)
        bias = self.distance_bias[:, self.hops]  # type: ignore[index]
        if company is not None:
            key = with_others(key, company, dim=2)
            far = self.others_bias.expand(-1, joints, joints * company.rows.shape[1])
            bias = torch.cat((bias, far), -1)
        with without_autocast(pooled):  # ranking needs full precision: in bfloat16 neighbours tie
            exact = torch.promote_types(query.dtype, torch.float32)
            products = query.to(exact) @ key.to(exact).transpose(-1, -2)
            logits = products / math.sqrt(KEY_WIDTH) + bias
        if company is not None:
            own = company.there.new_ones(batch, joints)
            there = torch.cat((own, company.there.repeat_interleave(joints, 1)), 1)
            logits = logits.masked_fill(~there[:, None, None], float("-inf"))
        return logits

    def attention(self, logits: Tensor) -> Tensor:
        """Masked and reranked attention weights ``(B, H, V, K)``, rows sum to 1 (before the gate)."""
        mask, joints = self.dynamic_mask(logits), logits.shape[-2]
        if self.reranking == "jaccard":
            likeness = (1.0 - BALANCE) * self.rerank_scale * self.similarity(logits[..., :joints])
            others = logits.shape[-1] - joints  # whose joints aren't ranked
            logits = functional.pad(likeness, (0, others)) + BALANCE * logits
        if mask is None:
            return logits.softmax(-1)
        weights = logits.softmax(-1) * mask
        return weights / weights.sum(-1, keepdim=True).clamp_min(1e-6)

    def dynamic_mask(self, logits: Tensor) -> Tensor | None:
        """What each query keeps, ``(B, H, V, K)``: 1 or 0, and a slope for the threshold; None keeps all."""
        return threshold_mask(logits, self.threshold) if self.mask == "threshold" else None

    def similarity(self, logits: Tensor) -> Tensor:
        """What reranking adds to the logits: the joints' Jaccard similarity J, ``(B, H, V, V)``."""
        return rerank(logits, K1, K2)

    def mixing(self, pooled: Tensor, company: Company | None = None) -> Tensor:
        """The weights ``(B, H, V, K)`` with which joint j reaches joint i: attention and the learned graph."""
        logits = self.logits(pooled, company)
        with without_autocast(pooled):
            graph: Tensor = self.graph
            if company is not None:  # the graph knows nobody absent
                graph = torch.cat((graph, self.others_graph.repeat(1, 1, company.rows.shape[1])), -1)
                graph = graph * (logits > float("-inf"))
            return torch.tanh(self.gate)[:, None, None] * self.attention(logits) + graph

    @torch.no_grad()
    def explain(self, x: Tensor, mask: Tensor | None = None, company: Company | None = None) -> Explanation:
        """The attention among each body's own joints that :meth:`forward` would use, and what became of it."""
        logits = self.logits(masked_mean_time(x, mask).transpose(1, 2), company)
        kept = self.dynamic_mask(logits)
        kept = torch.ones_like(logits) if kept is None else kept
        parts = logits.softmax(-1), kept > 0.5, self.attention(logits)
        return Explanation(*(part[..., : logits.shape[-2]] for part in parts))

    def forward(self, x: Tensor, mask: Tensor | None = None, company: Company | None = None) -> Tensor:
        """Mix the joints of ``x (B, D, V, T)``; ``mask (B, T)`` names the frames that the pooling may see."""
        batch, width, joints, frames = x.shape
        weights = self.mixing(masked_mean_time(x, mask).transpose(1, 2), company)
        value = self.value(x)
        if company is not None:  # a body isn't always there when the other is
            value = apply_mask(value, mask)
        # (B, V, T, D) in memory -> (B, H, V, T * d): one matrix product a head.
        split = value.permute(0, 2, 3, 1).reshape(batch, joints, frames, self.heads, width // self.heads)
        split = split.permute(0, 3, 1, 2, 4).flatten(-2)
        if company is not None:
            split = with_others(split, company, dim=2)
        mixed = (weights.to(value.dtype) @ split).view(batch, self.heads, joints, frames, width // self.heads)
        mixed = mixed.permute(0, 2, 3, 1, 4).reshape(batch, joints, frames, width)
        return mixed.permute(0, 3, 1, 2)


def with_others(x: Tensor, company: Company, dim: int) -> Tensor:
    """Each body's ``x (B, ...)``, and along ``dim`` behind it those of its company."""
    return torch.cat((x, *(x[rows] for rows in company.rows.unbind(1))), dim)
