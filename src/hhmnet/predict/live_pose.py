"""Who acts, and their joints and pictures, from frames as they come: one look at each, however long it goes on.

The building blocks are those of :mod:`hhmnet.pose.estimate`, which looks at a whole video twice. Here nothing is known
of the frames to come, so who acts is chosen by what was seen lately, and may be somebody else later.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.pose.estimate import VideoPoseEstimator, VideoPoses, clip_fields, video_poses
from hhmnet.pose.estimators import PoseEstimator
from hhmnet.pose.following import BEHIND, Follower, fill_bodies
from hhmnet.pose.tracking import JOIN_GAP, Track, Tracker, choose_actors, is_double
from hhmnet.skeleton import SkeletonLayout
from hhmnet.video import KEPT_BYTES, VideoError

SWITCH = 1.5
"""Another person is followed from now on if this many times as important as the one who is followed."""

_LEAST_HORIZON = 90  # frames of which tracks are kept at least
_LATEST = 15  # persons are looked for again after so many frames, however few of them came


class LivePerson(Follower):
    """A follower of one person, ``person`` by number, whose frames move on: the last of its T is always the newest.

    Attributes:
        track: where it was detected: pieces put together.
        length: frames since it was first seen, at most T.
    """

    def __init__(self, estimator: PoseEstimator, person: int, track: Track, window: int) -> None:
        super().__init__(estimator, [Track(track.number, [0], track.boxes[-1:], track.scores[-1:])], window)
        self.person, self.track, self.length, self._window = person, track, 0, window

    def is_on(self, track: Track) -> bool:
        """Whether a whole track is that of this person, or a second one of the same person."""
        if not self.track.frames:
            return False
        return any(box is self.track.boxes[-1] for box in track.boxes) or is_double(track, self.track)

    def go_on(self, steps: int, image: np.ndarray, frame: int, longest: int) -> None:
        """Move on by ``steps`` frames, and look at the newest, whose index in the track is ``frame``; at most
        ``longest`` that never came are filled with a straight line."""
        track, last = self.track, self._window - 1
        steps = min(steps if self.length else 1, self._window)
        kept = self._window - steps
        for array in (*self.arrays, self._paths, self._wanted, self._detected):
            array[:, :kept] = array[:, steps:].copy()
            array[:, kept:] = 0
        self.length = min(self.length + steps, self._window)
        self._paths[0, -1] = track.boxes[-1]
        self._detected[0, -1] = track.frames[-1] == frame
        self._wanted[0, -1] = frame - track.frames[-1] <= BEHIND
        self.estimate(last, image)
        before = last - steps
        if 1 < steps < self._window:
            values = [array[0, before:] for array in (self.pixels, self.world, self.boxes)]
            fill_bodies(self.present[0, before:], values, self.confidence[0, before:], longest)


class LivePose:
    """Follows the most important person through frames that come one by one.

    Persons are detected as often a second as in files and joined to tracks. Of those seen in the last ``window`` frames
    (at least 90), the most important is followed (:func:`.tracking.rate_tracks`), until another is half as important
    again, or has been there for 30 frames in which this one wasn't. Who comes back near the same place within 60 frames
    is the same person; else, and whenever another person is followed, the window begins anew, since joints of two
    persons are no movement. Memory doesn't grow: tracks keep what the window needs, joints are kept for it alone.

    Attributes:
        followed: who is followed; None for nobody.
        others: how many more were there when persons were detected last.
    """

    def __init__(self, networks: VideoPoseEstimator, window: int = 60, rate: float = 30.0) -> None:
        self._networks, self.config = networks, networks.config
        self.window, self.rate = window, rate
        self._persons = 0
        self._begin((0, 0))

    @property
    def person(self) -> int:
        """Who is followed, numbered from 1; 0 for nobody."""
        return 0 if self.followed is None else self.followed.person

    def _begin(self, size: tuple[int, int]) -> None:
        """Forget who was there; pictures of a new size follow."""
        self._tracker, self._size = Tracker(), size
        self.followed: LivePerson | None = None
        self.others = self._since = 0
        self._frame = -1
        self._looked: deque[int] = deque()

    def look(self, frame: int, image: np.ndarray) -> None:
        """Find the persons in one frame ``(H, W, 3)`` uint8; with another size than before all begins anew.

        Indices of frames ascend, and those of frames that were dropped are left out.
        """
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._begin(size)
        steps, self._frame = frame - self._frame, frame
        self._since += 1
        # Where many frames are dropped, tracks would end before the n-th frame that is looked at.
        step = self.config.step(self.rate)
        if not self._looked or self._since >= step or frame - self._looked[-1] >= max(step, _LATEST):
            self._detect(frame, image)
        if self.followed is not None:
            self.followed.go_on(steps, image, frame, round(self.rate))

    def poses(self) -> VideoPoses:
        """What is kept of who is followed, with what wasn't seen masked, filled and marked as in a whole video."""
        assert self.followed is not None
        begin = self.window - self.followed.length
        return video_poses(self.followed, self.config, self._size, self.rate, begin=begin)

    def fields(self, layout: SkeletonLayout) -> dict[str, Any]:
        """A sample's fields of it, in other joints, without a video."""
        return clip_fields(self.poses(), layout, self.config) | {"video_frames": None}

    def _detect(self, frame: int, image: np.ndarray) -> None:
        """Look for persons in a frame, and choose whom to follow from it on."""
        self._since = 0
        self._tracker.update(frame, *self._networks.detector.detect(image))
        self._looked.append(frame)
        oldest, tracks = frame - max(self.window, _LEAST_HORIZON), self._tracker.tracks
        while self._looked[0] < oldest:
            self._looked.popleft()
        for track in tracks:
            old = int(np.searchsorted(track.frames, oldest))
            del track.frames[:old], track.boxes[:old], track.scores[:old]
        tracks[:] = [track for track in tracks if track.frames]  # in place: the tracker goes on with it
        ranked = choose_actors(tracks, self._looked, self._size, self.rate, len(tracks))
        one, importance, is_away = self.followed, 0.0, True
        mine = next((pair for pair in ranked if one is not None and one.is_on(pair[0])), None)
        if one is None or mine is None or frame - mine[0].frames[-1] > JOIN_GAP:
            one = None
        else:
            one.track, importance = mine[0], SWITCH * mine[1]
            is_away = frame - one.track.frames[-1] > BEHIND
        here = [pair for pair in ranked if pair[0].frames[-1] == frame]
        others = [pair for pair in here if one is None or not one.is_on(pair[0])]
        if others and (is_away or others[0][1] > importance):
            self._persons += 1
            one = LivePerson(self._networks.estimator, self._persons, others[0][0], self.window)
        self.followed = one
        self.others = sum(one is None or not one.is_on(track) for track, _ in here)


