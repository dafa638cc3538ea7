"""RE-DMT and its reranking, against their definitions written out in loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hhmnet.models.layers import MASKS, RERANKINGS, STSTConfig
from hhmnet.models.re_dmt import (
    BALANCE,
    K1,
    K2,
    KEY_WIDTH,
    REDMT,
    company_of,
    expanded_neighbours,
    jaccard_similarity,
    ranks,
    reciprocal_neighbours,
    rerank,
    threshold_mask,
)
from hhmnet.skeleton import KINECT20, SkeletonLayout


def random_logits(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 1.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def similarities(joints: int, seed: int) -> Tensor:
    """Logits like those of points in a plane: the nearer, the stronger."""
    points = random_logits(joints, 2, seed=seed)
    return -torch.cdist(points, points) + 1e-3 * random_logits(joints, joints, seed=seed + 1)


# The reranking, slow and plain, from the definitions of Zhong et al. 2017: sets and loops.

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
    return [[sum(map(min, a, b)) / sum(map(max, a, b)) for b in encodings] for a in encodings]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(5, 25), st.integers(1, 27), st.integers(1, 6), st.integers(0, 10_000), st.booleans())
def test_every_step_matches_the_reference(joints, k, k2, seed, mutual):
    # Symmetric logits have many mutual neighbours, plain ones few.
    logits = similarities(joints, seed) if mutual else random_logits(joints, joints, seed=seed)
    rows, rank = logits.tolist(), ranks(logits, k)
    for found, plain in (
        (rank < k, nearest),
        (reciprocal_neighbours(rank, k), reciprocal),
        (expanded_neighbours(rank, k), expanded),
    ):
        sets = [plain(rows, i, k) for i in range(joints)]
        np.testing.assert_array_equal(
            found.numpy(), [[j in members for j in range(joints)] for members in sets]
        )
    single = logits.float()
    expected = np.array(plain_rerank(single.tolist(), k, k2))
    np.testing.assert_allclose(rerank(single, k, k2).numpy(), expected, atol=1e-5)  # by cdist
    np.testing.assert_allclose(rerank(single.double(), k, k2).numpy(), expected, atol=1e-12)  # by a broadcast


def test_both_ways_to_the_jaccard_similarity_have_the_same_slopes():
    logits, weight = (random_logits(2, 3, 20, 20, seed=seed) for seed in (2, 3))
    slopes = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        (jaccard_similarity(leaf.softmax(-1)) * weight).sum().backward()
        slopes.append(leaf.grad.double())
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-5, rtol=1e-4)
    half = jaccard_similarity(logits.softmax(-1).bfloat16())  # which cdist can't
    torch.testing.assert_close(half.double(), jaccard_similarity(logits.softmax(-1)), atol=0.02, rtol=0)


def test_a_threshold_keeps_what_is_above_mean_plus_tau_deviations_and_learns_which_way_to_go():
    logits = random_logits(2, 3, 20, 20, seed=4)
    threshold = torch.tensor([-0.5, 0.0, 0.8], dtype=torch.float64).view(3, 1, 1).requires_grad_()
    kept = threshold_mask(logits, threshold)
    limit = logits.mean(-1, keepdim=True) + threshold * logits.std(-1, keepdim=True)
    expected = (logits >= limit) | torch.eye(20).bool()
    torch.testing.assert_close(kept.detach(), expected.double())
    # Straight-through: a loss on what is left out must lower the threshold.
    kept[~expected].sum().backward()
    assert (threshold.grad < 0).all()
    alike = torch.ones(1, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    threshold_mask(alike, threshold).sum().backward()
    assert alike.grad.isfinite().all()


# The module.


def build(layout: SkeletonLayout = KINECT20, width: int = 12, **changed: object) -> REDMT:
    """A module with a seeded draw for every parameter, also those that start at zeros or ones."""
    torch.manual_seed(0)
    module = REDMT(width, STSTConfig((width,), (1,), head_width=4, **changed), layout)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def body(batch: int = 2) -> Tensor:
    return random_logits(batch, 12, 20, 4, seed=0, dtype=torch.float32)


def plain_weights(module: REDMT, pooled: np.ndarray, others: list[np.ndarray], head: int) -> np.ndarray:
    """The weights ``(V, K)`` of a head by their definition, from pooled features ``(D, V)`` of a body and of others."""
    parameters = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    joints, keys = pooled.shape[1], KEY_WIDTH
    each = [parameters["query_key.weight"] @ one for one in (pooled, *others)]
    mapped = [one + parameters["query_key.bias"][:, None] for one in each]
    query = mapped[0][head * keys : (head + 1) * keys]
    key = np.hstack([one[(module.heads + head) * keys : (module.heads + head + 1) * keys] for one in mapped])
    bias, graph = [parameters["distance_bias"][head][KINECT20.hops]], [parameters["graph"][head]]
    for _ in others:
        bias.append(np.full((joints, joints), parameters["others_bias"][head].item()))
        graph.append(parameters["others_graph"][head])
    logits = query.T @ key / math.sqrt(keys) + np.hstack(bias)
    kept = [set(range(logits.shape[1])) for _ in range(joints)]
    if module.mask == "threshold":
        limit = logits.mean(1) + parameters["threshold"][head].item() * logits.std(1, ddof=1)
        kept = [{i, *np.flatnonzero(logits[i] >= limit[i])} for i in range(joints)]
    if module.reranking == "jaccard":
        similarity = np.array(plain_rerank(logits[:, :joints].tolist(), K1, K2))
        logits = BALANCE * logits
        logits[:, :joints] += (1 - BALANCE) * parameters["rerank_scale"][head].item() * similarity
    mix = np.zeros(logits.shape)
    for i in range(joints):
        total = sum(math.exp(logits[i, j]) for j in kept[i])
        for j in kept[i]:
            mix[i, j] = math.exp(logits[i, j]) / total
    return math.tanh(parameters["gate"][head]) * mix + np.hstack(graph)


def plain_forward(module: REDMT, x: Tensor, mask: Tensor, present: Tensor | None = None) -> np.ndarray:
    """RE-DMT by its definition, in numpy loops; ``present (N, M)`` where the bodies of a clip see each other."""
    bodies, width, joints, frames = x.shape
    out, value = np.zeros(x.shape), np.zeros(x.shape)
    parameters = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    data, there = x.double().numpy(), mask.numpy()
    d = width // module.heads
    persons = 1 if present is None else present.shape[1]
    pooled = np.zeros((bodies, width, joints))
    for b, t in itertools.product(range(bodies), range(frames)):
        value[b, :, :, t] = parameters["value.weight"][:, :, 0, 0] @ data[b, :, :, t]
        value[b, :, :, t] += parameters["value.bias"][:, None]
        if there[b, t]:
            pooled[b] += data[b, :, :, t] / there[b].sum()
        elif persons > 1:
            value[b, :, :, t] = 0
    for b, head in itertools.product(range(bodies), range(module.heads)):
        clip = range(b // persons * persons, b // persons * persons + persons)
        others = [n for n in clip if present is not None and n != b and present.flatten()[n]]
        weights = plain_weights(module, pooled[b], [pooled[n] for n in others], head)
        channels = slice(head * d, (head + 1) * d)
        for t in range(frames):
            values = np.hstack([value[n, channels, :, t] for n in (b, *others)])
            out[b, channels, :, t] = values @ weights.T
    return out


@pytest.mark.parametrize(("mask", "reranking"), list(itertools.product(MASKS, RERANKINGS)))
@pytest.mark.parametrize(("mutual", "absent_too"), [(False, True), (True, True), (True, False)])
def test_module_matches_the_definition(mask, reranking, mutual, absent_too):
    module = build(mask=mask, reranking=reranking, mutual=mutual)
    present = torch.tensor([[1, 1], [0, 1], [1, 1]]).bool()
    there = torch.ones(6, 4).bool()
    there[0, 1] = there[4, 2] = False
    there &= present.view(6, 1)
    x, rows = body(batch=6), torch.ones(6).bool() if absent_too else present.flatten()
    expected = plain_forward(module, x, there, present if mutual else None)
    company = company_of(present, absent_too) if mutual else None
    found = module(x[rows], there[rows], company).detach()
    np.testing.assert_allclose(found[present.flatten()[rows]].numpy(), expected[present.flatten()], atol=2e-5)


def test_ranking_keeps_full_precision_under_autocast():
    """In bfloat16 the logits of neighbours tie and their ranks become arbitrary."""
    module = build()
    pooled = body().mean(-1).transpose(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        query_key, logits, mixed = module.query_key(pooled), module.logits(pooled), module.mixing(pooled)
    assert query_key.dtype == torch.bfloat16
    query, key = query_key.float().view(2, 20, 2, 3, KEY_WIDTH).permute(2, 0, 3, 1, 4)
    expected = query @ key.transpose(-1, -2) / math.sqrt(KEY_WIDTH) + module.distance_bias[:, module.hops]
    torch.testing.assert_close(logits, expected)
    weights = torch.tanh(module.gate)[:, None, None] * module.attention(logits) + module.graph
    torch.testing.assert_close(mixed, weights)


def test_gradients_of_the_module(chain):
    """With fixed ranks: the check moves the logits by 1e-6, far less than what would swap two of them."""
    module = build(chain, width=4, mask="none").double()
    there, x = torch.tensor([[True, False]]), random_logits(1, 4, 5, 2, seed=9).requires_grad_()
    names = [name for name, _ in module.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, there))

    assert torch.autograd.gradcheck(call, (x, *module.parameters()), atol=1e-6)
