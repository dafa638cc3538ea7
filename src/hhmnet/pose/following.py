"""Joints of the persons who were chosen, frame by frame; what is not seen is masked, short gaps filled, both marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hhmnet.pose.base import PoseEstimator, iou
from hhmnet.pose.tracking import Track

AHEAD, BEHIND = 30, 30
"""A person is looked for so many frames before the first detection, and after the last."""
SAME = 0.7
"""Boxes of two tracks with this intersection over union show one person."""

_LOST = 0.5
_SEEN = 0.3
_APART = 0.1
_BORDER = 0.1


class Follower:
    """Joints of some tracks, frame by frame.

    In every frame a person is looked for where the frame before leads; where the detector saw the person too, and
    somewhere else, the detector is right.

    Args:
        estimator: finds the joints.
        tracks: the persons.
        num_frames: frames of the video.

    Attributes:
        pixels: ``(M, T, V, 2)`` float32.
        confidence: ``(M, T, V)`` float32.
        world: ``(M, T, V, 3)`` float32; zero from an estimator of two dimensions.
        boxes: ``(M, T, 4)`` float32, around the joints inside the picture, with a border.
        present: ``(M, T)`` bool.
        has_world: whether the estimator gives metres.
    """

    def __init__(self, estimator: PoseEstimator, tracks: Sequence[Track], num_frames: int) -> None:
        self._estimator = estimator
        shape = (len(tracks), num_frames, estimator.layout.num_joints)
        self.pixels = np.zeros((*shape, 2), np.float32)
        self.confidence = np.zeros(shape, np.float32)
        self.world = np.zeros((*shape, 3), np.float32)
        self.boxes = np.zeros((*shape[:2], 4), np.float32)
        self.present = np.zeros(shape[:2], bool)
        self.has_world = False
        self._tracks = tracks
        self._wanted = np.zeros(shape[:2], bool)
        self._detected = np.zeros(shape[:2], bool)
        self._paths = np.zeros((*shape[:2], 4))
        for row, track in enumerate(tracks):
            frames = np.asarray(track.frames)
            frames = frames[frames < num_frames]
            self._detected[row, frames] = True
            self._wanted[row, max(frames[0] - AHEAD, 0) : frames[-1] + BEHIND + 1] = True
            self._paths[row] = track.boxes_at(np.arange(num_frames))
        self._regions = np.full((len(tracks), 4), np.nan)

    def estimate(self, frame: int, image: np.ndarray) -> None:
        """Find all persons in one frame; frames come in order."""
        for row in np.flatnonzero(self._wanted[:, frame]):
            self._find(int(row), frame, image)
        self._separate(frame, image)

    def _find(self, row: int, frame: int, image: np.ndarray) -> None:
        led = not np.isnan(self._regions[row]).any()
        self._estimate(row, frame, image, self._regions[row])
        if led and not self._is_right(row, frame):
            self._estimate(row, frame, image, np.full(4, np.nan))
        if not self._is_right(row, frame):
            self._drop(row, frame)

    def _estimate(self, row: int, frame: int, image: np.ndarray, region: np.ndarray) -> None:
        """Estimate, and enter what came of it."""
        poses = self._estimator.estimate(image, self._paths[row, frame][None], region[None])
        self.pixels[row, frame] = poses.pixels[0]
        self.confidence[row, frame] = poses.confidence[0]
        if poses.world is not None:
            self.world[row, frame] = poses.world[0]
            self.has_world = True
        self.boxes[row, frame] = body_box(
            poses.pixels[0], poses.confidence[0], image.shape[1], image.shape[0]
        )
        self.present[row, frame] = poses.found[0] >= _LOST and self.boxes[row, frame].any()
        self._regions[row] = poses.regions[0]
        if not self.present[row, frame]:
            self._drop(row, frame)

    def _is_right(self, row: int, frame: int) -> bool:
        """Whether somebody was found, and where the detector saw the person, if it did."""
        if not self.present[row, frame] or not self._detected[row, frame]:
            return bool(self.present[row, frame])
        return bool(iou(self.boxes[row, frame][None], self._paths[row, frame][None])[0, 0] >= _APART)

    def _separate(self, frame: int, image: np.ndarray) -> None:
        """Of two tracks that ended up on one person, the one whose way leads elsewhere is wrong."""
        rows = np.flatnonzero(self.present[:, frame])
        for place, first in enumerate(rows):
            for second in rows[place + 1 :]:
                found = self.boxes[[first, second], frame]
                paths = self._paths[[first, second], frame]
                if iou(found[:1], found[1:])[0, 0] < SAME or iou(paths[:1], paths[1:])[0, 0] >= SAME:
                    continue
                agreement = np.diag(iou(found, paths))
                wrong = int((first, second)[int(np.argmin(agreement))])
                self._estimate(wrong, frame, image, np.full(4, np.nan))
                if iou(self.boxes[[first], frame], self.boxes[[second], frame])[0, 0] >= SAME:
                    self._drop(wrong, frame)

    def _drop(self, row: int, frame: int) -> None:
        for array in (self.pixels, self.confidence, self.world, self.boxes):
            array[row, frame] = 0
        self.present[row, frame] = False
        self._regions[row] = np.nan


def body_box(pixels: np.ndarray, confidence: np.ndarray, width: int, height: int) -> np.ndarray:
    """A box ``(4,)`` around the joints that are trusted, with a border of a tenth, inside the picture.

    Skull and fingers lie beyond the outermost joints. Without three trusted joints, or with all outside the picture,
    the box is zero.
    """
    points = pixels[confidence >= _SEEN]
    if len(points) < 3:
        return np.zeros(4, np.float32)
    low, high = points.min(0), points.max(0)
    border = _BORDER * float((high - low).max())
    box = np.clip(np.concatenate([low - border, high + border]), 0, [width, height, width, height])
    return np.asarray(box, np.float32) if (box[2:] > box[:2]).all() else np.zeros(4, np.float32)


def fill_bodies(
    present: np.ndarray, values: list[np.ndarray], confidence: np.ndarray, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fill short gaps of whole bodies, in place, with a straight line from the body before to the body after.

    Args:
        present: whether there is a body, ``(T,)`` bool.
        values: arrays ``(T, ...)`` that belong to it: positions, boxes.
        confidence: ``(T, V)``; a filled joint is as trusted as the less trusted of its two neighbours.
        longest: gaps of more frames stay.

    Returns:
        Which bodies are there now, and which of them were filled in, ``(T,)`` bool each.
    """
    filled = np.zeros_like(present)
    for before, after in gaps(present, longest):
        inside = slice(before + 1, after)
        share = (np.arange(before + 1, after) - before) / (after - before)
        for array in values:
            part = share.reshape(-1, *(1,) * (array.ndim - 1))
            array[inside] = array[before] * (1 - part) + array[after] * part
        confidence[inside] = np.minimum(confidence[before], confidence[after])
        filled[inside] = True
    return present | filled, filled


