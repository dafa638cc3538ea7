"""The body parts and the surroundings of a person, cut out of a video: what the video half of a model looks at.

The parts are those of MMNet's spatio-temporal region of interest: head, hands and feet (Yu et al., MMNet: A Model-Based
Multimodal Network for Human Action Recognition in RGB-D Videos, TPAMI 2023). Here the crops' side follows the person's
size in the picture, so that a hand seen from afar fills as much of its crop as one seen from near.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from hhmnet.data.places import (
    FAR,
    SMALLEST,
    known_joints,
    nearest,
    part_places,
    part_sides,
    person_sizes,
    pictures_of,
    spans,
)
from hhmnet.fields import one_of, within
from hhmnet.sample import Sample
from hhmnet.skeleton import PARTS, SkeletonLayout
from hhmnet.video import Pictures, VideoError, open_video

GREY = 127
"""What is shown where a crop reaches beyond the picture."""

_PERSON_SCALES = ("bones", "box")
_SHOWN = ("all", "background")
_INSIDE = 0.25  # share of a crop that must lie inside the picture to count as seen


@dataclass(frozen=True)
class RoiConfig:
    """Which crops of a clip's video are kept, and how large they are."""

    instants: int = 16
    """Instants of a clip at which the parts are cut out, evenly spaced, L."""
    cell: int = 72
    """Side of a part's crop in pixels, margin included."""
    part_size: float = 0.3
    """Side of what a part's crop shows, without its margin, as a share of the person's size."""
    person_scale: str = "bones"
    """What a person's size is: bones (from head to foot along the bones, whatever the posture) or box (the longer side
    of the person's box)."""
    window: float = 0.5
    """Share of the clip over which the median of the person's size is taken; shorter where persons come near and go."""
    scene: int = 128
    """Side of the crop of persons and surroundings in pixels, margin included."""
    scene_instants: int = 4
    """Instants of a clip at which persons and surroundings are cut out, evenly spaced, L2."""
    scene_size: float = 1.3
    """Side of what that crop shows, without its margin, as a share of the persons' extent."""
    margin: float = 0.125
    """Share by which all crops are cut larger than what they show: room for random shifts in training."""
    show: str = "all"
    """What is shown: all, or background, a control: the whole picture with every known person's box filled grey, and no
    part, so that what is recognised is recognised by the surroundings."""
    grow: float = 0.2
    """Share of its longer side by which a person's box is grown on each side before it is filled; in background."""

    def __post_init__(self) -> None:
        one_of(self, "person_scale", _PERSON_SCALES)
        one_of(self, "show", _SHOWN)
        within(self, 1, 1000, "instants", "scene_instants")
        within(self, 8, 1024, "cell", "scene")
        within(self, 0.01, 10, "part_size", "scene_size")
        within(self, 0, 1, "margin", "window", "grow")


class ClipCrops(NamedTuple):
    """The crops of one clip. L instants of P = 5 parts, L2 instants of the whole persons.

    Attributes:
        parts: ``(L, P, S, S, 3)`` uint8 RGB, in the order of :data:`hhmnet.skeleton.PARTS`; zeros where nothing is.
        part_mask: ``(L, P)`` bool, whether something is there: false where the part is unknown over the whole clip,
            lies outside the picture at that instant, or the video can't be read.
        scene: ``(L2, W, W, 3)`` uint8, all persons who are present, and what is around them.
        scene_mask: ``(L2,)`` bool, false where the video can't be read.
        times: ``(L,)`` float32, the frame of the skeleton that each instant shows, an index into its T frames.
        scene_times: ``(L2,)`` float32, the same for ``scene``.
    """

    parts: np.ndarray
    part_mask: np.ndarray
    scene: np.ndarray
    scene_mask: np.ndarray
    times: np.ndarray
    scene_times: np.ndarray


def empty_crops(config: RoiConfig, frames: int = 1) -> ClipCrops:
    """Crops of a clip of so many frames that shows nothing: zeros, and all masks false."""
    count, size, scenes, side = config.instants, config.cell, config.scene_instants, config.scene
    return ClipCrops(
        np.zeros((count, len(PARTS), size, size, 3), np.uint8),
        np.zeros((count, len(PARTS)), bool),
        np.zeros((scenes, side, side, 3), np.uint8),
        np.zeros(scenes, bool),
        slots(frames, count).astype(np.float32),
        slots(frames, scenes).astype(np.float32),
    )


