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
    return np.asarray(frames[np.abs(frames[None, :] - wanted[:, None]).argmin(1)])


def pictures_of(sample: Sample, count: int) -> np.ndarray:
    """The frame that shows each frame of the skeleton in a video of ``count``, ``(T,)`` int64; -1 where it has none.

    What the sample says of its video holds: a frame that should be there, and isn't, can't be had.
    """
    if sample.video_frames is not None:
        return sample.video_frames.astype(np.int64)
    return np.where(sample.frame_index < count, sample.frame_index, -1).astype(np.int64)


def known_joints(sample: Sample) -> np.ndarray:
    """Which joints' pixels are known, ``(M, T, V)`` bool; those of a joint that isn't are zero."""
    if sample.pixels is None:
        return np.zeros(sample.joints.shape[:3], bool)
    known = sample.pixels.any(-1) & sample.present[..., None]
    return known if sample.confidence is None else known & (sample.confidence > 0)


def part_places(sample: Sample, known: np.ndarray, layout: SkeletonLayout) -> tuple[np.ndarray, np.ndarray]:
    """Place of each part of person 0 in every frame, ``(T, P, 2)`` pixels, and where it is known, ``(T, P)``.

    It is the mean of the part's joints that are known, but for those of the head on which the rest of the body hangs
    (the neck, say): they would pull the crop down to the chest.
    """
    places = np.zeros((sample.num_frames, len(PARTS), 2))
    found = np.zeros((sample.num_frames, len(PARTS)), bool)
    if sample.pixels is None:
        return places, found
    for part, name in enumerate(PARTS):
        joints = _head(layout) if name == "head" else list(layout.parts[name])
        weight = known[0][:, joints, None].astype(np.float64)
        count = weight.sum(1)
        found[:, part] = count[:, 0] > 0
        places[:, part] = (sample.pixels[0][:, joints] * weight).sum(1) / np.maximum(count, 1)
    return places, found


def _head(layout: SkeletonLayout) -> list[int]:
    """The head's joints that hang on others of them; all of them if there are none such."""
    joints = set(layout.parts["head"])
    feet = layout.parts["left_foot"] + layout.parts["right_foot"]
    hanging = [
        joint for joint in sorted(joints) if any(joints & set(_way(layout, joint, foot)[1:]) for foot in feet)
    ]
    return hanging or sorted(joints)


def person_sizes(
    sample: Sample, layout: SkeletonLayout, scale: str = "bones", known: np.ndarray | None = None
) -> np.ndarray:
    """Size of person 0 in every frame, ``(T,)`` float64 pixels; NaN where nothing is known of it.

    With ``"bones"`` it is the way from the head to a foot along the bones, the longer of the two sides, which changes
    less with the posture than the body's extent does. Bones that aren't known count as long as the others on average.
    """
    known = known_joints(sample) if known is None else known
    nowhere = np.zeros((sample.num_frames, layout.num_joints, 2))
    pixels = nowhere if sample.pixels is None else sample.pixels[0]
    sizes = np.full(sample.num_frames, np.nan)
    if scale == "bones":
        for way in _ways(layout):
            sizes = np.fmax(sizes, _length(pixels[:, way].astype(np.float64), known[0][:, way]))
    if sample.boxes is not None:
        left, top, right, bottom = sample.boxes[0].astype(np.float64).T
        boxes = np.where(sample.present[0], np.maximum(right - left, bottom - top), 0)
        sizes = np.where(np.isnan(sizes) & (boxes > 0), boxes, sizes)
    low, high = _span(pixels, known[0])  # where there are no bones, the joints' extent
    spans = (high - low).max(-1)
    return np.where(np.isnan(sizes) & (spans > 0), spans, sizes)


def part_sides(sizes: np.ndarray, frames: np.ndarray, window: float, share: float) -> np.ndarray:
    """Side of the parts' crops at ``frames (L, P)``, in whole pixels, ``(L, P)`` int64.

    It is ``share`` of the median of ``sizes (T,)`` (:func:`person_sizes`) over ``window``, a share of the clip.
    """
    sizes = np.zeros_like(sizes) if np.isnan(sizes).all() else sizes
    times, reach = np.arange(len(sizes)), window * len(sizes) / 2
    sides = np.zeros(frames.shape, np.int64)
    for frame in np.unique(frames):
        near = sizes[np.abs(times - frame) <= reach]
        size = min(np.nanmedian(sizes if np.isnan(near).all() else near), FAR)
        sides[frames == frame] = max(round(size * share), SMALLEST)
    return sides


def _ways(layout: SkeletonLayout) -> list[list[int]]:
    """The joints from the head to each foot along the bones, from whichever of the head's joints that is farthest."""
    ways = []
    for foot in ("left_foot", "right_foot"):
        ends = [(int(layout.hops[a, b]), a, b) for a in layout.parts["head"] for b in layout.parts[foot]]
        if ends:
            _, start, end = max(ends)
            ways.append(_way(layout, start, end))
    return ways


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


def spans(sample: Sample, known: np.ndarray, scenes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What joints and boxes span at the frames ``scenes (L2,)``: of all persons ``(L2, 4)``, of each ``(M, L2, 4)``.

    Left, top, right, bottom. Where nobody, or that person, is there, it is what they span in the nearest frame in which
    they are; NaN if they never are.
    """
    pixels = np.zeros((*known.shape, 2)) if sample.pixels is None else sample.pixels
    low, high = _span(pixels, known)
    if sample.boxes is not None:
        real = sample.present & (sample.boxes[..., :2] < sample.boxes[..., 2:]).all(-1)
        low = np.where(real[..., None], np.minimum(low, sample.boxes[..., :2]), low)
        high = np.where(real[..., None], np.maximum(high, sample.boxes[..., 2:]), high)
    each = [_boxes_at(*corners, scenes) for corners in zip(low, high, strict=True)]
    return _boxes_at(low.min(0), high.max(0), scenes), np.stack(each)


def _boxes_at(low: np.ndarray, high: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """Boxes ``(L2, 4)`` in the known frames nearest to ``scenes`` of one's corners ``(T, 2)``; NaN if none is known."""
    frames = nearest(scenes, np.asarray((low <= high).all(-1)))
    if frames[0] < 0:
        return np.full((len(scenes), 4), np.nan)
    return np.concatenate([low[frames], high[frames]], 1)
