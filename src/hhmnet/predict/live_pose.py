"""Who acts, and their joints, from frames as they come: one look at each, however long it goes on.

The building blocks are those of :mod:`hhmnet.pose.estimate`, which looks at a whole video twice. Here nothing is known
of the frames to come, so persons are chosen by what was seen lately, and may be others later.
"""

from __future__ import annotations

from collections import deque
from itertools import combinations

import numpy as np

from hhmnet.pose.base import Detector, PoseEstimator
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, VideoPoses
from hhmnet.pose.following import BEHIND, fill_bodies, fill_joints
from hhmnet.pose.tracking import JOIN_GAP, Track, Tracker, Traits, choose_actors
from hhmnet.predict.following import Following, part
from hhmnet.skeleton import SkeletonLayout

SWITCH = 1.5
"""Another person is followed from now on if this many times as important as the one who is followed."""

_LEAST_HORIZON = 90
_LATEST = 15


class LivePose:
    """Follows the most important persons, one by default, through frames that come one by one.

    Persons are detected in every n-th frame and joined to tracks. Of those seen in the last ``window`` frames (at
    least 90), the most important are followed, see :class:`~hhmnet.pose.tracking.Traits`: each until another is half as
    important again and there is no room for both, or until another has been there for 30 frames in which this one
    wasn't. Who comes back near the same place within 60 frames is the same person; else, and whenever another person
    is followed, that window begins anew, since joints of two persons are no movement.

    Memory doesn't grow: tracks keep what the window needs, joints are kept for the window alone, and who has left is
    forgotten.

    Args:
        config: what to use; its ``persons`` is not looked at.
        window: frames that are kept.
        rate: frames a second, by which motion is judged.
        detector: stands in for the detector that ``config`` names.
        estimator: stands in for the estimator that ``config`` names.
        most: how many persons are followed at the most.

    Attributes:
        followed: the persons who are followed, in the order in which they were. Their numbers count from 1.
        others: how many more were there when persons were detected last.

    Raises:
        PoseError: a network can't be had or run.
    """

    def __init__(
        self,
        config: PoseConfig | None = None,
        window: int = 60,
        rate: float = 30.0,
        detector: Detector | None = None,
        estimator: PoseEstimator | None = None,
        most: int = 1,
    ) -> None:
        self._networks = VideoPoseEstimator(config, detector, estimator)
        self.config, self.window, self.rate, self.most = self._networks.config, window, rate, most
        self.reset()

    def reset(self) -> None:
        """Forget all, as before the first frame; the networks stay loaded."""
        self._persons = 0
        self._begin()

    def _begin(self) -> None:
        """Forget who was there."""
        self._tracker = Tracker()
        self.followed: list[Following] = []
        self.others = 0
        self._looked: deque[int] = deque()
        self._size = (0, 0)
        self._frame, self._since = -1, 0

    def look(self, frame: int, image: np.ndarray) -> None:
        """Find the persons in one frame.

        Args:
            frame: its index; indices ascend, and those of frames that were dropped are left out.
            image: ``(H, W, 3)`` uint8, red, green, blue. With another size than before all begins anew.

        Raises:
            ValueError: the index isn't larger than the one before.
        """
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._begin()
            self._size = size
        if frame <= self._frame:
            raise ValueError(f"frame {frame} comes after frame {self._frame}; indices must ascend")
        steps, self._frame = frame - self._frame, frame
        self._since += 1
        # Where many frames are dropped, tracks would end before the n-th frame that is looked at.
        if not self._looked or self._since >= self.config.every or frame - self._looked[-1] >= self._latest:
            self._detect(frame, image)
        for one in self.followed:
            one.go_on(steps, image, frame, round(self.rate))
        for one, other in combinations(self.followed, 2):
            part(one, other)
        for one in self.followed:
            one.fill()

    @property
    def layout(self) -> SkeletonLayout:
        """The estimator's skeleton."""
        return self._networks.estimator.layout

    @property
    def person(self) -> int:
        """Number of the first who is followed; 0 for nobody."""
        return self.followed[0].person if self.followed else 0

    @property
    def seen(self) -> bool:
        """Whether the first who is followed was found in the newest frame."""
        return bool(self.followed) and self.followed[0].seen

    @property
    def length(self) -> int:
        """Frames of the window since the first who is followed was first seen; 0 with nobody."""
        return self.followed[0].length if self.followed else 0

    def newest(self, place: int = 0) -> tuple[np.ndarray, np.ndarray] | None:
        """Pixels ``(V, 2)`` and confidence ``(V,)`` of a person in the newest frame; None if not seen there.

        Args:
            place: which of those who are followed.
        """
        if place >= len(self.followed) or not self.followed[place].seen:
            return None
        found, swap = self.followed[place], self._swap
        return found.pixels[0, -1, swap].copy(), found.confidence[0, -1, swap].copy()

    def poses(self, place: int = 0) -> VideoPoses | None:
        """What is kept of a person, with what wasn't seen masked, filled and marked as in a whole video.

        Frames that never came are filled already, see :class:`Following`. None with nobody.

        Args:
            place: which of those who are followed.
        """
        if place >= len(self.followed):
            return None
        found = self.followed[place]
        kept = slice(found.window - found.length, found.window)
        pixels, confidence, world, boxes, present = (
            array[:, kept].copy()
            for array in (found.pixels, found.confidence, found.world, found.boxes, found.present)
        )
        config = self.config
        present[0], interpolated = fill_bodies(
            present[0], [pixels[0], world[0], boxes[0]], confidence[0], config.max_gap
        )
        fill_joints(present[0], [pixels[0]], confidence[0], config.min_confidence, config.max_gap, [world[0]])
        swap = self._swap
        return VideoPoses(
            layout=self.layout,
            pixels=pixels[:, :, swap],
            confidence=confidence[:, :, swap],
            world=world[:, :, swap] if found.has_world else None,
            boxes=boxes,
            present=present,
            interpolated=interpolated[None],
            size=self._size,
            fps=self.rate,
            tracks=[],
            others=0,
            damage="",
        )

    @property
    def _latest(self) -> int:
        """So many frames after persons were looked for they are looked for again, however few came."""
        return max(self.config.every, _LATEST)

    @property
    def _swap(self) -> list[int] | slice:
        return list(self.layout.mirrored) if self.config.mirrored else slice(None)

    def _detect(self, frame: int, image: np.ndarray) -> None:
        self._since = 0
        found = self._networks.detector.detect(image)
        self._tracker.update(frame, found.boxes, found.scores)
        self._looked.append(frame)
        self._forget(frame - max(self.window, _LEAST_HORIZON))
        ranked = choose_actors(
            self._tracker.tracks, self._looked, self._size, self.rate, len(self._tracker.tracks)
        )
        self._choose(frame, ranked)

    def _forget(self, before: int) -> None:
        """Let go of all that was detected before a frame."""
        while self._looked[0] < before:
            self._looked.popleft()
        for track in self._tracker.tracks:
            old = int(np.searchsorted(track.frames, before))
            del track.frames[:old], track.boxes[:old], track.scores[:old]
        # In place of the list itself: the tracker goes on with it.
        self._tracker.tracks[:] = [track for track in self._tracker.tracks if track.frames]

    def _choose(self, frame: int, ranked: list[tuple[Track, Traits]]) -> None:
        """Whom to follow from now on; tracks are whole ways, put together from pieces of one person's."""
        kept: list[tuple[Following, float]] = []
        taken: list[Track] = []
        for one in self.followed:
            mine = next((pair for pair in ranked if one.is_on(pair[0])), None)
            if mine is None or frame - mine[0].frames[-1] > JOIN_GAP or any(mine[0] is way for way in taken):
                continue
            one.track = mine[0]
            taken.append(mine[0])
            kept.append((one, mine[1].importance))
        here = [pair for pair in ranked if pair[0].frames[-1] == frame]
        strangers = [pair for pair in here if not any(one.is_on(pair[0]) for one, _ in kept)]
        for whole, traits in strangers:
            if len(kept) >= self.most:
                # Who is away goes first, then who matters least.
                weakest = min(kept, key=lambda pair: (frame - pair[0].track.frames[-1] <= BEHIND, pair[1]))
                is_away = frame - weakest[0].track.frames[-1] > BEHIND
                if not is_away and traits.importance <= SWITCH * weakest[1]:
                    break
                kept.remove(weakest)
            self._persons += 1
            new = Following(self._networks.estimator, self._persons, whole, self.window)
            kept.append((new, traits.importance))
        self.followed = [one for one, _ in kept]
        self.others = sum(not any(one.is_on(whole) for one in self.followed) for whole, _ in here)
