"""Where the streams of a homogeneous model put clips, and how far they agree. It needs the extra ``plot``.

A stream's *embedding* is what its classifier sees; its *projection* lies in the space in which the contrastive loss
compares the streams. ``docs/method.md`` says how to read the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hhmnet.data.dataset import ClipDataset, EpochSampler, make_loader
from hhmnet.data.transform import SkeletonBatch, prepare
from hhmnet.models.homogeneous import HomogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.store import Store

MOST_COMPARED = 5000
"""Of more points a silhouette is taken of so many, drawn by lot: it compares every two of them."""


class EmbeddingError(ValueError):
    """A model or clips whose embeddings can't be compared."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What every stream of a model makes of some clips.

    Attributes:
        sample_ids: ``(N,)`` text.
        labels: ``(N,)`` int64, from 0 on.
        class_names: the labels' names.
        embeddings: by stream, ``(N, D)`` float64.
        projections: by stream, ``(N, P)`` float64.
    """

    sample_ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    embeddings: dict[str, np.ndarray]
    projections: dict[str, np.ndarray]

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams, in the model's order."""
        return tuple(self.embeddings)


class Retrieval(NamedTuple):
    """How well one stream finds clips of another.

    Attributes:
        same_class: percent of clips whose nearest *other* clip in the other stream is of their class.
        same_clip: percent of clips whose nearest clip in the other stream is the clip itself.
        rank: median place of the clip itself among all clips of the other stream, from 1.
    """

    same_class: float
    same_clip: float
    rank: float


@torch.inference_mode()
def collect(
    model: ActionModel,
    store: Store,
    indices: np.ndarray,
    batch_size: int = 64,
    device: torch.device | None = None,
) -> Embeddings:
    """Embeddings and projections of the labelled ones among the clips at ``indices``, averaged over temporal views.

    Raises:
        EmbeddingError: the model has one stream, the clips are too few, or a value isn't finite.
    """
    if not isinstance(model.network, HomogeneousNetwork):
        raise EmbeddingError(
            f"the model has one stream ({model.spec.data.stream}); embeddings are compared among several"
        )
    rows = indices[store.labels[indices] >= 0]
    counts = np.bincount(store.labels[rows], minlength=1)
    if (counts > 1).sum() < 2:
        raise EmbeddingError(
            f"{store.path}: {len(rows)} labelled clips in {(counts > 0).sum()} classes; "
            "comparing takes two classes of two clips or more"
        )
    training = model.training
    model.eval()
    loader = make_loader(
        ClipDataset(store, rows, model.spec.data.persons), EpochSampler(len(rows), batch_size)
    )
    found = [_outputs(model, batch.clips.to(device or torch.device("cpu"))) for batch in loader]
    model.train(training)
    every = [torch.cat(parts, dim=1).cpu().double().numpy() for parts in zip(*found, strict=True)]
    if not all(np.isfinite(values).all() for values in every):
        raise EmbeddingError("the model's embeddings are not finite; it can't be compared")
    streams = model.spec.data.streams
    embeddings, projections = (dict(zip(streams, values, strict=True)) for values in every)
    return Embeddings(store.sample_ids[rows], store.labels[rows], store.class_names, embeddings, projections)


def _outputs(model: ActionModel, clips: SkeletonBatch) -> tuple[Tensor, Tensor]:
    """Embeddings ``(S, N, D)`` and projections ``(S, N, P)``, means over the model's temporal views."""
    views, outputs = model.spec.data.views, []
    for view in range(views):
        x, mask = prepare(clips, model.spec.layout, model.spec.data, phase=(view + 0.5) / views)
        outputs.append(model.network(x, mask))
    return (
        torch.stack([torch.stack(output.embeddings) for output in outputs]).mean(0),
        torch.stack([torch.stack(output.projections) for output in outputs]).mean(0),
    )


