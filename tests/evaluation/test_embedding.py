"""Figures and pictures of embeddings; the figures against loops written from their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hhmnet.data.dataset import ClipDataset
from hhmnet.data.transform import DataConfig, prepare
from hhmnet.evaluation.embedding import (
    EmbeddingError,
    Embeddings,
    collect,
    figures,
    flatten,
    linear_cka,
    retrieval,
)
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store


def made(count: int = 40, classes: int = 4, streams: tuple[str, ...] = ("joint", "bone")) -> Embeddings:
    """Clips that lie around one place a class, in every stream around others."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    places = {name: rng.normal(size=(classes, 6)) for name in streams}
    parts = ({name: places[name][labels] + rng.normal(0, 0.3, (count, 6)) for name in streams} for _ in "ab")
    ids = np.array([f"clip{i}" for i in range(count)])
    return Embeddings(ids, labels, tuple(f"class {i}" for i in range(classes)), *parts)


def build(store: Store, stream: str = "joint+bone", views: int = 1, persons: int = 2) -> ActionModel:
    torch.manual_seed(0)
    config = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8, dropout=0.5)
    data = DataConfig(stream=stream, frames=8, persons=persons, views=views)
    spec = ModelSpec(config, data, KINECT20, store.class_names)
    return ActionModel(spec.build(), spec)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    length = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
    return sum(v * w for v, w in zip(a, b, strict=True)) / length


