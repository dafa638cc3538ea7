"""Of the pictures of a stream, what a model may want to look at later: the surroundings of one person."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hhmnet.data.places import person_sizes
from hhmnet.data.roi import GREY
from hhmnet.predict.following import Following
from hhmnet.sample import UNKNOWN_LABEL, Sample
from hhmnet.skeleton import SkeletonLayout
from hhmnet.video import VideoError

SPARE = 2.0
"""Side of a patch as a share of the person's size. The largest crop has 1.46 times the person's greatest extent in the
window, which isn't known yet; so a person may grow by a third in it."""
LEAST = 320
"""Pixels of a patch's side at least: who is far away may come near."""


class Patches:
    """Patches around one person of the last frames, as they were in the picture: no pixel is changed.

    Where and how large the crops are that a model looks at depends on the whole window, so they are cut when it is
    asked; what they can show is kept until then. A frame that is asked for has its patch in its place and is grey
    elsewhere.

    Memory is bounded: where patches are so large that those of a window need more than ``budget``, as many frames are
    passed over as it takes; the crops then show the nearest frame that was kept.

    Args:
        window: frames of the window.
        budget: bytes.
        whole: keep whole pictures, for a model that looks at what is around persons.
    """

    def __init__(self, window: int, budget: int, whole: bool = False) -> None:
        self.window, self.budget, self.whole = window, budget, whole
        self._kept: dict[int, tuple[int, int, np.ndarray]] = {}
        self._shape = (0, 0)
        self._size = 0.0
        self._last = -1

    def __len__(self) -> int:
        return self._last + 1

    @property
    def nbytes(self) -> int:
        """Bytes of all patches that are kept."""
        return sum(patch.nbytes for _, _, patch in self._kept.values())

    def add(self, frame: int, image: np.ndarray, person: Following, layout: SkeletonLayout) -> None:
        """Keep what is around the person in the newest frame.

        Args:
            frame: its index; indices ascend.
            image: ``(H, W, 3)`` uint8; all of one size.
            person: who was looked for in it.
            layout: of the person's joints.
        """
        self._last, self._shape = frame, (image.shape[0], image.shape[1])
        for old in [index for index in self._kept if index <= frame - self.window]:
            del self._kept[old]
        left, top, right, bottom = self._square(image, person, layout)
        stride = math.ceil(self.window * 3 * (right - left) * (bottom - top) / self.budget)
        if not self._kept or frame - max(self._kept) >= stride:
            self._kept[frame] = left, top, image[top:bottom, left:right].copy()

    def shown(self, frames: np.ndarray) -> np.ndarray:
        """``frames (T,)`` int32 where they are kept, and -1 where they aren't."""
        return np.where(np.isin(frames, list(self._kept)), frames, -1).astype(np.int32)

    def frame(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` uint8 of one frame, grey beyond its patch; raises VideoError if it isn't kept."""
        if index not in self._kept:
            raise VideoError(Path("stream"), index, "is over")
        left, top, patch = self._kept[index]
        image = np.full((*self._shape, 3), GREY, np.uint8)
        image[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        return image

    def _square(
        self, image: np.ndarray, person: Following, layout: SkeletonLayout
    ) -> tuple[int, int, int, int]:
        """What of the picture is kept: left, top, right, bottom. It is moved inside, as the crop of persons is."""
        height, width = image.shape[:2]
        if self.whole:
            return 0, 0, width, height
        box = np.clip(_place(person), 0, np.array([width, height] * 2))
        size = max(float((box[2:] - box[:2]).max()), _size(person, layout))
        # Who is lost for a moment is no smaller.
        self._size = size if person.seen else max(size, self._size)
        side = math.ceil(max(SPARE * self._size, LEAST))
        corner = np.floor((box[:2] + box[2:] - side) / 2)
        left, top = np.clip(corner, 0, np.maximum([width - side, height - side], 0)).astype(int).tolist()
        return left, top, min(left + side, width), min(top + side, height)


def _place(person: Following) -> np.ndarray:
    """What the person spans in the newest frame, ``(4,)``; where the detector saw the person last if lost there."""
    return person.boxes[0, -1].astype(np.float64) if person.seen else person.path


def _size(person: Following, layout: SkeletonLayout) -> float:
    """The person's size along the bones: who crouches may stand in the window's next frames. 0 if lost."""
    if not person.seen:
        return 0.0
    newest = Sample(
        "newest",
        UNKNOWN_LABEL,
        np.zeros((1, 1, layout.num_joints, layout.dims), np.float32),
        np.ones((1, 1), bool),
        np.zeros(1, np.int32),
        pixels=person.pixels[:, -1:],
        confidence=person.confidence[:, -1:],
    )
    size = person_sizes(newest, layout)[0]
    return 0.0 if np.isnan(size) else float(size)