def slots(frames: int, count: int) -> np.ndarray:
    """Middles of ``count`` equal slots of a clip, ``(count,)`` float64, as indices into its frames."""
    return (np.arange(count) + 0.5) * frames / count - 0.5


def cut_clip(
    sample: Sample, layout: SkeletonLayout, video: Path | Pictures | None, config: RoiConfig
) -> tuple[ClipCrops, str]:
    """Cut the parts of person 0, and all persons with their surroundings, out of a clip's video.

    A part's place is the mean of its joints that are known. Where none is, or the video has no picture of that frame,
    the nearest frame that has both is shown instead, picture and place. A crop is grey where it reaches beyond the
    picture; one of which less than a quarter lies inside isn't shown.

    With ``show: background`` no part is cut out, and the scene is the whole picture without the persons of whom the
    clip knows (bystanders stay). Where it never knows of any, nothing is shown: the person may be anywhere.

    Args:
        sample: the clip; without ``pixels`` no part is shown.
        layout: its skeleton.
        video: its video: a file, or pictures, which aren't closed; None for a clip without.
        config: which crops.

    Returns:
        The crops, empty as far as the video can't be read; and what is wrong with that, "" if nothing is.
    """
    crops = empty_crops(config, sample.num_frames)
    problems: list[str] = []
    if video is not None:
        try:
            with open_video(video) if isinstance(video, Path) else nullcontext(video) as pictures:
                _fill(crops, sample, layout, pictures, config, problems)
        except VideoError as error:
            problems.append(error.reason)
    more = f" ({len(problems)} pictures in all)" if len(problems) > 1 else ""
    return crops, f"{problems[0]}{more}" if problems else ""


def _fill(
    crops: ClipCrops,
    sample: Sample,
    layout: SkeletonLayout,
    video: Pictures,
    config: RoiConfig,
    problems: list[str],
) -> None:
    """Cut the crops out of the pictures; those of a picture that can't be had stay empty, and ``problems`` say so."""
    pictures = pictures_of(sample, len(video))
    if not (pictures >= 0).any():
        return
    plan = _plan(sample, layout, config, crops, pictures >= 0)
    crops.times[:], crops.scene_times[:] = plan.frames, plan.scene_frames
    of_part = np.where(plan.part_frames >= 0, pictures[plan.part_frames], -1)
    of_scene = pictures[plan.scene_frames]
    if config.show == "background":
        of_part[:] = -1
        if np.isnan(plan.persons).all():
            return
    for picture in np.union1d(of_part[of_part >= 0], of_scene):
        try:
            image = video.frame(int(picture))
        except VideoError as error:
            problems.append(f"frame {picture}: {error.reason}")
            continue
        _cut_parts(image, np.argwhere(of_part == picture), plan, crops)
        cut = _cut_backgrounds if config.show == "background" else _cut_scenes
        cut(image, np.flatnonzero(of_scene == picture), plan, crops, config)


class _Plan(NamedTuple):
    """Which frames of the skeleton a clip's crops show, and where they lie in pixels."""

    frames: np.ndarray  # (L,) of each instant
    scene_frames: np.ndarray  # (L2,) of the whole persons
    part_frames: np.ndarray  # (L, P) the nearest in which the part is known; -1 if it never is
    places: np.ndarray  # (L, P, 2) the part's place there
    sides: np.ndarray  # (L, P) side of its crop
    persons: np.ndarray  # (L2, 4) what all persons span
    each: np.ndarray  # (M, L2, 4) what each of them spans


def _plan(
    sample: Sample, layout: SkeletonLayout, config: RoiConfig, crops: ClipCrops, shown: np.ndarray
) -> _Plan:
    """Lay out the crops among the frames that the video shows, ``shown (T,)``."""
    frames, scene_frames = nearest(crops.times, shown), nearest(crops.scene_times, shown)
    known = known_joints(sample)
    places, found = part_places(sample, known, layout)
    sizes = person_sizes(sample, layout, config.person_scale, known)
    part_frames = np.stack([nearest(frames, shown & found[:, part]) for part in range(len(PARTS))], 1)
    share = config.part_size * (1 + config.margin)
    return _Plan(
        *(frames, scene_frames, part_frames, places[part_frames, np.arange(len(PARTS))]),
        part_sides(sizes, part_frames, config.window, share),
        *spans(sample, known, scene_frames),
    )


