"""Parts that are taken away from a trained model: what is counted, what is replaced, and that all of it comes back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hhmnet.data.transform import DataConfig
from hhmnet.evaluation.knock_out import WHOLE, answers_without, at_random, knock_out, static_share
from hhmnet.evaluation.scores import score, score_streams
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.re_dmt import REDMT
from hhmnet.models.sk_tc import SKTC
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store


def build(stream: str = "joint", **changed: object) -> ActionModel:
    """A model that leans on its parts: with random weights, large in the attention."""
    torch.manual_seed(2)
    fields = {"widths": (16, 16), "strides": (1, 2), "head_width": 8, "reranking": "jaccard"}
    config = STSTConfig(**fields | changed)  # type: ignore[arg-type]
    spec = ModelSpec(config, DataConfig(stream=stream, frames=8), KINECT20, ("kick", "nod", "wave"))
    model = ActionModel(spec.build(), spec).eval()
    for module in attentions(model):
        module.query_key.weight.data *= 20
    return model


def attentions(model: ActionModel) -> list[REDMT]:
    return [module for module in model.modules() if isinstance(module, REDMT)]


def logits_of(model: ActionModel, store: Store) -> np.ndarray:
    return score(model, store, np.arange(len(store)), batch_size=7).logits


def logits_without(model: ActionModel, store: Store, part: str) -> np.ndarray:
    return answers_without(model, store, np.arange(len(store)), batch_size=7)[part]


@pytest.mark.parametrize(
    ("part", "owner", "method", "value"),
    [
        ("dynamic mask", REDMT, "dynamic_mask", lambda self, logits: None),
        ("reranking", REDMT, "similarity", lambda self, logits: 0 * logits),
        (
            "selection of kernels",
            SKTC,
            "weights",
            lambda self, outputs, mask: torch.full((2, *outputs[0].shape[:2]), 0.5),
        ),
    ],
)
def test_a_part_is_replaced_by_what_it_says_and_comes_back(patchy_store, part, owner, method, value):
    model = build()
    whole = logits_of(model, patchy_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, value)
        expected = logits_of(model, patchy_store)
    found = logits_without(model, patchy_store, part)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert abs(found - whole).max() > 1e-4
    np.testing.assert_array_equal(logits_of(model, patchy_store), whole)


def test_static_attention_is_the_mean_of_all_bodies(tiny_store: Store) -> None:
    """In any batches: what the first block says of each clip, then of none."""
    model = build(strides=(1, 1))
    first, second = attentions(model)
    second.gate.data.zero_()  # one block is enough to compare
    plain, seen = first.attention, list[torch.Tensor]()

    def watched(logits: torch.Tensor) -> torch.Tensor:
        seen.append(plain(logits))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first, "attention", watched)
        logits_of(model, tiny_store)
        mean = torch.cat(seen).mean(0)
        patch.setattr(first, "attention", lambda logits: mean.expand_as(logits))
        expected = logits_of(model, tiny_store)
    vars(first).pop("attention", None)
    found = logits_without(model, tiny_store, "attention, against its mean over clips")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_random_mask_keeps_as_much() -> None:
    torch.manual_seed(0)
    mask = torch.rand(5, 2, 20, 20) < 0.4
    mask.diagonal(dim1=-2, dim2=-1).fill_(True)
    found = at_random(3, mask)
    assert torch.equal(found.sum(-1), mask.sum(-1))
    assert found.diagonal(dim1=-2, dim2=-1).all()
    for one in (mask, at_random(4, mask)):
        assert (found == one).float().mean() < 0.7


def test_a_stream_out_is_the_others_together(tiny_store: Store) -> None:
    model = build("joint+bone+joint_motion")
    streams = score_streams(model, tiny_store, np.arange(30))
    found = logits_without(model, tiny_store, "stream bone")
    expected = (streams["joint"].logits + streams["joint_motion"].logits) / 3
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_static_share_is_the_graphs_part_of_the_mixing_weights(tiny_store: Store) -> None:
    model = build(widths=(8,), strides=(1,))
    (module,) = attentions(model)
    module.gate.data.fill_(-0.5)
    module.graph.data = -torch.rand_like(module.graph)
    seen: list[torch.Tensor] = []
    plain = module.attention
    module.attention = lambda logits: seen.append(plain(logits)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    logits_of(model, tiny_store)
    weights = math.tanh(0.5) * torch.cat(seen)
    graph = len(weights) * module.graph.detach().abs().sum()
    assert static_share(model) == pytest.approx((graph / (graph + weights.sum())).item(), rel=1e-5)


def test_clips_lost_and_won_with_their_interval() -> None:
    """Against drawing whole clips, written out."""
    right = np.array([[1, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1, 1]])
    labels = np.array([0, 1, 0, 1, 0, 1, -1])  # the last one is nobody's
    known = np.maximum(labels, 0)
    whole, without = (np.eye(2)[np.where(hits == 1, known, 1 - known)] for hits in right)
    (found,) = knock_out({WHOLE: whole, "a part": without}, labels)
    assert found["part"] == "a part"
    assert (found["lost"], found["won"], found["top1"]) == (2, 1, pytest.approx(50))
    drawn = np.random.default_rng(5).choice((right[0] - right[1])[:6], (20_000, 6)).mean(1)
    wanted = 100 * np.percentile(drawn, [2.5, 97.5])
    assert found["interval"] == pytest.approx(wanted, abs=17)  # one clip's step
