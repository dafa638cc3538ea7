"""Pictures of embeddings: every stream's clips, and all streams' in one map. They need the extra ``plot``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hhmnet.evaluation.embedding import EmbeddingError, Embeddings, directions, missing
from hhmnet.evaluation.figures import new_figure, save_figure

MOST_DRAWN = 1000
"""Of more points in a map so many are drawn, clips chosen by lot: more would cover each other."""
MOST_NAMED = 20
"""With more classes than that, a picture has no legend of them."""
MARKERS = "osD^vPX*"


class View(NamedTuple):
    """A row of the picture.

    Attributes:
        title: what stands beside it.
        found: the run's embeddings.
        figures: their :func:`~hhmnet.evaluation.embedding.figures`.
    """

    title: str
    found: Embeddings
    figures: dict[str, Any]


def flatten(x: np.ndarray) -> np.ndarray:
    """Points ``(N, 2)`` of a t-SNE (van der Maaten and Hinton 2008) of the directions of ``x (N, D)``.

    One thread and a fixed start: the same input gives the same map.

    Raises:
        EmbeddingError: scikit-learn isn't there.
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise EmbeddingError(missing()) from None
    perplexity = min(30.0, (len(x) - 1) / 3)
    with threadpool_limits(1):
        points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(directions(x))
    return np.asarray(points, np.float64)


def draw_embeddings(views: Sequence[View], file: Path) -> None:
    """Draw a row a run: each stream's embeddings, then all streams' projections in one map; colours are classes.

    Args:
        views: the runs, of the same clips.
        file: PNG to write.

    Raises:
        FigureError, EmbeddingError: matplotlib or scikit-learn isn't there.
    """
    streams = list(dict.fromkeys(name for view in views for name in view.found.streams))
    markers = {name: MARKERS[place % len(MARKERS)] for place, name in enumerate(streams)}
    figure = new_figure(3.2 * (len(streams) + 1.5), 3.8 * len(views) + 0.9)
    shares = [1.0] * len(streams) + [1.5]
    grid = figure.subplots(len(views), len(shares), squeeze=False, width_ratios=shares)
    for row, view in zip(grid, views, strict=True):
        for axes in row:
            axes.set(xticks=[], yticks=[])
        for axes, name in zip(row, streams, strict=False):
            if name in view.found.embeddings:
                _scatter(axes, {name: view.found.embeddings[name]}, view.found, dict.fromkeys(streams, "o"))
                axes.set_title(f"{name}\nsilhouette {view.figures['silhouette'][name]:.2f}", fontsize=9)
            else:
                axes.set_frame_on(False)  # its label stays
        _scatter(row[-1], view.found.projections, view.found, markers)
        meeting = view.figures["meeting"]
        by = f"silhouette by class {meeting['by_class']:.2f}, by stream {meeting['by_stream']:.2f}"
        row[-1].set_title(f"projections of all streams\n{by}", fontsize=9)
        row[0].set_ylabel(view.title, fontsize=11)
    _add_legend(figure, views[0].found.class_names, markers)
    save_figure(figure, file)


def _scatter(axes: Any, parts: dict[str, np.ndarray], found: Embeddings, markers: dict[str, str]) -> None:
    """A t-SNE of some streams' points in one map."""
    drawn = np.random.default_rng(0).permutation(len(found.labels))[: max(MOST_DRAWN // len(parts), 1)]
    points = flatten(np.concatenate([x[drawn] for x in parts.values()]))
    colours = np.array(_colours(len(found.class_names)))[found.labels[drawn]]
    for name, part in zip(parts, np.split(points, len(parts)), strict=True):
        axes.scatter(
            *part.T, s=9 if len(parts) == 1 else 16, c=colours, marker=markers[name], alpha=0.7, linewidths=0
        )


def _colours(count: int) -> list[tuple[float, ...]]:
    """A colour a class, as different as so many can be."""
    from matplotlib import colormaps

    if count <= MOST_NAMED:
        table = colormaps["tab10" if count <= 10 else "tab20"]
        return [table(place) for place in range(count)]
    return [colormaps["turbo"](place / (count - 1)) for place in range(count)]


def _add_legend(figure: Any, class_names: Sequence[str], markers: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    def dot(label: str, marker: str, colour: Any) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, label=label, markersize=5)

    handles = [dot(name, marker, "#444444") for name, marker in markers.items()]
    if len(class_names) <= MOST_NAMED:
        colours = _colours(len(class_names))
        handles += [dot(name, "o", colour) for name, colour in zip(class_names, colours, strict=True)]
    columns = math.ceil(len(handles) / 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
