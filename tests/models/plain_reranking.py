"""A slow, plain k-reciprocal reranking, from the definitions of Zhong et al. 2017: sets and loops."""

from __future__ import annotations

import math

Rows = list[list[float]]


def nearest(rows: Rows, i: int, k: int) -> set[int]:
    """The k nearest neighbours N(i, k): i itself and the k - 1 strongest others."""
    others = sorted((j for j in range(len(rows)) if j != i), key=lambda j: -rows[i][j])
    return {i, *others[: k - 1]}


def reciprocal(rows: Rows, i: int, k: int) -> set[int]:
    """R(i, k), equation 2: the neighbours of i that have i for a neighbour."""
    return {j for j in nearest(rows, i, k) if i in nearest(rows, j, k)}


def expanded(rows: Rows, i: int, k1: int) -> set[int]:
    """R*(i, k1), equation 3."""
    own = reciprocal(rows, i, k1)
    grown = set(own)
    for q in own:
        half = reciprocal(rows, q, math.ceil(k1 / 2))
        if 3 * len(own & half) >= 2 * len(half):
            grown |= half
    return grown


def plain_rerank(rows: Rows, k1: int, k2: int) -> list[list[float]]:
    """Jaccard similarity of the k-reciprocal encodings, equations 4 to 11."""
    joints = range(len(rows))
    encodings = []
    for i in joints:
        members = expanded(rows, i, k1)
        total = sum(math.exp(rows[i][j]) for j in members)
        encodings.append([math.exp(rows[i][j]) / total if j in members else 0.0 for j in joints])
    if k2 > 1:
        near = [nearest(rows, i, k2) for i in joints]
        encodings = [[sum(encodings[n][j] for n in near[i]) / len(near[i]) for j in joints] for i in joints]
    return [
        [
            sum(min(a, b) for a, b in zip(encodings[i], encodings[j], strict=True))
            / sum(max(a, b) for a, b in zip(encodings[i], encodings[j], strict=True))
            for j in joints
        ]
        for i in joints
    ]