def plain_retrieval(one: np.ndarray, other: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    right, places = [], []
    for clip, own in enumerate(one):
        near = {place: cosine(own, row) for place, row in enumerate(other)}
        places.append(1 + sum(near[place] >= near[clip] for place in near if place != clip))
        del near[clip]
        if any(labels[place] == labels[clip] for place in near):
            right.append(labels[max(near, key=lambda place: near[place])] == labels[clip])
    firsts = [place == 1 for place in places]
    return 100 * float(np.mean(right)), 100 * float(np.mean(firsts)), float(np.median(places))


@pytest.mark.parametrize("at_once", [7, 100])
def test_retrieval_is_that_of_loops(at_once: int) -> None:
    rng = np.random.default_rng(1)
    labels = np.array([*rng.integers(0, 5, 29), 9])  # the last clip is alone in its class
    one = rng.normal(size=(30, 6))
    other = one + rng.normal(0, 0.8, (30, 6))
    expected = plain_retrieval(one, other, labels)
    assert 0 < expected[0] < 100
    assert 40 < expected[1] < 100  # so that it shows where a clip is taken for another
    names = ("same_class", "same_clip", "rank")
    assert retrieval(one, other, labels, at_once) == pytest.approx(dict(zip(names, expected, strict=True)))
    heap = np.ones_like(one)  # clips in one place aren't found
    assert list(retrieval(heap, heap, labels, at_once).values())[1:] == [0.0, 30.0]


def plain_cka(one: np.ndarray, other: np.ndarray) -> float:
    """By Gram matrices and the Hilbert-Schmidt independence criterion, entry by entry."""
    count = len(one)
    centring = np.eye(count) - 1 / count

    def gram(x: np.ndarray) -> np.ndarray:
        entries = [[sum(a * b for a, b in zip(i, j, strict=True)) for j in x] for i in x]
        return centring @ np.array(entries) @ centring

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        return sum(k[i, j] * m[j, i] for i in range(count) for j in range(count))

    k, m = gram(one), gram(other)
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def test_cka_is_that_of_gram_matrices_and_sees_neither_turn_nor_scale_nor_place() -> None:
    rng = np.random.default_rng(2)
    one = rng.normal(3, 1, (20, 5))
    other = one @ rng.normal(size=(5, 7)) + rng.normal(0, 2, (20, 7))
    expected = plain_cka(one, other)
    assert 0.1 < expected < 0.9
    assert linear_cka(one, other) == pytest.approx(expected)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert linear_cka(5 * one @ turn + 11, other) == pytest.approx(expected)
    assert linear_cka(one, np.ones((20, 2))) == 0


def test_embeddings_are_each_clips_own_averaged_over_views(patchy_store: Store) -> None:
    model = build(patchy_store, views=2).train()
    rows = np.array([17, 3, 4, 0, 11, 5, 8])
    found = collect(model, patchy_store, rows, batch_size=3)
    assert model.training, "it is left as it was"
    model.eval()
    assert found.sample_ids.tolist() == [f"clip{i:03d}" for i in rows]
    assert found.labels.tolist() == patchy_store.labels[rows].tolist()
    assert list(found.embeddings) == ["joint", "bone"]
    for place, row in enumerate(rows):
        clips = ClipDataset(patchy_store, np.array([row]), 2)[0].clips
        with torch.no_grad():
            outputs = [
                model.network(*prepare(clips, KINECT20, model.spec.data, phase=phase))
                for phase in (0.25, 0.75)
            ]
        for number, name in enumerate(found.embeddings):
            for kind in ("embeddings", "projections"):
                expected = sum(getattr(output, kind)[number][0].numpy() for output in outputs) / 2
                np.testing.assert_allclose(getattr(found, kind)[name][place], expected, atol=1e-5)


def test_what_cannot_be_compared_is_named(tiny_store: Store) -> None:
    model = build(tiny_store)
    few = [*np.flatnonzero(tiny_store.labels == 0)[:5], np.flatnonzero(tiny_store.labels == 1)[0]]
    with pytest.raises(EmbeddingError, match="6 labelled clips in 2 classes"):
        collect(model, tiny_store, np.array(few))
    with torch.no_grad():
        next(model.network.parameters()).fill_(math.nan)
    with pytest.raises(EmbeddingError, match="not finite"):
        collect(model, tiny_store, np.arange(12))


def test_figures_tell_streams_that_meet_from_streams_that_do_not() -> None:
    apart = made(streams=("joint", "bone", "bone_motion"))
    shared = apart.projections["joint"]
    rng = np.random.default_rng(5)
    meeting = {name: shared + rng.normal(0, 0.05, shared.shape) for name in apart.embeddings}
    before = figures(apart)
    after = figures(Embeddings(apart.sample_ids, apart.labels, apart.class_names, apart.embeddings, meeting))
    pairs = [f"{a} -> {b}" for a in apart.embeddings for b in apart.embeddings if a != b]
    assert list(before["retrieval"]) == [*pairs, "mean"]
    assert list(before["agreement"]) == ["joint, bone", "joint, bone_motion", "bone, bone_motion", "mean"]
    for pair in pairs:  # the first looks, the second is looked at
        looks, looked_at = (apart.projections[name] for name in pair.split(" -> "))
        assert before["retrieval"][pair] == retrieval(looks, looked_at, apart.labels)
    assert after["retrieval"]["mean"]["same_class"] > 95 > before["retrieval"]["mean"]["same_class"]
    assert after["retrieval"]["mean"]["rank"] < 3 < before["retrieval"]["mean"]["rank"]
    assert after["meeting"]["by_class"] > before["meeting"]["by_class"]
    assert after["meeting"]["by_stream"] < 0.01 < before["meeting"]["by_stream"]
    assert after["agreement"] == before["agreement"]
    assert before["chance"]["agreement"] < 0.2 < before["agreement"]["mean"]
    labels = apart.labels.tolist()  # by lot an answer is any other clip
    same = [labels[i] == labels[j] for i in range(len(labels)) for j in range(len(labels)) if i != j]
    assert before["chance"]["same_class"] == pytest.approx(100 * np.mean(same))
    assert (before["chance"]["same_clip"], before["chance"]["rank"]) == (2.5, 20.5)


def test_a_map_keeps_neighbours_and_comes_out_the_same() -> None:
    found = made(40, 3)
    points = flatten(found.embeddings["joint"])
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.diag(np.full(40, np.inf))
    assert (found.labels[apart.argmin(1)] == found.labels).mean() > 0.9
    np.random.seed(3)  # noqa: NPY002
    np.testing.assert_array_equal(flatten(found.embeddings["joint"]), points)
