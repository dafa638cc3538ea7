"""Where what is pushed into a stream stands in time, and what is kept of it."""

from __future__ import annotations

import math

import numpy as np

from hhmnet.pose.following import fill_bodies
from hhmnet.pose.tracking import JOIN_GAP


class Grid:
    """Places of frames on an even grid, whatever times they come at.

    A frame takes the place that is nearest to its time; one whose place is taken is passed over, so a source of twice
    the rate is halved.

    Args:
        rate: places a second.

    Attributes:
        frame: the last place that was taken, from 0; -1 before the first.
    """

    def __init__(self, rate: float) -> None:
        self.frame = -1
        self._rate, self._start = rate, 0.0

    def step(self, time: float | None) -> int | None:
        """Steps from the last place to this frame's; 0 to pass over it, None if time went back by half a second."""
        if self.frame < 0:
            self._start = time or 0.0
            self.frame = 0
            return 1
        place = self.frame + 1.0 if time is None else (time - self._start) * self._rate
        if place < self.frame - self._rate / 2:
            return None
        # Halfway counts as before, and so does what only rounding puts beyond it.
        steps = max(math.ceil(place - 0.501) - self.frame, 0)
        self.frame += steps
        return steps


class Bodies:
    """The last T frames of skeletons that were pushed.

    Args:
        persons: M.
        window: T.
        joints: V.
        dims: C.

    Attributes:
        person: counts from 1 on how often somebody came who wasn't there for over 60 frames; 0 with nobody.
    """

    def __init__(self, persons: int, window: int, joints: int, dims: int) -> None:
        self._joints = np.zeros((persons, window, joints, dims), np.float32)
        self._present = np.zeros((persons, window), bool)
        self._length = self.person = self._persons = self._absent = 0

    def go_on(self, steps: int, bodies: np.ndarray, longest: int) -> None:
        """Take the bodies of a frame.

        Args:
            steps: frames since the one before; where some never came, they are filled with a straight line.
            bodies: ``(m, V, C)`` float32, m at most M; a body of zeros isn't there.
            longest: gaps of more frames stay.
        """
        window = self._present.shape[1]
        present = bodies.any((1, 2))
        self._absent = 0 if present.any() else self._absent + steps
        if max(self._absent, steps) > JOIN_GAP:  # whoever comes now is somebody new
            self._length = self.person = 0
        if not self.person and not present.any():
            return
        if not self.person:
            self._persons += 1
            self.person, steps = self._persons, window
        kept = max(window - steps, 0)
        for array in (self._joints, self._present):
            array[:, :kept] = array[:, window - kept :].copy()
            array[:, kept:] = 0
        self._joints[: len(bodies), -1], self._present[: len(bodies), -1] = bodies, present
        self._length = min(self._length + steps, window) if self._length else 1
        if kept and 1 < steps <= longest + 1:
            self._fill(kept - 1, longest)

    def _fill(self, start: int, longest: int) -> None:
        """Fill frames that never came, between the one at ``start`` and the newest."""
        for joints, present in zip(self._joints[:, start:], self._present[:, start:], strict=True):
            present[:], _ = fill_bodies(present, [joints], np.zeros(present.shape), longest)

    def clip(self) -> tuple[np.ndarray, np.ndarray]:
        """Joints ``(M, T, V, C)`` and presence ``(M, T)`` since somebody was first there."""
        start = self._present.shape[1] - self._length
        return self._joints[:, start:], self._present[:, start:]
