"""Where persons and their parts are in a video's pictures, and how large: what a clip's crops are laid around."""

from __future__ import annotations

import numpy as np

from hhmnet.sample import Sample
from hhmnet.skeleton import PARTS, SkeletonLayout

SMALLEST = 8  # pixels that a crop's side has at least
FAR = 1e6  # pixels; a joint farther off is nowhere near the picture, and whole numbers have an end


def nearest(wanted: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """The frame nearest to each of ``wanted (L,)`` among the ``usable (T,)`` ones, the earlier of two; -1 if none."""
    frames = np.flatnonzero(usable)
    if not len(frames):
        return np.full(len(wanted), -1)
    place = np.searchsorted(frames, wanted)
    before, after = frames[(place - 1).clip(0)], frames[place.clip(max=len(frames) - 1)]
    return np.where(wanted - before <= abs(after - wanted), before, after)


def pictures_of(sample: Sample, count: int) -> np.ndarray:
    """The frame that shows each frame of the skeleton in a video of ``count``, ``(T,)`` int64; -1 where it has none.

    What the sample says of its video holds: a frame that should be there, and isn't, can't be had.
    """
    if sample.video_frames is not None:
        return sample.video_frames.astype(np.int64)
    return np.where(sample.frame_index < count, sample.frame_index, -1).astype(np.int64)


def part_squares(
    sample: Sample, layout: SkeletonLayout, frames: np.ndarray, shown: np.ndarray, window: float, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squares around the parts of person 0 at ``frames (L,)``, of those T that are ``shown (T,)``.

    A part lies in the middle of its joints that are known. For the head, those on which the rest of the body hangs (the
    neck, say) don't count: they would pull the square down to the chest. Its side is ``share`` of the median of the
    person's size (:func:`person_sizes`) over ``window``, a share of the clip.

    Returns:
        The frame nearest to each in which the part is known, ``(L, P)``, -1 if there is none; its middle there,
        ``(L, P, 2)`` pixels; and the side there in whole pixels, ``(L, P)``.
    """
    known, pixels = _known_joints(sample)
    part_frames = np.full((len(frames), len(PARTS)), -1)
    places = np.zeros((*part_frames.shape, 2))
    for part, name in enumerate(PARTS):
        joints = _head(layout) if name == "head" else list(layout.parts[name])
        weight = known[0][:, joints, None].astype(np.float64)
        count = weight.sum(1)
        part_frames[:, part] = nearest(frames, shown & (count[:, 0] > 0))
        middles = (pixels[0][:, joints] * weight).sum(1) / np.maximum(count, 1)
        places[:, part] = middles[part_frames[:, part]]
    sizes = person_sizes(sample, layout)
    sizes = np.zeros_like(sizes) if np.isnan(sizes).all() else sizes
    sides, times = np.zeros_like(part_frames), np.arange(len(sizes))
    for frame in np.unique(part_frames):
        near = sizes[np.abs(times - frame) <= window * len(sizes) / 2]
        size = min(np.nanmedian(sizes if np.isnan(near).all() else near), FAR)
        sides[part_frames == frame] = max(round(size * share), SMALLEST)
    return part_frames, places, sides


def person_sizes(sample: Sample, layout: SkeletonLayout) -> np.ndarray:
    """Size of person 0 in every frame, ``(T,)`` float64 pixels; NaN where nothing is known of it.

    It is the way from the head to a foot along the bones, the longer of the two sides, which changes less with the
    posture than the body's extent does. Bones that aren't known count as long as the others on average. Without any it
    is the longer side of the person's box, or of what the joints span.
    """
    known, pixels = (array[0] for array in _known_joints(sample))
    sizes = np.full(sample.num_frames, np.nan)
    for foot in ("left_foot", "right_foot"):
        ends = [(int(layout.hops[a, b]), a, b) for a in layout.parts["head"] for b in layout.parts[foot]]
        if ends:
            way = _way(layout, *max(ends)[1:])
            sizes = np.fmax(sizes, _length(pixels[:, way].astype(np.float64), known[:, way]))
    if sample.boxes is not None:
        left, top, right, bottom = sample.boxes[0].astype(np.float64).T
        boxes = np.where(sample.present[0], np.maximum(right - left, bottom - top), 0)
        sizes = np.where(np.isnan(sizes) & (boxes > 0), boxes, sizes)
    low, high = _span(pixels, known)
    spans = (high - low).max(-1)
    return np.where(np.isnan(sizes) & (spans > 0), spans, sizes)


def person_boxes(sample: Sample, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What joints and boxes span at ``frames (L,)``: of all persons together ``(L, 4)``, of each ``(M, L, 4)``.

    Left, top, right, bottom. Where nobody, or that person, is there, it is what they span in the nearest frame in which
    they are; NaN if they never are.
    """
    known, pixels = _known_joints(sample)
    low, high = _span(pixels, known)
    if sample.boxes is not None:
        real = sample.present & (sample.boxes[..., :2] < sample.boxes[..., 2:]).all(-1)
        low = np.where(real[..., None], np.minimum(low, sample.boxes[..., :2]), low)
        high = np.where(real[..., None], np.maximum(high, sample.boxes[..., 2:]), high)
    each = [_boxes_at(*corners, frames) for corners in zip(low, high, strict=True)]
    return _boxes_at(low.min(0), high.max(0), frames), np.stack(each)


def _known_joints(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Which joints' pixels are known, ``(M, T, V)`` bool, and the pixels ``(M, T, V, 2)``; others may be anything."""
    if sample.pixels is None:
        shape = sample.joints.shape[:3]
        return np.zeros(shape, bool), np.zeros((*shape, 2))
    known = sample.pixels.any(-1) & sample.present[..., None]
    return known if sample.confidence is None else known & (sample.confidence > 0), sample.pixels


def _head(layout: SkeletonLayout) -> list[int]:
    """The head's joints that hang on others of them; all of them if there are none such."""
    joints = set(layout.parts["head"])
    feet = layout.parts["left_foot"] + layout.parts["right_foot"]
    hanging = [
        joint for joint in sorted(joints) if any(joints & set(_way(layout, joint, foot)[1:]) for foot in feet)
    ]
    return hanging or sorted(joints)


def _way(layout: SkeletonLayout, start: int, end: int) -> list[int]:
    """The joints from one to another along the bones."""
    between = np.flatnonzero(layout.hops[start] + layout.hops[end] == layout.hops[start, end])
    return sorted(between.tolist(), key=lambda joint: int(layout.hops[start, joint]))


def _length(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Length of a way through ``pixels (T, W, 2)``, ``(T,)``; NaN where no bone is known or all are of length zero."""
    bones = np.linalg.norm(np.diff(pixels, axis=1), axis=-1)
    whole = known[:, 1:] & known[:, :-1]
    length = (bones * whole).sum(1)
    share = whole.mean(1) if whole.shape[1] else np.zeros(len(pixels))
    return np.where(length > 0, length / np.where(length > 0, share, 1), np.nan)


def _span(pixels: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest x and y over known joints, ``(..., 2)`` each; infinite where there is none."""
    low = np.where(known[..., None], pixels, np.inf).min(-2)
    high = np.where(known[..., None], pixels, -np.inf).max(-2)
    return low, high


def _boxes_at(low: np.ndarray, high: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Boxes ``(L, 4)`` in the known frames nearest to ``frames`` of one's corners ``(T, 2)``; NaN if none is known."""
    known = nearest(frames, np.asarray((low <= high).all(-1)))
    if known[0] < 0:
        return np.full((len(frames), 4), np.nan)
    return np.concatenate([low[known], high[known]], 1)
