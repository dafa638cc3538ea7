"""Pictures of RE-DMT's attention on a skeleton: which joints survive the mask, which the reranking brings back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hhmnet.data.transform import SkeletonBatch, prepare
from hhmnet.evaluation.figures import new_figure, save_figure
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.re_dmt import Explanation
from hhmnet.models.stst import STST
from hhmnet.sample import Sample
from hhmnet.skeleton import SkeletonLayout

QUERIES = ("head", "right_wrist", "left_wrist", "right_ankle")
"""Joints whose attention is drawn, where the layout has them."""


class Attention(NamedTuple):
    """What one block does for the first person of one clip, as means over heads.

    Attributes:
        kept: share of the heads in which a query keeps each joint, ``(V, V)``.
        plain: attention without mask and reranking, ``(V, V)``.
        weights: attention as it is used, ``(V, V)``.
    """

    kept: np.ndarray
    plain: np.ndarray
    weights: np.ndarray


def attention_of(model: ActionModel, sample: Sample) -> list[Attention]:
    """Every block's attention for a clip; of a model of several streams its first stream's."""
    single = model.single(model.spec.data.streams[0]).eval()
    encoder = single.network
    assert isinstance(encoder, STST)
    persons = single.spec.data.persons
    joints = np.zeros((sample.num_frames, persons, *sample.joints.shape[2:]), np.float32)
    present = np.zeros((sample.num_frames, persons), bool)
    there = min(persons, sample.num_persons)
    joints[:, :there] = sample.joints[:there].swapaxes(0, 1)
    present[:, :there] = sample.present[:there].T
    clips = SkeletonBatch(
        torch.from_numpy(joints), torch.from_numpy(present), torch.tensor([sample.num_frames])
    )
    x, mask = prepare(clips, single.spec.layout, single.spec.data)
    return [_of_first(explanation, encoder.config.chunks) for explanation in encoder.explain(x, mask)]


def _of_first(found: Explanation, chunks: int) -> Attention:
    """Means over heads, and over the chunks of the first body."""
    return Attention(
        *(part[:chunks].double().mean((0, 1)).numpy() for part in (found.kept, found.plain, found.weights))
    )


def draw_attention(blocks: list[Attention], sample: Sample, layout: SkeletonLayout, file: Path) -> None:
    """Draw the attention of some joints in every block on the clip's middle frame.

    A line from the query (star) to a joint is as wide as its attention; it is orange where mask and reranking gave
    the joint more than plain attention would, blue where less. A joint that most heads mask is hollow.

    Raises:
        FigureError: matplotlib isn't there.
    """
    queries = [layout.index(name) for name in QUERIES if name in layout.joints] or [0]
    figure = new_figure(2.4 * len(queries), 2.6 * len(blocks))
    grid = figure.subplots(len(blocks), len(queries), squeeze=False)
    seen = np.flatnonzero(sample.present[0])
    body = sample.joints[0, seen[len(seen) // 2], :, :2]
    for row, block in enumerate(blocks):
        for column, query in enumerate(queries):
            axes = grid[row, column]
            _draw_query(axes, body, block, query, layout)
            axes.set_title(f"block {row + 1}, {layout.joints[query].replace('_', ' ')}", fontsize=8)
    save_figure(figure, file)


def _draw_query(axes: Any, body: np.ndarray, block: Attention, query: int, layout: SkeletonLayout) -> None:
    for child, parent in layout.edges:
        axes.plot(*body[[child, parent]].T, color="#dddddd", linewidth=1.2, zorder=1)
    strongest = block.weights[query].max()
    for joint, weight in enumerate(block.weights[query]):
        more = weight > block.plain[query, joint]
        colour = "#d95f02" if more else "#1b6ca8"
        if joint != query:
            width = 4 * weight / strongest
            axes.plot(*body[[query, joint]].T, color=colour, linewidth=width, alpha=0.7, zorder=2)
        face = colour if block.kept[query, joint] > 0.5 else "white"
        marker = "*" if joint == query else "o"
        size = 110 if joint == query else 22
        axes.scatter(*body[joint], s=size, marker=marker, facecolor=face, edgecolor=colour, zorder=3)
    axes.set_aspect("equal")
    axes.axis("off")
    if layout.dims == 2:
        axes.invert_yaxis()
