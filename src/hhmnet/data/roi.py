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

from hhmnet.data.places import FAR, SMALLEST, nearest, part_squares, person_boxes, pictures_of
from hhmnet.fields import one_of, within
from hhmnet.sample import Sample
from hhmnet.skeleton import PARTS, SkeletonLayout
from hhmnet.video import Pictures, VideoError, open_video

GREY = 127
"""What is shown where a crop reaches beyond the picture."""

_SHOWN = ("all", "scene", "background")
_INSIDE = 0.25  # share of a crop that must lie inside the picture to count as seen


@dataclass(frozen=True)
class RoiConfig:
    """Which crops of a clip's video are kept, and how large they are."""

    instants: int = 16
    """Instants of a clip at which the parts are cut out, evenly spaced, L."""
    cell: int = 72
    """Side of a part's crop in pixels, margin included."""
    part_size: float = 0.3
    """Side of what a part's crop shows, without its margin, as a share of the person's size from head to foot."""
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
    """What is shown: all, or one of two controls without parts. scene: persons and surroundings alone, as one sees them
    whom no skeleton leads to hands and feet. background: the whole picture with every known person's box filled grey,
    so that what is recognised is recognised by the surroundings."""
    grow: float = 0.2
    """Share of its longer side by which a person's box is grown on each side before it is filled; in background."""

    def __post_init__(self) -> None:
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

    With ``show: scene`` and ``background`` no part is cut out. With the second the scene is the whole picture without
    the persons of whom the clip knows (bystanders stay); where it never knows of any, nothing is shown.

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
    shown = pictures >= 0
    if not shown.any():
        return
    frames, scene_frames = nearest(crops.times, shown), nearest(crops.scene_times, shown)
    crops.times[:], crops.scene_times[:] = frames, scene_frames
    share = config.part_size * (1 + config.margin)
    part_frames, places, sides = part_squares(sample, layout, frames, shown, config.window, share)
    everybody, each = person_boxes(sample, scene_frames)
    of_part = np.where(part_frames >= 0, pictures[part_frames], -1)
    of_scene = pictures[scene_frames]
    if config.show != "all":
        of_part[:] = -1
    if config.show == "background" and np.isnan(everybody).all():
        return
    for picture in np.union1d(of_part[of_part >= 0], of_scene):
        try:
            image = video.frame(int(picture))
        except VideoError as error:
            problems.append(f"frame {picture}: {error.reason}")
            continue
        for at in zip(*np.nonzero(of_part == picture), strict=True):
            side = min(int(sides[at]), max(image.shape[:2]))
            # (0, 0) is the middle of the upper left pixel.
            left, top = np.floor(np.clip(places[at], -FAR, FAR) - (side - 1) / 2 + 0.5).astype(int).tolist()
            square, inside = _cut(image, left, top, side)
            if inside >= _INSIDE:
                crops.parts[at], crops.part_mask[at] = _resized(square, config.cell), True
        for number in np.flatnonzero(of_scene == picture).tolist():
            if config.show == "background":
                square = _background(image, each[:, number], config)
            else:
                square = _scene(image, everybody, number, config)
            crops.scene[number], crops.scene_mask[number] = _resized(square, config.scene), True


def _scene(image: np.ndarray, boxes: np.ndarray, number: int, config: RoiConfig) -> np.ndarray:
    """The square around the persons at one of the instants, in which they span ``boxes (L2, 4)``.

    It is of one side over the clip. It lies inside the picture if it fits, and is never larger than the picture's
    longer side; where nobody is in the picture, it shows all of that.
    """
    size = np.array([image.shape[1], image.shape[0]])
    boxes = np.clip(boxes, 0, np.tile(size - 1, 2))
    spans = boxes[:, 2:] - boxes[:, :2]
    there = (spans > 0).all(1)
    side, middle = int(size.max()), (size - 1) / 2
    if there[number]:
        wanted = math.ceil(spans[there].max() * config.scene_size * (1 + config.margin))
        side, middle = max(min(wanted, side), SMALLEST), (boxes[number, :2] + boxes[number, 2:]) / 2
    room = size - side
    corner = np.where(room < 0, room / 2, np.clip(middle - (side - 1) / 2, 0, np.maximum(room, 0)))
    left, top = np.floor(corner + 0.5).astype(int).tolist()
    return _cut(image, left, top, side)[0]


def _background(image: np.ndarray, boxes: np.ndarray, config: RoiConfig) -> np.ndarray:
    """The whole picture with the margin around it, and grey where the persons are: ``boxes (M, 4)``, grown."""
    image, side = image.copy(), math.ceil(max(image.shape[:2]) * (1 + config.margin))
    for box in np.clip(boxes[~np.isnan(boxes).any(1)], -FAR, FAR):
        reach = config.grow * (box[2:] - box[:2]).max()
        left, top = np.maximum(np.floor(box[:2] - reach), 0).astype(int)
        right, bottom = np.maximum(np.ceil(box[2:] + reach) + 1, 0).astype(int)
        image[top:bottom, left:right] = GREY
    return _cut(image, (image.shape[1] - side) // 2, (image.shape[0] - side) // 2, side)[0]


def _cut(image: np.ndarray, left: int, top: int, side: int) -> tuple[np.ndarray, float]:
    """A square ``(side, side, 3)`` of an image, grey where it reaches beyond, and the share of it that is inside."""
    inside = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    square, (rows, columns) = np.full((side, side, 3), GREY, np.uint8), inside.shape[:2]
    y, x = max(-top, 0), max(-left, 0)
    square[y : y + rows, x : x + columns] = inside
    return square, rows * columns / side**2


def _resized(square: np.ndarray, side: int) -> np.ndarray:
    """A square image of another size, averaged over areas where it shrinks."""
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None]
    pixels = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return pixels[0].permute(1, 2, 0).numpy()
