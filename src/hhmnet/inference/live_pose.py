"""Who acts, and their joints, from frames as they come: one look at each, however long it goes on.

The building blocks are those of :mod:`hhmnet.pose.estimate`, which looks at a whole video twice. Here nothing is known
of the frames to come, so the person is chosen by what was seen lately, and may be another one later.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from hhmnet.pose.actors import JOIN_GAP, Traits, choose_actors, is_double
from hhmnet.pose.base import Detector, PoseEstimator
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, VideoPoses
from hhmnet.pose.follow import BEHIND, Follower
from hhmnet.pose.gaps import fill_bodies, fill_joints
from hhmnet.pose.tracking import Track, Tracker
from hhmnet.skeleton import SkeletonLayout

SWITCH = 1.5
"""Another person is followed from now on if this many times as important as the one who is followed."""

_LEAST_HORIZON = 90
_LATEST = 15


class LivePose:
    """Follows the most important person through frames that come one by one.

    Persons are detected in every n-th frame and joined to tracks. Of those seen in the last ``window`` frames (at
    least 90), the most important is followed, see :class:`~hhmnet.pose.actors.Traits`: until another is half as
    important again, or has been there for 30 frames in which this one wasn't. Who comes back near the same place
    within 60 frames is the same person; else, and whenever another person is followed, the window begins anew, since
    joints of two persons are no movement.

    Memory doesn't grow: tracks keep what the window needs, and joints are kept for the window alone.

    Args:
        config: what to use; ``persons`` is not looked at, since one is followed.
        window: frames that are kept.
        rate: frames a second, by which motion is judged.
        detector: stands in for the detector that ``config`` names.
        estimator: stands in for the estimator that ``config`` names.

    Attributes:
        person: number of the person who is followed, from 1 in the order in which they were; 0 for nobody.

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
    ) -> None:
        self._networks = VideoPoseEstimator(config, detector, estimator)
        self.config, self.window, self.rate = self._networks.config, window, rate
        self.reset()

    def reset(self) -> None:
        """Forget all, as before the first frame; the networks stay loaded."""
        self.person = self._persons = 0
        self._begin()

    def _begin(self) -> None:
        """Forget who was there."""
        self._tracker = Tracker()
        self._track: Track | None = None
        self._following: Following | None = None
        self._looked: deque[int] = deque()
        self._size = (0, 0)
        self._frame, self._since = -1, 0
        self._leave()

    def look(self, frame: int, image: np.ndarray) -> None:
        """Find the person in one frame.

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
        if self._track is not None and self._following is not None:
            self._following.go_on(steps, image, self._track, frame, round(self.rate))

    @property
    def layout(self) -> SkeletonLayout:
        """The estimator's skeleton."""
        return self._networks.estimator.layout

    @property
    def seen(self) -> bool:
        """Whether the person was found in the newest frame."""
        return self._following is not None and bool(self._following.present[0, -1])

    @property
    def length(self) -> int:
        """Frames of the window since the person was first seen; 0 with nobody."""
        return self._following.length if self._following is not None else 0

    def newest(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Pixels ``(V, 2)`` and confidence ``(V,)`` of the person in the newest frame; None if not seen there."""
        if self._following is None or not self.seen:
            return None
        swap = self._swap
        return self._following.pixels[0, -1, swap].copy(), self._following.confidence[0, -1, swap].copy()

    def poses(self) -> VideoPoses | None:
        """What is kept of the person, with what wasn't seen masked, filled and marked as in a whole video.

        Frames that never came are filled already, see :class:`Following`. None with nobody.
        """
        found = self._following
        if found is None:
            return None
        part = slice(found.window - found.length, found.window)
        pixels, confidence, world, boxes, present = (
            array[:, part].copy()
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
        here = next((pair for pair in ranked if pair[0].frames[-1] == frame), None)
        mine = next((pair for pair in ranked if self._is_mine(pair[0])), None)
        if mine is None:
            if here is None:
                self._leave()
            else:
                self._follow(here[0])
            return
        away = frame - mine[0].frames[-1]
        if away > JOIN_GAP and here is None:
            self._leave()
        elif here is not None and (away > BEHIND or here[1].importance > SWITCH * mine[1].importance):
            self._follow(here[0])
        else:
            self._track = mine[0]

    def _is_mine(self, whole: Track) -> bool:
        """Whether a whole way is that of the person who is followed, or a second one of the same person."""
        track = self._track
        if track is None or not track.frames:
            return False
        return any(box is track.boxes[-1] for box in whole.boxes) or is_double(whole, track)

    def _follow(self, whole: Track) -> None:
        """Follow this person; the window begins anew if it is another one."""
        if not self._is_mine(whole):
            self._persons += 1
            self.person = self._persons
            self._following = Following(self._networks.estimator, whole, self.window)
        self._track = whole

    def _leave(self) -> None:
        self.person, self._track, self._following = 0, None, None


class Following(Follower):
    """A follower of one person whose frames move on: the last of its T frames is always the newest.

    Between two looks that found the person, the frames that never came are filled with a straight line.

    Args:
        estimator: finds the joints.
        track: the person, as seen last.
        window: frames that are kept, T.

    Attributes:
        window: T.
        length: frames since the person was first seen, at most T.
    """

    def __init__(self, estimator: PoseEstimator, track: Track, window: int) -> None:
        super().__init__(estimator, [Track(track.number, [0], track.boxes[-1:], track.scores[-1:])], window)
        self.window, self.length = window, 0

    def go_on(self, steps: int, image: np.ndarray, track: Track, frame: int, longest: int) -> None:
        """Move on and look.

        Args:
            steps: frames since the one before.
            image: the newest frame.
            track: where the person was detected.
            frame: the newest frame's index in that track.
            longest: more missing frames than these aren't filled.
        """
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
        self.look(self.window - 1, image)
        if 1 < steps < self.window:
            before = self.window - 1 - steps
            values = [array[0, before:] for array in (self.pixels, self.world, self.boxes)]
            present = self.present[0, before:]
            if present[0] and present[-1]:
                present[:], _ = fill_bodies(present, values, self.confidence[0, before:], longest)
