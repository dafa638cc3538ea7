from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from plain_reranking import nearest, plain_rerank
from torch import Tensor, nn

from hhmnet.models import re_dmt
from hhmnet.models.re_dmt import MASKS, REDMT, RERANKINGS, rerank
from hhmnet.skeleton import COCO17, KINECT20, NTU25, SkeletonLayout


def random_logits(*shape: int, seed: int, spread: float = 1.5, dtype: torch.dtype = torch.float64) -> Tensor:
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(layout: SkeletonLayout = KINECT20, *, seed: int = 0, **changed: object) -> REDMT:
    """A module with a seeded draw for every parameter, also those that start at zeros or ones."""
    torch.manual_seed(seed)
    module = REDMT(12, 3, layout, **({"density": 0.4, "key_width": 4} | changed))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def body(layout: SkeletonLayout = KINECT20, batch: int = 2, frames: int = 4, seed: int = 0) -> Tensor:
    return random_logits(batch, 12, layout.num_joints, frames, seed=seed, dtype=torch.float32)


def plain_forward(module: REDMT, x: Tensor, mask: Tensor, layout: SkeletonLayout) -> np.ndarray:
    """RE-DMT by its definition, in numpy loops; topk or no mask, jaccard or no reranking."""
    batch, width, joints, frames = x.shape
    out = np.zeros(x.shape)
    parameters = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    data, there = x.double().numpy(), mask.numpy()
    matrix = parameters["value.weight"][:, :, 0, 0]
    span, d = frames // module.chunks, width // module.heads
    keys = module.key_width
    for b, chunk, head in itertools.product(range(batch), range(module.chunks), range(module.heads)):
        times = range(chunk * span, (chunk + 1) * span)
        seen = [t for t in times if there[b, t]]
        pooled = sum((data[b, :, :, t] for t in seen), np.zeros((width, joints))) / max(len(seen), 1)
        mapped = parameters["query_key.weight"] @ pooled + parameters["query_key.bias"][:, None]
        query = mapped[head * keys : (head + 1) * keys]
        key = mapped[(module.heads + head) * keys : (module.heads + head + 1) * keys]
        logits = query.T @ key / math.sqrt(keys)
        for i, j in itertools.product(range(joints), repeat=2):
            logits[i, j] += parameters["distance_bias"][head, layout.hops[i, j]]
        rows = logits.tolist()
        kept = [nearest(rows, i, module.kept if module.mask == "topk" else joints) for i in range(joints)]
        if module.reranking == "jaccard":
            scale = parameters["rerank_scale"][head].item()
            similarity = np.array(plain_rerank(rows, module.k1, module.k2))
            logits = (1 - module.balance) * scale * similarity + module.balance * logits
        mix = np.zeros((joints, joints))
        for i in range(joints):
            total = sum(math.exp(logits[i, j]) for j in kept[i])
            for j in kept[i]:
                mix[i, j] = math.exp(logits[i, j]) / total
        mix = math.tanh(parameters["gate"][head]) * mix + parameters["graph"][head]
        for t in times:
            value = matrix @ data[b, :, :, t] + parameters["value.bias"][:, None]
            channels = slice(head * d, (head + 1) * d)
            out[b, channels, :, t] = value[channels] @ mix.T
    return out


