"""Pictures of what a model makes of one clip: crops of its video and what they count, RE-DMT's attention."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hhmnet.confidence import Confidence, softmax
from hhmnet.data.dataset import ClipDataset, to_clips
from hhmnet.data.roi import ClipCrops, RoiConfig, cut_clip
from hhmnet.data.transform import choose_frames, prepare
from hhmnet.data.video_batch import MEAN, STD, prepare_video, stack_crops
from hhmnet.evaluation.figures import SIDE_COLOURS, class_labels, new_figure, save_figure
from hhmnet.models.pretrained import ActionModel
from hhmnet.models.re_dmt import Explanation
from hhmnet.models.stst import STST
from hhmnet.sample import Sample
from hhmnet.skeleton import PARTS, SkeletonLayout
from hhmnet.store import Store

TOP = 3
"""Answers that are drawn of each modality."""
QUERIES = ("head", "right_wrist", "left_wrist", "right_ankle")
"""Joints whose attention is drawn, where the layout has them."""


class GuidanceError(ValueError):
    """A model or a clip of which there is nothing to show."""


class Guidance(NamedTuple):
    """What is shown of a clip, to a model or to nobody yet. P parts, K instants."""

    cells: np.ndarray  # (P, K, S, S, 3) uint8
    cell_mask: np.ndarray  # (P, K) bool, whether a cell shows something
    scenes: np.ndarray  # (K2, W, W, 3) uint8, the persons and their surroundings, where there are any
    frames: np.ndarray  # (K,) number of the recording's frame that each instant shows
    weights: np.ndarray | None = None  # (P, K) from 0 to 2, what each cell counts; None where nothing guides
    answers: Mapping[str, list[tuple[str, float]]] = MappingProxyType({})
    """What is answered by ``skeleton``, ``video`` and both: classes and probabilities, the surest first."""
    class_names: tuple[str, ...] = ()


def crops_of(store: Store, row: int, videos: Path) -> Guidance:
    """What is cut out of the video of clip ``row`` of a store, margins included, without a model.

    Raises GuidanceError where the clip has no video, or it can't be read.
    """
    sample = store.sample(row)
    crops = _crops(sample, store, videos, RoiConfig())
    frames = sample.frame_index[crops.times.round().astype(int)]
    return Guidance(crops.parts.swapaxes(0, 1), crops.part_mask.T, crops.scene[crops.scene_mask], frames)


def _crops(sample: Sample, store: Store, videos: Path, config: RoiConfig) -> ClipCrops:
    if sample.video is None:
        raise GuidanceError(f"sample {sample.sample_id!r} has no video to cut anything out of")
    crops, problem = cut_clip(sample, store.layout, videos / sample.video, config)
    if problem:
        raise GuidanceError(f"{videos / sample.video}: {problem}")
    return crops


@torch.inference_mode()
def guidance_of(model: ActionModel, store: Store, row: int, videos: Path) -> Guidance:
    """What the model sees of clip ``row`` of a store, and what it answers.

    The video's own answer is the guided one, that which takes part in the joint one. Raises GuidanceError where the
    model looks at no video, or the clip has none that can be read.
    """
    spec = model.spec
    if spec.roi is None or spec.video is None:
        raise GuidanceError("the model looks at skeletons alone; --guidance needs one of phase 2")
    sample = store.sample(row)
    crops = stack_crops([_crops(sample, store, videos, spec.roi)])
    clips = ClipDataset(store, np.array([row]), spec.data.persons).__getitems__([0]).clips
    training = model.training
    model.eval()
    both, skeleton = model.answer(clips, crops), model.answer(clips, None)
    model.train(training)
    assert both.times is not None
    shown = prepare_video(crops, choose_frames(clips.lengths, spec.data).positions, None, spec.video)
    parts, instants = shown.cell_mask.shape[1:]
    cells = shown.grid[0].unflatten(2, (instants, -1)).unflatten(1, (parts, -1)).permute(1, 3, 2, 4, 0)
    answers = {}
    given = {"skeleton": skeleton.logits, "video": both.each["video"], "skeleton+video": both.logits}
    for name, logits in given.items():
        shares = softmax(logits[0].numpy(), spec.confidence.get(name, Confidence()).temperature)
        surest = np.argsort(-shares, kind="stable")[:TOP].tolist()
        answers[name] = [(spec.class_names[label], float(shares[label])) for label in surest]
    return Guidance(
        _picture(cells),
        shown.cell_mask[0].numpy(),
        _picture(shown.scene[0].permute(0, 2, 3, 1))[shown.scene_mask[0].numpy()],
        sample.frame_index[both.times[0].numpy().round().astype(int).clip(0, sample.num_frames - 1)],
        None if both.guidance is None else both.guidance[0].numpy(),
        answers,
        spec.class_names,
    )


def _picture(images: Tensor) -> np.ndarray:
    """Normalised images ``(..., 3)`` as uint8 again."""
    return np.asarray(((images * STD + MEAN) * 255).round().clamp(0, 255).byte().numpy())


def draw_guidance(found: Guidance, title: str, label: str | None, file: Path) -> None:
    """Draw the grid, the scene, and the surest answers, if there are any.

    A cell's frame is blue where it counts less than on average over all that could be, orange where more, and its
    weight stands in its corner. Among the answers the clip's own class, ``label``, is orange.
    """
    parts, instants = found.cell_mask.shape
    figure = new_figure(1.15 * instants + 4.6, max(1.25 * parts + 0.6, 5))
    figure.suptitle(title, fontsize=11)
    left, right = figure.subfigures(1, 2, width_ratios=(1.15 * instants, 4.2))
    _draw_cells(left, found)
    scene, answers = right.subplots(2, 1, height_ratios=(1.2, 1))
    if len(found.scenes):
        scene.imshow(np.concatenate(list(found.scenes), 1))
    scene.set_title("persons and surroundings" if len(found.scenes) else "no scene", fontsize=9)
    scene.axis("off")
    answers.set_visible(bool(found.answers))
    _draw_answers(answers, found, label)
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


def attention_of(model: ActionModel, sample: Sample) -> list[Explanation]:
    """Every block's attention in the first person who is there, ``(V, V)``, means over heads.

    ``kept`` is a share. Of a model of several streams it is that of the first one.
    """
    single = model.single(model.spec.data.streams[0]).eval()
    encoder, data = single.network, single.spec.data
    assert isinstance(encoder, STST)
    x, mask = prepare(to_clips([sample.joints], [sample.present], data.persons), single.spec.layout, data)
    return [Explanation(*(part[0].double().mean(0) for part in block)) for block in encoder.explain(x, mask)]


def draw_attention(blocks: list[Explanation], sample: Sample, layout: SkeletonLayout, file: Path) -> None:
    """Draw the attention of some joints in every block on the clip's middle frame.

    A line from the query (star) to a joint is as wide as its attention; it is orange where mask and reranking gave
    the joint more than plain attention would, blue where less. A joint that most heads mask is hollow.
    """
    queries = [layout.index(name) for name in QUERIES if name in layout.joints] or [0]
    figure = new_figure(2.4 * len(queries), 2.6 * len(blocks))
    grid = figure.subplots(len(blocks), len(queries), squeeze=False)
    person = int(sample.present.any(1).argmax())  # the first who is ever there
    seen = np.flatnonzero(sample.present[person])
    body = sample.joints[person, seen[len(seen) // 2], :, :2]
    for (row, column), axes in np.ndenumerate(grid):
        block, query = blocks[row], queries[column]
        axes.set_title(f"block {row + 1}, {layout.joints[query].replace('_', ' ')}", fontsize=8)
        axes.set_aspect("equal")
        axes.axis("off")
        for edge in layout.edges:
            axes.plot(*body[list(edge)].T, color="#dddddd", linewidth=1.2, zorder=1)
        weights = block.weights[query]
        for joint, weight in enumerate(weights):
            colour = SIDE_COLOURS["left" if weight > block.plain[query, joint] else "right"]
            width = 4 * float(weight / weights.max())
            axes.plot(*body[[query, joint]].T, color=colour, linewidth=width, alpha=0.7, zorder=2)
            face = colour if block.kept[query, joint] > 0.5 else "white"
            size, marker = (110, "*") if joint == query else (22, "o")
            axes.scatter(*body[joint], s=size, marker=marker, facecolor=face, edgecolor=colour, zorder=3)
        if layout.dims == 2:
            axes.invert_yaxis()
    save_figure(figure, file)
