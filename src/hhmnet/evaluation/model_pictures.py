"""Pictures of what a model does with one clip: RE-DMT's attention, and the crops that a model of phase 2 weighs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hhmnet.data.dataset import ClipDataset, to_clips
from hhmnet.data.roi import ClipCrops, crop_clip
from hhmnet.data.transform import choose_frames, prepare
from hhmnet.data.video_batch import MEAN, STD, prepare_video, stack_crops
from hhmnet.drawing import draw_box, save_png, sheet
from hhmnet.evaluation.figures import SIDE_COLOURS, class_labels, new_figure, save_figure
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.stst import STST
from hhmnet.sample import Sample
from hhmnet.skeleton import PARTS, SkeletonLayout
from hhmnet.store import Store
from hhmnet.video import open_video

QUERIES = ("head", "right_wrist", "left_wrist", "right_ankle")
"""Joints whose attention is drawn, where the layout has them."""
TOP = 3
"""Answers that are drawn of each modality."""


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


def draw_crops(crops: ClipCrops, margin: float, file: Path) -> None:
    """Draw crops as they are cut: parts as rows, instants as columns, and below them the whole persons.

    Args:
        crops: of a clip.
        margin: that they were cut with; a white frame shows where it begins.
        file: PNG to write.
    """
    parts = crops.parts.swapaxes(0, 1).reshape(-1, *crops.parts.shape[2:])
    pages = [_framed(parts, len(crops.times), margin), _framed(crops.scene, len(crops.scene), margin)]
    width = max(page.shape[1] for page in pages)
    room = [((0, 8), (0, width - page.shape[1]), (0, 0)) for page in pages]
    page = np.concatenate([np.pad(*page, constant_values=255) for page in zip(pages, room, strict=True)])
    save_png(page, file)


def _framed(images: np.ndarray, columns: int, margin: float) -> np.ndarray:
    """Square crops ``(n, S, S, 3)`` as one picture, with a line where each one's margin begins."""
    side = images.shape[1]
    low = side * margin / (1 + margin) / 2
    box = (low, low, side - 1 - low, side - 1 - low)
    return sheet([draw_box(image, box, (255, 255, 255), 1) for image in images], columns, gap=2)


class GuidanceError(ValueError):
    """A model or a clip of which there is nothing to show."""


class Guidance(NamedTuple):
    """What a model sees of a clip. P parts, K instants.

    Attributes:
        cells: ``(P, K, S, S, 3)`` uint8, the grid as the network gets it.
        cell_mask: ``(P, K)`` bool, whether a cell shows something.
        weights: ``(P, K)`` from 0 to 2, what the skeleton makes each cell count; None where it guides nothing.
        scenes: ``(K2, W, W, 3)`` uint8, the persons and their surroundings.
        scene_mask: ``(K2,)`` bool.
        frames: ``(K,)`` number of the recording's frame that each instant shows.
        answers: what is answered by ``skeleton``, ``video`` and ``both``: classes and probabilities, the surest first.
        class_names: the model's.
    """

    cells: np.ndarray
    cell_mask: np.ndarray
    weights: np.ndarray | None
    scenes: np.ndarray
    scene_mask: np.ndarray
    frames: np.ndarray
    answers: dict[str, list[tuple[str, float]]]
    class_names: tuple[str, ...]


@torch.inference_mode()
def guidance_of(model: ActionModel, store: Store, row: int, videos: Path) -> Guidance:
    """What the model sees of clip ``row`` of a store, and what it answers.

    The video's own answer is the guided one, that which takes part in the joint one.

    Raises:
        GuidanceError: the model looks at no video, or the clip has none.
        VideoError: the video can't be read.
    """
    spec, network = model.spec, model.network
    if not isinstance(network, HeterogeneousNetwork) or spec.roi is None or spec.video is None:
        raise GuidanceError("the model looks at skeletons alone; give one of phase 2")
    sample = store.sample(row)
    if sample.video is None:
        raise GuidanceError(f"sample {sample.sample_id!r} has no video")
    with open_video(videos / sample.video) as video:
        crops = stack_crops([crop_clip(sample, store.layout, video, spec.roi)])
    clips = ClipDataset(store, np.array([row]), spec.data.persons)[0].clips
    training = model.training
    model.eval()
    sampled = choose_frames(clips.lengths, spec.data)
    shown = prepare_video(crops, sampled.positions, None, spec.video)
    weights = network(*prepare(clips, spec.layout, spec.data, sampled=sampled), shown).guidance
    both, skeleton = model.answer(clips, crops), model.answer(clips, None)
    model.train(training)
    parts, instants = shown.cell_mask.shape[1:]
    side = spec.video.cell
    cells = shown.grid[0].view(3, parts, side, instants, side).permute(1, 3, 2, 4, 0)
    nearest = np.interp(shown.times[0].numpy(), np.arange(spec.data.frames), sampled.positions[0].numpy())
    logits = {"skeleton": skeleton.logits, "video": both.each["video"], "both": both.logits}
    return Guidance(
        _picture(cells),
        shown.cell_mask[0].numpy(),
        None if weights is None else weights[0].numpy(),
        _picture(shown.scene[0].permute(0, 2, 3, 1)),
        shown.scene_mask[0].numpy(),
        sample.frame_index[nearest.round().astype(int).clip(0, sample.num_frames - 1)],
        {name: _surest(values[0], spec.class_names) for name, values in logits.items()},
        spec.class_names,
    )


