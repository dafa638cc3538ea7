from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_reranking import expanded, nearest, plain_rerank, reciprocal
from torch import Tensor

from hhmnet.models.re_dmt import (
    expanded_neighbours,
    jaccard_similarity,
    reciprocal_neighbours,
    rerank,
    top_neighbours,
)


def random_logits(*shape: int, seed: int, spread: float = 1.5, dtype: torch.dtype = torch.float64) -> Tensor:
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def as_matrix(sets: list[set[int]]) -> np.ndarray:
    return np.array([[j in members for j in range(len(sets))] for members in sets])


sizes = {"joints": st.integers(5, 25), "k": st.integers(1, 27), "seed": st.integers(0, 10_000)}
repeat = settings(max_examples=50, deadline=None, derandomize=True)


@repeat
@given(**sizes)
def test_top_neighbours_match_the_reference(joints: int, k: int, seed: int) -> None:
    logits = random_logits(joints, joints, seed=seed)
    rows = logits.tolist()
    expected = as_matrix([nearest(rows, i, k) for i in range(joints)])
    np.testing.assert_array_equal(top_neighbours(logits, k).numpy(), expected)
    assert (expected.sum(1) == min(k, joints)).all()


@repeat
@given(**sizes)
def test_reciprocal_sets_match_the_reference(joints: int, k: int, seed: int) -> None:
    logits = random_logits(joints, joints, seed=seed)
    rows = logits.tolist()
    expected = as_matrix([reciprocal(rows, i, k) for i in range(joints)])
    np.testing.assert_array_equal(reciprocal_neighbours(logits, k).numpy(), expected)


@repeat
@given(**sizes)
def test_expanded_sets_match_the_reference(joints: int, k: int, seed: int) -> None:
    # Symmetric logits have many mutual neighbours, plain ones few: both must expand alike.
    for logits in (random_logits(joints, joints, seed=seed), similarities(joints, seed)):
        rows = logits.tolist()
        expected = as_matrix([expanded(rows, i, k) for i in range(joints)])
        np.testing.assert_array_equal(expanded_neighbours(logits, k).numpy(), expected)


def similarities(joints: int, seed: int) -> Tensor:
    """Logits like those of points in a plane: the nearer, the stronger."""
    points = random_logits(joints, 2, seed=seed)
    return -torch.cdist(points, points) + 1e-3 * random_logits(joints, joints, seed=seed + 1)


def test_some_sets_grow_and_some_candidates_fail_the_two_thirds() -> None:
    """Without such cases the tests above would say nothing about equation 3."""
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


@repeat
@given(**sizes, k2=st.integers(1, 6))
def test_reranking_matches_the_reference(joints: int, k: int, seed: int, k2: int) -> None:
    for logits in (random_logits(joints, joints, seed=seed), similarities(joints, seed)):
        single = logits.float()
        expected = np.array(plain_rerank(single.tolist(), k, k2))
        np.testing.assert_allclose(rerank(single, k, k2).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(rerank(single.double(), k, k2).numpy(), expected, atol=1e-12)


def test_reranking_of_a_batch_is_that_of_each_member() -> None:
    logits = random_logits(3, 2, 12, 12, seed=4, dtype=torch.float32)
    together = rerank(logits, 6, 3)
    for b, h in itertools.product(range(3), range(2)):
        torch.testing.assert_close(together[b, h], rerank(logits[b, h], 6, 3))


def test_reranked_similarity_is_symmetric_and_1_on_the_diagonal() -> None:
    similarity = rerank(random_logits(4, 3, 20, 20, seed=1, dtype=torch.float32), 8, 3)
    torch.testing.assert_close(similarity, similarity.transpose(-1, -2))
    torch.testing.assert_close(similarity.diagonal(dim1=-2, dim2=-1), torch.ones(4, 3, 20))
    assert similarity.min() >= -1e-6
    assert similarity.max() <= 1 + 1e-6


@pytest.mark.parametrize("shape", [(7, 7), (3, 9, 9), (2, 3, 20, 20), (0, 2, 5, 5)])
def test_both_ways_to_the_jaccard_similarity_agree(shape: tuple[int, ...]) -> None:
    """Single precision on a CPU takes cdist, all else a broadcast: values and gradients must be the same."""
    logits = random_logits(*shape, seed=2, dtype=torch.float32)
    weight = random_logits(*shape, seed=3, dtype=torch.float32)
    answers, slopes = [], []
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype, copy=True).requires_grad_()
        answer = jaccard_similarity(leaf.softmax(-1))
        (answer * weight).sum().backward()
        assert leaf.grad is not None
        answers.append(answer.detach().double())
        slopes.append(leaf.grad.double())
    torch.testing.assert_close(answers[0], answers[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-5, rtol=1e-4)


def test_half_precision_takes_the_broadcast() -> None:
    """Which cdist can't."""
    weights = random_logits(6, 6, seed=5).softmax(-1)
    found = jaccard_similarity(weights.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), jaccard_similarity(weights), atol=0.02, rtol=0)


def test_jaccard_similarity_is_min_over_max() -> None:
    weights = random_logits(6, 6, seed=5).softmax(-1)
    a, b = weights[:, None], weights[None]
    expected = torch.minimum(a, b).sum(-1) / torch.maximum(a, b).sum(-1)
    torch.testing.assert_close(jaccard_similarity(weights), expected)


def test_gradient_of_the_jaccard_similarity() -> None:
    logits = random_logits(2, 6, 6, seed=6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: jaccard_similarity(x.softmax(-1)), logits)


@pytest.mark.parametrize("k2", [1, 3])
def test_gradient_of_the_reranking(k2: int) -> None:
    """With fixed ranks: the check moves the logits by 1e-6, far less than what would swap two of them."""
    logits = random_logits(2, 8, 8, seed=7).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rerank(x, 4, k2), logits, eps=1e-6)


def test_ranks_carry_no_gradient() -> None:
    """A joint outside every set can be moved as long as no rank changes."""
    logits = random_logits(1, 8, 8, seed=8).requires_grad_()
    rerank(logits, 3, 1).pow(2).sum().backward()
    assert logits.grad is not None
    outside = ~expanded_neighbours(logits.detach(), 3)
    assert outside.any()
    assert (logits.grad[outside] == 0).all()
    assert (logits.grad[~outside] != 0).any()
