"""Where the streams of a homogeneous model put clips, and how far they agree, as figures and as a picture.

A stream's *embedding* is what its classifier sees; its *projection* lies in the space in which the contrastive loss
compares the streams. ``docs/method.md`` says how to read the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hhmnet.data.dataset import ClipDataset, EpochSampler, make_loader
from hhmnet.data.transform import prepare
from hhmnet.evaluation.figures import class_labels, new_figure, save_figure
from hhmnet.models.homogeneous import HomogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.store import Store

MOST_COMPARED = 5000
"""Of more points a silhouette is taken of so many, drawn by lot: it compares every two of them."""
MOST_DRAWN = 1000
"""Of more points in a map so many are drawn, by lot."""
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
    views, layout, found = model.spec.data.views, model.spec.layout, []
    for batch in make_loader(
        ClipDataset(store, rows, model.spec.data.persons), EpochSampler(len(rows), batch_size)
    ):
        clips = batch.clips.to(device or torch.device("cpu"))
        phases = [(view + 0.5) / views for view in range(views)]
        outputs = [model.network(*prepare(clips, layout, model.spec.data, phase=phase)) for phase in phases]
        pairs = [(torch.stack(output.embeddings), torch.stack(output.projections)) for output in outputs]
        found.append([torch.stack(parts).mean(0) for parts in zip(*pairs, strict=True)])
    model.train(training)
    every = [torch.cat(parts, dim=1).cpu().double().numpy() for parts in zip(*found, strict=True)]
    if not all(np.isfinite(values).all() for values in every):
        raise EmbeddingError("the model's embeddings are not finite; it can't be compared")
    embeddings, projections = (dict(zip(model.spec.data.streams, values, strict=True)) for values in every)
    return Embeddings(store.sample_ids[rows], store.labels[rows], store.class_names, embeddings, projections)


def directions(x: np.ndarray) -> np.ndarray:
    """Rows of ``x (N, D)`` at length 1, as the contrastive loss compares them; a row of zeros stays."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def retrieval(
    one: np.ndarray, other: np.ndarray, labels: np.ndarray, at_once: int = 1024
) -> dict[str, float]:
    """Look for every clip of one stream among the clips of another, by cosine similarity.

    Clips that are as near as the clip itself count as nearer, so streams that put all clips in one place find none.
    A clip that is the only one of its class has no other to be found and is left out of ``same_class``.

    Args:
        one: projections ``(N, P)`` that look.
        other: projections ``(N, P)`` of the same clips that are looked at.
        labels: ``(N,)``; two clips at least share one.
        at_once: clips whose similarities are in memory at a time.

    Returns:
        ``same_class``, percent of clips whose nearest *other* clip in the other stream is of their class;
        ``same_clip``, percent whose nearest is the clip itself; ``rank``, its median place among all, from 1.
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
    shares = {"same_class": right[accompanied].mean(), "same_clip": (places == 1).mean()}
    return {name: 100 * float(share) for name, share in shares.items()} | {"rank": float(np.median(places))}


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
    mean = {
        name: float(np.mean([pair[name] for pair in pairs.values()]))
        for name in ("same_class", "same_clip", "rank")
    }
    together = np.concatenate(list(found.projections.values()))
    shuffled = np.random.default_rng(0).permutation(len(labels))
    agreement, by_lot = {}, []
    for one, other in combinations(streams, 2):
        x, y = found.embeddings[one], found.embeddings[other]
        agreement[f"{one}, {other}"] = linear_cka(x, y)
        by_lot.append(linear_cka(x, y[shuffled]))
    count, others = len(labels), np.bincount(labels)[labels] - 1
    return {
        "clips": count,
        "retrieval": pairs | {"mean": mean},
        "agreement": agreement | {"mean": float(np.mean(list(agreement.values())))},
        "silhouette": {name: separation(x, labels) for name, x in found.embeddings.items()},
        "meeting": {
            "by_class": separation(together, np.tile(labels, len(streams))),
            "by_stream": separation(together, np.repeat(np.arange(len(streams)), count)),
        },
        "chance": {
            "same_class": 100 * float((others[others > 0] / (count - 1)).mean()),
            "same_clip": 100 / count,
            "rank": (count + 1) / 2,
            "agreement": float(np.mean(by_lot)),
        },
    }


def flatten(x: np.ndarray) -> np.ndarray:
    """Points ``(N, 2)`` of a t-SNE (van der Maaten and Hinton 2008) of the directions of ``x (N, D)``.

    One thread and a fixed start: the same input gives the same map.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        map_of = TSNE(perplexity=min(30.0, (len(x) - 1) / 3), init="pca", random_state=0)
        return np.asarray(map_of.fit_transform(directions(x)), np.float64)


def draw_embeddings(rows: Mapping[str, tuple[Embeddings, dict[str, Any]]], file: Path) -> None:
    """Draw a row a run: each stream's embeddings, then all streams' projections in one map; colours are classes.

    Args:
        rows: by title, the embeddings and their :func:`figures`, of the same clips.
        file: PNG to write.
    """
    streams = list(dict.fromkeys(name for found, _ in rows.values() for name in found.embeddings))
    markers = {name: MARKERS[place % len(MARKERS)] for place, name in enumerate(streams)}
    figure = new_figure(3.2 * (len(streams) + 1.5), 3.8 * len(rows) + 0.9)
    grid = figure.subplots(
        len(rows), len(streams) + 1, squeeze=False, width_ratios=[1.0] * len(streams) + [1.5]
    )
    for panels, (title, (found, values)) in zip(grid, rows.items(), strict=True):
        for axes in panels:
            axes.set(xticks=[], yticks=[])
        for axes, name in zip(panels, streams, strict=False):
            if name in found.embeddings:
                _scatter(axes, {name: found.embeddings[name]}, found, dict.fromkeys(streams, "o"))
                axes.set_title(f"{name}\nsilhouette {values['silhouette'][name]:.2f}", fontsize=9)
            else:
                axes.set_frame_on(False)  # its label stays
        _scatter(panels[-1], found.projections, found, markers)
        by = "by class {by_class:.2f}, by stream {by_stream:.2f}".format(**values["meeting"])
        panels[-1].set_title(f"projections of all streams\nsilhouette {by}", fontsize=9)
        panels[0].set_ylabel(title, fontsize=11)
    names = next(iter(rows.values()))[0].class_names
    entries = [(name, marker, "#444444") for name, marker in markers.items()]
    if len(names) <= MOST_NAMED:
        entries += [
            (name, "o", colour)
            for name, colour in zip(class_labels(names), _colours(len(names)), strict=True)
        ]
    for name, marker, colour in entries:
        panels[-1].plot([], [], linestyle="", marker=marker, color=colour, label=name, markersize=5)
    handles = panels[-1].get_legend_handles_labels()[0]
    columns = math.ceil(len(handles) / 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
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