class LastPictures:
    """The pictures of a stream's last frames, for a model that looks at them.

    Where those of a window need more than ``budget`` bytes, as many frames are passed over as it takes; crops then show
    the nearest frame that was kept.
    """

    def __init__(self, window: int, budget: int = KEPT_BYTES) -> None:
        self._window, self._budget, self._last = window, budget, -1
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self._last + 1

    def add(self, frame: int, image: np.ndarray) -> None:
        """Keep a picture ``(H, W, 3)`` uint8; indices of frames ascend."""
        self._last = frame
        for old in [index for index in self._kept if index <= frame - self._window]:
            del self._kept[old]
        stride = math.ceil(self._window * image.nbytes / self._budget)
        if not self._kept or frame - max(self._kept) >= stride:
            self._kept[frame] = image.copy()

    def shown(self, frames: np.ndarray) -> np.ndarray:
        """``frames (T,)`` int32 where they are kept, and -1 where they aren't."""
        return np.where(np.isin(frames, list(self._kept)), frames, -1).astype(np.int32)

    def frame(self, index: int) -> np.ndarray:
        """Image ``(H, W, 3)`` uint8 of one frame; raises VideoError if it isn't kept."""
        if index not in self._kept:
            raise VideoError(Path("stream"), index, "is over")
        return self._kept[index]
