"""Where the streams of a homogeneous model put clips, and how far they agree, as figures and as a picture.

A stream's *embedding* is what its classifier sees; its *projection* lies in the space in which the contrastive loss
compares the streams. ``docs/method.md`` says how to read the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hhmnet.data.dataset import ClipDataset, EpochSampler, make_loader
from hhmnet.data.transform import SkeletonBatch, prepare
from hhmnet.evaluation.figures import class_labels, new_figure, save_figure
from hhmnet.models.homogeneous import HomogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.store import Store

MOST_COMPARED = 5000
"""Of more points a silhouette is taken of so many, drawn by lot: it compares every two of them."""
MOST_DRAWN = 1000
"""Of more points in a map so many are drawn, clips chosen by lot: more would cover each other."""
MOST_NAMED = 20
"""With more classes than that, a picture has no legend of them."""
MARKERS = "osD^vPX*"


class EmbeddingError(ValueError):
    """A model or clips whose embeddings can't be compared."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What every stream of a model makes of some clips.

    Attributes:
        sample_ids: ``(N,)`` text.
        labels: ``(N,)`` int64, from 0 on.
        class_names: the labels' names.
        embeddings: by stream, in the model's order, ``(N, D)`` float64.
        projections: by stream, ``(N, P)`` float64.
    """

    sample_ids: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    embeddings: dict[str, np.ndarray]
    projections: dict[str, np.ndarray]


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
    dataset = ClipDataset(store, rows, model.spec.data.persons)
    loader = make_loader(dataset, EpochSampler(len(rows), batch_size))
    found = [_outputs(model, batch.clips.to(device or torch.device("cpu"))) for batch in loader]
    model.train(training)
    every = [torch.cat(parts, dim=1).cpu().double().numpy() for parts in zip(*found, strict=True)]
    if not all(np.isfinite(values).all() for values in every):
        raise EmbeddingError("the model's embeddings are not finite; it can't be compared")
    embeddings, projections = (dict(zip(model.spec.data.streams, values, strict=True)) for values in every)
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
    """Mean silhouette of ``x (N, D)`` by cosine distance (Rousseeuw 1987): 1 apart, 0 mixed, below 0 misplaced."""
    from sklearn.metrics import silhouette_score  # takes a second

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
    labels, streams = found.labels, list(found.embeddings)
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


class Projection(NamedTuple):
    """A row of the picture.

    Attributes:
        title: what stands beside it.
        found: the run's embeddings.
        figures: their :func:`figures`.
    """

    title: str
    found: Embeddings
    figures: dict[str, Any]


def flatten(x: np.ndarray) -> np.ndarray:
    """Points ``(N, 2)`` of a t-SNE (van der Maaten and Hinton 2008) of the directions of ``x (N, D)``.

    One thread and a fixed start: the same input gives the same map.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(x) - 1) / 3)
    with threadpool_limits(1):
        points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(directions(x))
    return np.asarray(points, np.float64)


def draw_embeddings(rows: Sequence[Projection], file: Path) -> None:
    """Draw a row a run: each stream's embeddings, then all streams' projections in one map; colours are classes.

    Args:
        rows: the runs, of the same clips.
        file: PNG to write.
    """
    streams = list(dict.fromkeys(name for row in rows for name in row.found.embeddings))
    markers = {name: MARKERS[place % len(MARKERS)] for place, name in enumerate(streams)}
    figure = new_figure(3.2 * (len(streams) + 1.5), 3.8 * len(rows) + 0.9)
    shares = [1.0] * len(streams) + [1.5]
    grid = figure.subplots(len(rows), len(shares), squeeze=False, width_ratios=shares)
    for panels, row in zip(grid, rows, strict=True):
        for axes in panels:
            axes.set(xticks=[], yticks=[])
        for axes, name in zip(panels, streams, strict=False):
            if name in row.found.embeddings:
                _scatter(axes, {name: row.found.embeddings[name]}, row.found, dict.fromkeys(streams, "o"))
                axes.set_title(f"{name}\nsilhouette {row.figures['silhouette'][name]:.2f}", fontsize=9)
            else:
                axes.set_frame_on(False)  # its label stays
        _scatter(panels[-1], row.found.projections, row.found, markers)
        meeting = row.figures["meeting"]
        by = f"silhouette by class {meeting['by_class']:.2f}, by stream {meeting['by_stream']:.2f}"
        panels[-1].set_title(f"projections of all streams\n{by}", fontsize=9)
        panels[0].set_ylabel(row.title, fontsize=11)
    _add_legend(figure, rows[0].found.class_names, markers)
    save_figure(figure, file)


def _scatter(axes: Any, parts: dict[str, np.ndarray], found: Embeddings, markers: dict[str, str]) -> None:
    """A t-SNE of some streams' points in one map."""
    drawn = np.random.default_rng(0).permutation(len(found.labels))[: max(MOST_DRAWN // len(parts), 1)]
    points = flatten(np.concatenate([x[drawn] for x in parts.values()]))
    colours = _colours(len(found.class_names))[found.labels[drawn]]
    for name, part in zip(parts, np.split(points, len(parts)), strict=True):
        size = 9 if len(parts) == 1 else 16
        axes.scatter(*part.T, s=size, c=colours, marker=markers[name], alpha=0.7, linewidths=0)


def _colours(count: int) -> np.ndarray:
    """A colour a class, as different as so many can be, ``(classes, 4)``."""
    from matplotlib import colormaps

    if count > MOST_NAMED:
        return np.asarray(colormaps["turbo"](np.linspace(0, 1, count)))
    return np.asarray(colormaps["tab10" if count <= 10 else "tab20"](np.arange(count)))


def _add_legend(figure: Any, class_names: Sequence[str], markers: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    entries = [(name, marker, "#444444") for name, marker in markers.items()]
    if len(class_names) <= MOST_NAMED:
        colours = _colours(len(class_names))
        entries += [
            (name, "o", colour) for name, colour in zip(class_labels(class_names), colours, strict=True)
        ]
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=name, markersize=5)
        for name, marker, colour in entries
    ]
    columns = math.ceil(len(handles) / 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