def fill_joints(
    present: np.ndarray,
    values: list[np.ndarray],
    confidence: np.ndarray,
    least: float,
    longest: int,
    guesses: Sequence[np.ndarray] = (),
) -> None:
    """Mask joints that can't be trusted, in place, and fill their short gaps.

    A joint whose confidence is below ``least`` is missing: its position and confidence become zero. If it was missing
    for at most ``longest`` frames between two in which it wasn't, and the body was there all the while, it gets a
    position on the straight line between them and half of ``least`` as confidence; so a confidence above zero, but
    below ``least``, tells a joint that was filled in.

    Args:
        present: whether there is a body, ``(T,)`` bool.
        values: arrays ``(T, V, C)`` of positions.
        confidence: ``(T, V)``.
        least: the least confidence of a joint that is kept.
        longest: gaps of more frames stay.
        guesses: arrays like ``values`` in which a missing joint stays where the estimator supposes it.
    """
    seen = (confidence >= least) & present[:, None]
    for array in values:
        array[~seen] = 0
    confidence[~seen] = 0
    for joint in range(confidence.shape[1]):
        for before, after in gaps(seen[:, joint], longest):
            inside = slice(before + 1, after)
            if not present[inside].all():
                continue
            share = ((np.arange(before + 1, after) - before) / (after - before))[:, None]
            for array in (*values, *guesses):
                array[inside, joint] = array[before, joint] * (1 - share) + array[after, joint] * share
            confidence[inside, joint] = least / 2


def gaps(seen: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Last frame before and first frame after each gap of at most ``longest`` frames in ``seen (T,)`` bool."""
    frames = np.flatnonzero(seen)
    wide = np.flatnonzero((np.diff(frames) > 1) & (np.diff(frames) <= longest + 1))
    return [(int(frames[i]), int(frames[i + 1])) for i in wide]