def directions(x: np.ndarray) -> np.ndarray:
    """Rows of ``x (N, D)`` at length 1, as the contrastive loss compares them; a row of zeros stays."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def retrieval(one: np.ndarray, other: np.ndarray, labels: np.ndarray, at_once: int = 1024) -> Retrieval:
    """Look for every clip of one stream among the clips of another, by cosine similarity.

    Clips that are as near as the clip itself count as nearer, so streams that put all clips in one place find none.
    A clip that is the only one of its class has no other to be found and is left out of ``same_class``.

    Args:
        one: projections ``(N, P)`` that look.
        other: projections ``(N, P)`` of the same clips that are looked at.
        labels: ``(N,)``; two clips at least share one.
        at_once: clips whose similarities are in memory at a time.
    """
    one, other = directions(one), directions(other)
    places, right = np.empty(len(one)), np.empty(len(one), bool)
    for start in range(0, len(one), at_once):
        here = slice(start, start + at_once)
        similarity = one[here] @ other.T
        itself = np.arange(len(similarity)), np.arange(start, start + len(similarity))
        places[here] = (similarity >= similarity[itself][:, None]).sum(1)
        similarity[itself] = -np.inf
        right[here] = labels[similarity.argmax(1)] == labels[here]
    accompanied = np.bincount(labels)[labels] > 1
    return Retrieval(
        100 * float(right[accompanied].mean()), 100 * float((places == 1).mean()), float(np.median(places))
    )


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Linear centred kernel alignment (Kornblith et al., ICML 2019, section 3): 0 to 1.

    1 where the clips lie alike in both, but for rotation and one scale. With few clips for the channels unrelated
    embeddings are above 0 too; see ``chance`` of :func:`figures`.

    Args:
        one: ``(N, D)``.
        other: ``(N, E)`` of the same clips.

    Returns:
        0 where one of the two puts all clips in one place.
    """
    one, other = one - one.mean(0), other - other.mean(0)
    size = float(np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other))
    return float(np.linalg.norm(one.T @ other) ** 2) / size if size else 0.0


def separation(x: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of ``x (N, D)`` by cosine distance (Rousseeuw 1987): 1 apart, 0 mixed, below 0 misplaced.

    Raises:
        EmbeddingError: scikit-learn isn't there.
    """
    try:
        from sklearn.metrics import silhouette_score
    except ImportError:
        raise EmbeddingError(missing()) from None
    some = MOST_COMPARED if len(x) > MOST_COMPARED else None
    return float(silhouette_score(x, labels, metric="cosine", sample_size=some, random_state=0))


def figures(found: Embeddings) -> dict[str, Any]:
    """Whether the streams share semantics, in plain containers for JSON.

    Returns:
        ``retrieval`` between the projections of every ordered pair of streams (``"joint -> bone"``) and their
        ``mean``; ``agreement``, the linear CKA of every pair's embeddings, with ``mean``; ``silhouette`` by class of
        every stream's embeddings; ``meeting``, the silhouette of all streams' projections together, by class and by
        stream; and ``chance``: what retrieval gives by lot, and CKA between clips in shuffled order.
    """
    labels, streams = found.labels, found.streams
    pairs = {
        f"{one} -> {other}": retrieval(found.projections[one], found.projections[other], labels)
        for one, other in permutations(streams, 2)
    }
    together = np.concatenate(list(found.projections.values()))
    shuffled = np.random.default_rng(0).permutation(len(labels))
    agreement, by_lot = {}, []
    for one, other in combinations(streams, 2):
        x, y = found.embeddings[one], found.embeddings[other]
        agreement[f"{one}, {other}"] = linear_cka(x, y)
        by_lot.append(linear_cka(x, y[shuffled]))
    return {
        "clips": len(labels),
        "retrieval": {name: pair._asdict() for name, pair in pairs.items()}
        | {"mean": Retrieval(*np.mean(list(pairs.values()), axis=0).tolist())._asdict()},
        "agreement": agreement | {"mean": float(np.mean(list(agreement.values())))},
        "silhouette": {name: separation(x, labels) for name, x in found.embeddings.items()},
        "meeting": {
            "by_class": separation(together, np.tile(labels, len(streams))),
            "by_stream": separation(together, np.repeat(np.arange(len(streams)), len(labels))),
        },
        "chance": {**_by_lot(labels)._asdict(), "agreement": float(np.mean(by_lot))},
    }


def _by_lot(labels: np.ndarray) -> Retrieval:
    """What retrieval gives on average where similarity says nothing."""
    others = np.bincount(labels)[labels] - 1
    count = len(labels)
    return Retrieval(100 * float((others[others > 0] / (count - 1)).mean()), 100 / count, (count + 1) / 2)


def missing() -> str:
    """What to say where scikit-learn isn't there."""
    return "comparing embeddings needs scikit-learn; install it with: pip install 'hhmnet[plot]'"