@pytest.mark.parametrize("mask", ["none", "topk"])
@pytest.mark.parametrize("reranking", ["none", "jaccard"])
@pytest.mark.parametrize("chunks", [1, 2])
def test_module_matches_the_definition(mask: str, reranking: str, chunks: int) -> None:
    module = build(mask=mask, reranking=reranking, chunks=chunks)
    x = body(frames=6)
    there = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 1]]).bool()
    expected = plain_forward(module, x, there, KINECT20)
    np.testing.assert_allclose(module(x, there).detach().numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("reranking", RERANKINGS)
def test_every_variant_runs_and_learns(layout: SkeletonLayout, mask: str, reranking: str) -> None:
    module = build(layout, mask=mask, reranking=reranking, chunks=2)
    x = body(layout).requires_grad_()
    out = module(x)
    assert out.shape == x.shape
    out.square().mean().backward()
    assert x.grad is not None
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(("option", "values"), [("mask", MASKS), ("reranking", RERANKINGS)])
def test_variants_differ(option: str, values: tuple[str, ...]) -> None:
    reference = build().state_dict()
    answers = []
    for value in values:
        module = build(**{option: value})
        module.load_state_dict(reference, strict=False)
        answers.append(module(body()))
    for a, b in itertools.combinations(answers, 2):
        assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("option", [{"chunks": 2}, {"k1": 3}, {"k2": 1}, {"balance": 0.9}, {"density": 1.0}])
def test_numbers_matter(option: dict[str, float]) -> None:
    plain, changed = build(), build(**option)
    changed.load_state_dict(plain.state_dict())
    assert (plain(body()) - changed(body())).abs().max() > 1e-3


@pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
@pytest.mark.parametrize("density", [0.01, 0.3, 0.4, 0.55, 1.0])
@pytest.mark.parametrize("mask", ["topk", "random"])
def test_density_is_the_share_of_joints_kept(layout: SkeletonLayout, density: float, mask: str) -> None:
    module = build(layout, mask=mask, density=density)
    pooled = body(layout).mean(-1).transpose(1, 2)
    kept = module.attention(pooled) > 0
    assert (kept.sum(-1) == math.ceil(density * layout.num_joints)).all()
    assert kept.diagonal(dim1=-2, dim2=-1).all()


@pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
def test_density_is_not_thrown_off_by_rounding(layout: SkeletonLayout) -> None:
    """0.28 * 25 is a little more than 7 in binary."""
    joints = layout.num_joints
    for kept in range(1, joints + 1):
        assert build(layout, density=kept / joints).kept == kept
    if joints == 25:
        assert build(layout, density=0.28).kept == 7


def test_top_k_mask_depends_on_sample_and_head() -> None:
    kept = build().attention(body().mean(-1).transpose(1, 2)) > 0
    assert (kept[0] != kept[1]).any()
    assert (kept[:, 0] != kept[:, 1]).any()


def test_top_k_mask_keeps_the_strongest_plain_logits() -> None:
    module = build(reranking="none")
    pooled = body().mean(-1).transpose(1, 2)
    kept, logits = module.attention(pooled) > 0, module.logits(pooled)
    own = torch.eye(20).bool()
    for b, h, i in itertools.product(range(2), range(3), range(20)):
        others = kept[b, h, i] & ~own[i]
        left_out = ~kept[b, h, i]
        assert logits[b, h, i][others].min() >= logits[b, h, i][left_out].max()


@pytest.mark.parametrize(("mask", "reranking"), list(itertools.product(MASKS, RERANKINGS)))
def test_attention_rows_sum_to_1(mask: str, reranking: str) -> None:
    weights = build(mask=mask, reranking=reranking).attention(body().mean(-1).transpose(1, 2))
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 20))


def test_threshold_keeps_what_is_above_mean_plus_tau_deviations() -> None:
    module = build(mask="threshold", reranking="none")
    pooled = body().mean(-1).transpose(1, 2)
    with torch.no_grad():
        module.threshold.copy_(torch.tensor([-0.5, 0.0, 0.8]).view(3, 1, 1))
        kept, logits = module.attention(pooled) > 1e-7, module.logits(pooled)
    for b, h, i in itertools.product(range(2), range(3), range(20)):
        row = logits[b, h, i]
        limit = row.mean() + module.threshold[h].item() * row.std()
        for j in range(20):
            assert kept[b, h, i, j] == (i == j or bool(row[j] >= limit))


def test_a_lower_threshold_keeps_more() -> None:
    module = build(mask="threshold")
    pooled = body().mean(-1).transpose(1, 2)
    counts = []
    for threshold in (2.0, 0.5, 0.0, -0.5, -2.0, -9.0):
        with torch.no_grad():
            module.threshold.fill_(threshold)
            counts.append(int((module.attention(pooled) > 1e-7).sum()))
    assert counts == sorted(counts)
    assert counts[0] < counts[2] < counts[-1] == 2 * 3 * 20 * 20


def test_threshold_gradient_says_which_way_to_go() -> None:
    """Straight-through: a loss on the weight of what the mask keeps must push the threshold the right way."""
    module = build(mask="threshold", reranking="none")
    pooled = body().mean(-1).transpose(1, 2)
    with torch.no_grad():
        kept = module.attention(pooled) > 1e-7
    module.attention(pooled)[~kept].sum().backward()
    assert module.threshold.grad is not None
    assert (module.threshold.grad < 0).all()  # more weight outside: lower the threshold


