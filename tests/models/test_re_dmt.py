"""RE-DMT and its reranking, against their definitions written out in loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_reranking import expanded, nearest, plain_rerank, reciprocal
from torch import Tensor

from hhmnet.models import re_dmt
from hhmnet.models.layers import MASKS, RERANKINGS, STSTConfig
from hhmnet.models.re_dmt import (
    BALANCE,
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


# The steps.


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(5, 25), st.integers(1, 27), st.integers(1, 6), st.integers(0, 10_000), st.booleans())
def test_every_step_matches_the_reference(joints: int, k: int, k2: int, seed: int, mutual: bool) -> None:
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


def test_some_sets_grow_and_some_candidates_fail_the_two_thirds() -> None:
    """Without such cases the test above would say nothing about equation 3."""
    grown = kept_out = 0
    for seed in range(20):
        rows = similarities(20, seed).tolist()
        for i in range(20):
            own = reciprocal(rows, i, 8)
            grown += expanded(rows, i, 8) > own
            for q in own:
                half = reciprocal(rows, q, 4)
                kept_out += not half <= own and 3 * len(own & half) < 2 * len(half)
    assert grown > 20
    assert kept_out > 20


def test_both_ways_to_the_jaccard_similarity_have_the_same_slopes() -> None:
    logits, weight = (random_logits(2, 3, 20, 20, seed=seed) for seed in (2, 3))
    slopes = []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        (jaccard_similarity(leaf.softmax(-1)) * weight).sum().backward()
        assert leaf.grad is not None
        slopes.append(leaf.grad.double())
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-5, rtol=1e-4)
    half = jaccard_similarity(logits.softmax(-1).bfloat16())  # which cdist can't
    torch.testing.assert_close(half.double(), jaccard_similarity(logits.softmax(-1)), atol=0.02, rtol=0)


@pytest.mark.parametrize("k2", [1, 3])
def test_gradient_of_the_reranking(k2: int) -> None:
    """With fixed ranks: the check moves the logits by 1e-6, far less than what would swap two of them."""
    logits = random_logits(6, 6, seed=7).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rerank(x, 3, k2), logits, eps=1e-6)


def test_a_threshold_keeps_what_is_above_mean_plus_tau_deviations_and_learns_which_way_to_go() -> None:
    logits = random_logits(2, 3, 20, 20, seed=4)
    threshold = torch.tensor([-0.5, 0.0, 0.8], dtype=torch.float64).view(3, 1, 1).requires_grad_()
    kept = threshold_mask(logits, threshold)
    limit = logits.mean(-1, keepdim=True) + threshold * logits.std(-1, keepdim=True)
    expected = (logits >= limit) | torch.eye(20).bool()
    torch.testing.assert_close(kept.detach(), expected.double())
    # Straight-through: a loss on what is left out must lower the threshold.
    kept[~expected].sum().backward()
    assert threshold.grad is not None
    assert (threshold.grad < 0).all()
    alike = torch.ones(1, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    threshold_mask(alike, threshold).sum().backward()
    assert alike.grad is not None
    assert alike.grad.isfinite().all()


# The module.


def build(layout: SkeletonLayout = KINECT20, *, seed: int = 0, **changed: object) -> REDMT:
    """A module with a seeded draw for every parameter, also those that start at zeros or ones."""
    torch.manual_seed(seed)
    width = changed.pop("width", 12)
    config = STSTConfig((width,), (1,), head_width=4, **changed)  # type: ignore[arg-type]
    module = REDMT(width, config, layout)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def body(layout: SkeletonLayout = KINECT20, batch: int = 2, frames: int = 4, seed: int = 0) -> Tensor:
    return random_logits(batch, 12, layout.num_joints, frames, seed=seed, dtype=torch.float32)


def plain_weights(
    module: REDMT, pooled: np.ndarray, others: list[np.ndarray], head: int, layout: SkeletonLayout
) -> np.ndarray:
    """The weights ``(V, K)`` of a head by their definition, from pooled features ``(D, V)`` of a body and of others."""
    parameters = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    joints, keys = pooled.shape[1], KEY_WIDTH
    each = [parameters["query_key.weight"] @ one for one in (pooled, *others)]
    mapped = [one + parameters["query_key.bias"][:, None] for one in each]
    query = mapped[0][head * keys : (head + 1) * keys]
    key = np.hstack([one[(module.heads + head) * keys : (module.heads + head + 1) * keys] for one in mapped])
    bias, graph = [parameters["distance_bias"][head][layout.hops]], [parameters["graph"][head]]
    for _ in others:
        bias.append(np.full((joints, joints), parameters["others_bias"][head].item()))
        graph.append(parameters["others_graph"][head])
    logits = query.T @ key / math.sqrt(keys) + np.hstack(bias)
    kept = [set(range(logits.shape[1])) for _ in range(joints)]
    if module.mask == "threshold":
        limit = logits.mean(1) + parameters["threshold"][head].item() * logits.std(1, ddof=1)
        kept = [{i, *np.flatnonzero(logits[i] >= limit[i])} for i in range(joints)]
    if module.reranking == "jaccard":
        similarity = np.array(plain_rerank(logits[:, :joints].tolist(), module.k1, module.k2))
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
    span, d = frames // module.chunks, width // module.heads
    persons = 1 if present is None else present.shape[1]
    pooled = np.zeros((bodies, module.chunks, width, joints))
    for b, t in itertools.product(range(bodies), range(frames)):
        value[b, :, :, t] = parameters["value.weight"][:, :, 0, 0] @ data[b, :, :, t]
        value[b, :, :, t] += parameters["value.bias"][:, None]
        if there[b, t]:
            pooled[b, t // span] += data[b, :, :, t] / there[b, t // span * span :][:span].sum()
        elif persons > 1:
            value[b, :, :, t] = 0
    for b, chunk, head in itertools.product(range(bodies), range(module.chunks), range(module.heads)):
        clip = range(b // persons * persons, b // persons * persons + persons)
        others = [n for n in clip if present is not None and n != b and present.flatten()[n]]
        weights = plain_weights(module, pooled[b, chunk], [pooled[n, chunk] for n in others], head, KINECT20)
        channels = slice(head * d, (head + 1) * d)
        for t in range(chunk * span, (chunk + 1) * span):
            values = np.hstack([value[n, channels, :, t] for n in (b, *others)])
            out[b, channels, :, t] = values @ weights.T
    return out


EVERY = pytest.mark.parametrize(("mask", "reranking"), list(itertools.product(MASKS, RERANKINGS)))


@EVERY
@pytest.mark.parametrize("chunks", [1, 2])
def test_module_matches_the_definition(mask: str, reranking: str, chunks: int) -> None:
    module = build(mask=mask, reranking=reranking, chunks=chunks)
    there = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1]]).bool()
    expected = plain_forward(module, body(frames=6), there)
    np.testing.assert_allclose(module(body(frames=6), there).detach().numpy(), expected, atol=2e-5)


@EVERY
@pytest.mark.parametrize("absent_too", [True, False])
def test_persons_of_a_clip_see_each_other(mask: str, reranking: str, absent_too: bool) -> None:
    module = build(mask=mask, reranking=reranking, chunks=2, mutual=True)
    present = torch.tensor([[1, 1], [0, 1], [1, 1]]).bool()
    there = torch.ones(6, 4).bool()
    there[0, 1] = there[4, 2] = False
    there &= present.view(6, 1)
    x = body(batch=6)
    expected = plain_forward(module, x, there, present)[present.flatten()]
    rows = torch.ones(6).bool() if absent_too else present.flatten()
    found = module(x[rows], there[rows], company_of(present, absent_too)).detach()
    found = found[present.flatten()] if absent_too else found
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


@EVERY
def test_every_variant_learns_and_its_rows_sum_to_1(mask: str, reranking: str) -> None:
    module = build(mask=mask, reranking=reranking, chunks=2)
    module(body()).square().mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    weights = module.attention(random_logits(2, 3, 20, 20, seed=1, dtype=torch.float32))
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 20))


def test_ranking_keeps_full_precision_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 the logits of neighbours tie and their ranks become arbitrary."""
    seen: list[Tensor] = []
    plain = re_dmt.rerank

    def spy(logits: Tensor, k1: int, k2: int) -> Tensor:
        seen.extend((logits, plain(logits, k1, k2)))
        return seen[-1]

    monkeypatch.setattr(re_dmt, "rerank", spy)
    module = build()
    pooled = body().mean(-1).transpose(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        query_key = module.query_key(pooled)
        assert query_key.dtype == torch.bfloat16
        module.mixing(pooled[:, None])
    query, key = query_key.float().view(2, 20, 2, 3, KEY_WIDTH).permute(2, 0, 3, 1, 4)
    expected = query @ key.transpose(-1, -2) / math.sqrt(KEY_WIDTH) + module.distance_bias[:, module.hops]  # type: ignore[index]
    torch.testing.assert_close(seen[0], expected)
    torch.testing.assert_close(seen[1], rerank(expected, module.k1, module.k2))


def test_gradients_of_the_module(chain: SkeletonLayout) -> None:
    module = build(chain, chunks=2, k1=3, k2=2, width=4, mask="none").double()
    there, x = torch.tensor([[True, False]]), random_logits(1, 4, 5, 2, seed=9).requires_grad_()
    names = [name for name, _ in module.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, there))

    assert torch.autograd.gradcheck(call, (x, *module.parameters()), eps=1e-6, atol=1e-6)


def test_frames_that_chunks_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="4 frames can't be cut into 3 chunks"):
        build(chunks=3)(body())
