"""A picture of RE-DMT's attention in one clip: what mask and reranking make of it, block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hhmnet.data.dataset import to_clips
from hhmnet.data.transform import prepare
from hhmnet.evaluation.figures import SIDE_COLOURS, new_figure, save_figure
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.stst import STST
from hhmnet.sample import Sample
from hhmnet.skeleton import SkeletonLayout

QUERIES = ("head", "right_wrist", "left_wrist", "right_ankle")
"""Joints whose attention is drawn, where the layout has them."""


class Attention(NamedTuple):
    """What one block does for the first person of one clip, as means over heads.

    Attributes:
        plain: attention without mask and reranking, ``(V, V)``.
        kept: share of the heads in which a query keeps each joint, ``(V, V)``.
        weights: attention as it is used, ``(V, V)``.
    """

    plain: np.ndarray
    kept: np.ndarray
    weights: np.ndarray


def attention_of(model: ActionModel, sample: Sample) -> list[Attention]:
    """Every block's attention for a clip; of a model of several streams its first stream's."""
    single = model.single(model.spec.data.streams[0]).eval()
    encoder, data = single.network, single.spec.data
    assert isinstance(encoder, STST)
    x, mask = prepare(to_clips([sample.joints], [sample.present], data.persons), single.spec.layout, data)
    first = encoder.config.chunks  # those of the first body come first
    return [
        Attention(*(part[:first].double().mean((0, 1)).numpy() for part in block))
        for block in encoder.explain(x, mask)
    ]


def draw_attention(blocks: list[Attention], sample: Sample, layout: SkeletonLayout, file: Path) -> None:
    """Draw the attention of some joints in every block on the clip's middle frame.

    A line from the query (star) to a joint is as wide as its attention; it is orange where mask and reranking gave
    the joint more than plain attention would, blue where less. A joint that most heads mask is hollow.
    """
    queries = [layout.index(name) for name in QUERIES if name in layout.joints] or [0]
    figure = new_figure(2.4 * len(queries), 2.6 * len(blocks))
    grid = figure.subplots(len(blocks), len(queries), squeeze=False)
    seen = np.flatnonzero(sample.present[0])
    body = sample.joints[0, seen[len(seen) // 2], :, :2]
    for row, block in enumerate(blocks):
        for axes, query in zip(grid[row], queries, strict=True):
            _draw_query(axes, body, block, query, layout)
            axes.set_title(f"block {row + 1}, {layout.joints[query].replace('_', ' ')}", fontsize=8)
    save_figure(figure, file)


def _draw_query(axes: Any, body: np.ndarray, block: Attention, query: int, layout: SkeletonLayout) -> None:
    for child, parent in layout.edges:
        axes.plot(*body[[child, parent]].T, color="#dddddd", linewidth=1.2, zorder=1)
    weights = block.weights[query]
    for joint, weight in enumerate(weights):
        colour = SIDE_COLOURS["left" if weight > block.plain[query, joint] else "right"]
        if joint != query:
            width = 4 * weight / weights.max()
            axes.plot(*body[[query, joint]].T, color=colour, linewidth=width, alpha=0.7, zorder=2)
        face = colour if block.kept[query, joint] > 0.5 else "white"
        size, marker = (110, "*") if joint == query else (22, "o")
        axes.scatter(*body[joint], s=size, marker=marker, facecolor=face, edgecolor=colour, zorder=3)
    axes.set_aspect("equal")
    axes.axis("off")
    if layout.dims == 2:
        axes.invert_yaxis()