@pytest.mark.parametrize("reranking", RERANKINGS)
def test_threshold_survives_joints_that_are_all_alike(reranking: str) -> None:
    module = build(mask="threshold", reranking=reranking)
    with torch.no_grad():
        module.distance_bias.zero_()
    x = torch.zeros(1, 12, 20, 4, requires_grad=True)
    module(x).sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_random_mask_is_fixed_and_saved() -> None:
    module = build(mask="random", seed=0)
    first, second = (module.attention(body(seed=s).mean(-1).transpose(1, 2)) > 0 for s in (0, 1))
    assert (first == second).all()
    assert "random_mask" in module.state_dict()
    other = build(mask="random", seed=1)
    assert (other.random_mask != module.random_mask).any()
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other(body()), module(body()))


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("mask", MASKS)
def test_masked_frames_have_no_influence_on_others(mask: str, chunks: int) -> None:
    module = build(mask=mask, chunks=chunks)
    there = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]]).bool()
    x, y = body(frames=6), body(frames=6)
    y.transpose(1, 3)[~there] += 5.0
    a, b = (module(z, there).transpose(1, 3)[there] for z in (x, y))
    torch.testing.assert_close(a, b)


def test_a_whole_mask_is_no_mask() -> None:
    module = build()
    torch.testing.assert_close(module(body(), torch.ones(2, 4).bool()), module(body()))


def test_memory_layout_does_not_matter() -> None:
    module = build(chunks=2)
    torch.testing.assert_close(module(body().contiguous(memory_format=torch.channels_last)), module(body()))


def test_dropout_only_in_training() -> None:
    module = build(dropout=0.5)
    torch.testing.assert_close(module(body()), module(body()))
    module.train()
    assert (module(body()) - module(body())).abs().max() > 1e-3


def test_ranking_keeps_full_precision_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 the logits of neighbours tie and their ranks become arbitrary."""
    seen: list[Tensor] = []
    plain = re_dmt.rerank

    def spy(logits: Tensor, k1: int, k2: int) -> Tensor:
        seen.append(logits)
        seen.append(plain(logits, k1, k2))
        return seen[-1]

    monkeypatch.setattr(re_dmt, "rerank", spy)
    module = build()
    pooled = body().mean(-1).transpose(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        query_key = module.query_key(pooled)
        assert query_key.dtype == torch.bfloat16
        module.attention(pooled)
    query, key = query_key.float().view(2, 20, 2, 3, 4).permute(2, 0, 3, 1, 4)
    expected = query @ key.transpose(-1, -2) / 2 + module.distance_bias[:, module.hops]
    torch.testing.assert_close(seen[0], expected)
    torch.testing.assert_close(seen[1], rerank(expected, module.k1, module.k2))


@pytest.mark.parametrize(
    ("mask", "reranking", "chunks"),
    [("topk", "jaccard", 1), ("none", "none", 2), ("random", "reciprocal", 1), ("topk", "jaccard", 2)],
)
def test_gradients_of_the_module(chain: SkeletonLayout, mask: str, reranking: str, chunks: int) -> None:
    module = build(chain, mask=mask, reranking=reranking, chunks=chunks, k1=3, k2=2, density=0.6).double()
    there = torch.tensor([[True, True, False, True]])
    x = random_logits(1, 12, 5, 4, seed=9).requires_grad_()
    assert torch.autograd.gradcheck(checked(module, there), (x, *module.parameters()), eps=1e-6, atol=1e-6)


def checked(module: nn.Module, mask: Tensor | None) -> Callable[..., Tensor]:
    """``module`` as a function of its input and its parameters."""
    names = [name for name, _ in module.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, mask))

    return call


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"mask": "soft"}, "mask must be one of none, topk, threshold, random; got 'soft'"),
        ({"reranking": "best"}, "reranking must be one of none, reciprocal, jaccard; got 'best'"),
    ],
)
def test_unknown_variants_are_refused(option: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**option)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="width 10 is not divisible by 3 heads"):
        REDMT(10, 3, KINECT20)
    with pytest.raises(ValueError, match="4 frames can't be cut into 3 chunks"):
        build(chunks=3)(body())