def _cut_parts(image: np.ndarray, which: np.ndarray, plan: _Plan, crops: ClipCrops) -> None:
    """Fill in the parts that this image shows, given by instant and part, ``(n, 2)``."""
    for instant, part in which:
        side = min(int(plan.sides[instant, part]), max(image.shape[:2]))
        place = np.clip(plan.places[instant, part], -FAR, FAR)
        # (0, 0) is the middle of the upper left pixel.
        left, top = np.floor(place - (side - 1) / 2 + 0.5).astype(int).tolist()
        if _share_inside(image, left, top, side) >= _INSIDE:
            crops.parts[instant, part] = _resized(_cut(image, left, top, side), crops.parts.shape[2])
            crops.part_mask[instant, part] = True


def _share_inside(image: np.ndarray, left: int, top: int, side: int) -> float:
    across = min(left + side, image.shape[1]) - max(left, 0)
    down = min(top + side, image.shape[0]) - max(top, 0)
    return max(across, 0) * max(down, 0) / side**2


def _cut_scenes(
    image: np.ndarray, which: np.ndarray, plan: _Plan, crops: ClipCrops, config: RoiConfig
) -> None:
    """Fill in the whole persons that this image shows: ``which (n,)`` of the instants.

    The square around them is of one side over the clip. It lies inside the picture if it fits, and is never larger than
    the picture's longer side; where nobody is in the picture, it shows all of that.
    """
    height, width = image.shape[:2]
    last = np.array([width, height]) - 1
    boxes = np.clip(plan.persons, 0, np.tile(last, 2))
    spans = boxes[:, 2:] - boxes[:, :2]
    empty = ~(spans > 0).all(1)
    boxes[empty], spans[empty] = (0, 0, *last), 0
    widest = max(width, height) if empty.all() else spans.max()
    side = math.ceil(widest * config.scene_size * (1 + config.margin))
    for number in which:
        length = max(width, height) if empty[number] else max(min(side, max(width, height)), SMALLEST)
        middle = (boxes[number, :2] + boxes[number, 2:]) / 2
        room = last + 1 - length
        corner = np.where(room < 0, room / 2, np.clip(middle - (length - 1) / 2, 0, np.maximum(room, 0)))
        left, top = np.floor(corner + 0.5).astype(int).tolist()
        crops.scene[number] = _resized(_cut(image, left, top, length), crops.scene.shape[1])
        crops.scene_mask[number] = True


def _cut_backgrounds(
    image: np.ndarray, which: np.ndarray, plan: _Plan, crops: ClipCrops, config: RoiConfig
) -> None:
    """Fill in the whole picture, without the persons, at ``which (n,)`` of the instants; the margin lies around it."""
    height, width = image.shape[:2]
    side = math.ceil(max(height, width) * (1 + config.margin))
    left, top = (width - side) // 2, (height - side) // 2
    for number in which:
        empty = image.copy()
        for box in plan.each[:, number]:
            if not np.isnan(box).any():
                _hide(empty, np.clip(box, -FAR, FAR), config.grow)
        crops.scene[number] = _resized(_cut(empty, left, top, side), crops.scene.shape[1])
        crops.scene_mask[number] = True


def _hide(image: np.ndarray, box: np.ndarray, grow: float) -> None:
    """Fill a box, grown on each side, with grey, in place."""
    reach = grow * (box[2:] - box[:2]).max()
    left, top = np.maximum(np.floor(box[:2] - reach), 0).astype(int)
    right, bottom = np.maximum(np.ceil(box[2:] + reach) + 1, 0).astype(int)
    image[top:bottom, left:right] = GREY


def _cut(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """A square ``(side, side, 3)`` of an image, grey where it reaches beyond."""
    height, width = image.shape[:2]
    x, y = slice(max(left, 0), min(left + side, width)), slice(max(top, 0), min(top + side, height))
    if x.stop - x.start == side and y.stop - y.start == side:
        return image[y, x]
    square = np.full((side, side, 3), GREY, np.uint8)
    if x.start < x.stop and y.start < y.stop:
        square[y.start - top : y.stop - top, x.start - left : x.stop - left] = image[y, x]
    return square


def _resized(square: np.ndarray, side: int) -> np.ndarray:
    """A square image of another size, averaged over areas where it shrinks."""
    pixels = torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1)[None]
    pixels = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return pixels[0].permute(1, 2, 0).numpy()