def _surest(logits: Tensor, class_names: tuple[str, ...]) -> list[tuple[str, float]]:
    top = logits.softmax(0).topk(min(TOP, len(class_names)))
    names = [class_names[label] for label in top.indices.tolist()]
    return list(zip(names, top.values.tolist(), strict=True))


def _picture(images: Tensor) -> np.ndarray:
    """Normalised images ``(..., 3)`` as uint8 again."""
    return np.asarray(((images * STD + MEAN) * 255).round().clamp(0, 255).byte().numpy())


def draw_guidance(found: Guidance, title: str, label: str | None, file: Path) -> None:
    """Draw the grid, the scene, and the surest answers.

    A cell's frame is blue where it counts less than on average over all that could be, orange where more, and its
    weight stands in its corner. Among the answers the clip's own class is orange.

    Args:
        found: from :func:`guidance_of`.
        title: what stands above.
        label: the clip's class, if it is known.
        file: PNG to write.
    """
    parts, instants = found.cell_mask.shape
    figure = new_figure(1.15 * instants + 4.6, max(1.25 * parts + 0.6, 5))
    figure.suptitle(title, fontsize=11)
    left, right = figure.subfigures(1, 2, width_ratios=(1.15 * instants, 4.2))
    _draw_cells(left, found)
    axes = right.subplots(2, 1, height_ratios=(1.2, 1))
    _draw_scene(axes[0], found)
    _draw_answers(axes[1], found, label)
    save_figure(figure, file)


def _draw_cells(figure: Any, found: Guidance) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("", [SIDE_COLOURS["right"], "#cccccc", SIDE_COLOURS["left"]])
    grid = figure.subplots(*found.cell_mask.shape, squeeze=False)
    for (part, instant), axes in np.ndenumerate(grid):
        axes.set(xticks=[], yticks=[])
        if instant == 0:
            axes.set_ylabel(PARTS[part].replace("_", " "), fontsize=9)
        if part == 0:
            axes.set_title(f"frame {found.frames[instant]}", fontsize=8)
        if not found.cell_mask[part, instant]:
            axes.text(0.5, 0.5, "nothing", ha="center", va="center", fontsize=8, color="#888888")
            continue
        axes.imshow(found.cells[part, instant])
        if found.weights is None:
            continue
        weight = float(found.weights[part, instant])
        for spine in axes.spines.values():
            spine.set(color=colours(weight / 2), linewidth=4)
        box = {"facecolor": colours(weight / 2), "edgecolor": "none", "pad": 1.5}
        at = {"transform": axes.transAxes, "ha": "left", "va": "top"}
        axes.text(0.03, 0.97, f"{weight:.1f}", fontsize=7, bbox=box, **at)


def _draw_scene(axes: Any, found: Guidance) -> None:
    axes.axis("off")
    shown = found.scenes[found.scene_mask]
    if len(shown):
        axes.imshow(np.concatenate(list(shown), 1))
    axes.set_title("persons and surroundings" if len(shown) else "no scene", fontsize=9)


def _draw_answers(axes: Any, found: Guidance, label: str | None) -> None:
    """Bars of the surest answers of each, one group below the other."""
    ticks, shown = [], dict(zip(found.class_names, class_labels(found.class_names), strict=True))
    for group, answers in enumerate(found.answers.values()):
        for place, (answer, probability) in enumerate(answers):
            y = group * (TOP + 1) + place
            colour = SIDE_COLOURS["left"] if answer == label else "#9bb7cc"
            axes.barh(y, 100 * probability, color=colour, height=0.85)
            axes.text(2, y, f"{shown[answer]}  {100 * probability:.0f} %", va="center", fontsize=8)
        ticks.append(group * (TOP + 1) + (len(answers) - 1) / 2)
    axes.set(xlim=(0, 100), xticks=[])
    axes.set_yticks(ticks, list(found.answers), fontsize=9)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
