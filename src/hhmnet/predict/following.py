"""One person among the frames of a window that moves on."""

from __future__ import annotations

import numpy as np

from hhmnet.pose.base import PoseEstimator, iou
from hhmnet.pose.following import BEHIND, SAME, Follower, fill_bodies
from hhmnet.pose.tracking import Track, is_double


class Following(Follower):
    """A follower of one person whose frames move on: the last of its T frames is always the newest.

    Between two looks that found the person, the frames that never came are filled with a straight line.

    Args:
        estimator: finds the joints.
        person: number of the person.
        track: the person, as seen last.
        window: frames that are kept, T.

    Attributes:
        person: number of the person.
        track: where the person was detected: a whole way, put together from pieces.
        window: T.
        length: frames since the person was first seen, at most T.
    """

    def __init__(self, estimator: PoseEstimator, person: int, track: Track, window: int) -> None:
        super().__init__(estimator, [Track(track.number, [0], track.boxes[-1:], track.scores[-1:])], window)
        self.person, self.track, self.window, self.length = person, track, window, 0

    @property
    def seen(self) -> bool:
        """Whether the person was found in the newest frame."""
        return bool(self.present[0, -1])

    @property
    def path(self) -> np.ndarray:
        """Where the detector saw the person last, ``(4,)``."""
        return np.asarray(self._paths[0, -1])

    def is_on(self, whole: Track) -> bool:
        """Whether a whole way is that of this person, or a second one of the same person."""
        if not self.track.frames:
            return False
        return any(box is self.track.boxes[-1] for box in whole.boxes) or is_double(whole, self.track)

    def lose(self) -> None:
        """The person wasn't found in the newest frame after all."""
        self._drop(0, self.window - 1)

    def go_on(self, steps: int, image: np.ndarray, frame: int, longest: int) -> None:
        """Move on and look.

        Args:
            steps: frames since the one before.
            image: the newest frame.
            frame: the newest frame's index in the track.
            longest: more missing frames than these aren't filled.
        """
        track = self.track
        steps = min(steps if self.length else 1, self.window)
        kept = self.window - steps
        for array in (
            *(self.pixels, self.confidence, self.world, self.boxes, self.present),
            *(self._paths, self._wanted, self._detected),
        ):
            array[:, :kept] = array[:, steps:].copy()
            array[:, kept:] = 0
        self.length = min(self.length + steps, self.window)
        self._paths[0, -1] = track.boxes[-1]
        self._detected[0, -1] = track.frames[-1] == frame
        self._wanted[0, -1] = frame - track.frames[-1] <= BEHIND
        self.estimate(self.window - 1, image)
        self._steps, self._longest = steps, longest

    def fill(self) -> None:
        """Fill the frames that never came before the newest."""
        if 1 < self._steps < self.window:
            before = self.window - 1 - self._steps
            values = [array[0, before:] for array in (self.pixels, self.world, self.boxes)]
            present = self.present[0, before:]
            if present[0] and present[-1]:
                present[:], _ = fill_bodies(present, values, self.confidence[0, before:], self._longest)


def part(one: Following, other: Following) -> None:
    """Of two persons found in one place, the one whose way leads elsewhere wasn't found there."""
    if not (one.seen and other.seen):
        return
    found = np.stack([one.boxes[0, -1], other.boxes[0, -1]])
    paths = np.stack([one.path, other.path])
    if iou(found[:1], found[1:])[0, 0] < SAME or iou(paths[:1], paths[1:])[0, 0] >= SAME:
        return
    agreement = np.diag(iou(found, paths))
    (one, other)[int(np.argmin(agreement))].lose()
