"""Who acts, and their joints and pictures, from frames as they come: one look at each, however long it goes on.

The building blocks are those of :mod:`hhmnet.pose.estimate`, which looks at a whole video twice. Here nothing is known
of the frames to come, so persons are chosen by what was seen lately, and may be others later.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from hhmnet.data.places import person_sizes
from hhmnet.data.roi import GREY
from hhmnet.pose.estimate import VideoPoseEstimator, VideoPoses, video_poses
from hhmnet.pose.estimators import PoseEstimator
from hhmnet.pose.following import BEHIND, Follower, fill_bodies, stray
from hhmnet.pose.tracking import JOIN_GAP, Track, Tracker, choose_actors, is_double
from hhmnet.sample import UNKNOWN_LABEL, Sample
from hhmnet.skeleton import SkeletonLayout
from hhmnet.video import VideoError

SWITCH = 1.5
"""Another person is followed from now on if this many times as important as the one who is followed."""
SPARE = 2.0
"""Side of a patch as a share of the person's size. The largest crop has 1.46 times the person's greatest extent in the
window, which isn't known yet; so a person may grow by a third in it."""
LEAST = 320
"""Pixels of a patch's side at least: who is far away may come near."""

_LEAST_HORIZON = 90  # frames of which tracks are kept at least
_LATEST = 15  # persons are looked for again after so many frames, however few of them came


class LivePerson(Follower):
    """A follower of one person whose frames move on: the last of its T frames is always the newest.

    Between two looks that found the person, the frames that never came are filled with a straight line.

    Args:
        estimator: finds the joints.
        person: number of the person.
        track: where the person was detected: pieces put together.
        window: frames that are kept, T.

    Attributes:
        person: number of the person.
        track: as given.
        length: frames since the person was first seen, at most T.
    """

    def __init__(self, estimator: PoseEstimator, person: int, track: Track, window: int) -> None:
        super().__init__(estimator, [Track(track.number, [0], track.boxes[-1:], track.scores[-1:])], window)
        self.person, self.track, self.length, self._window = person, track, 0, window

    @property
    def seen(self) -> bool:
        """Whether the person was found in the newest frame."""
        return bool(self.present[0, -1])

    @property
    def path(self) -> np.ndarray:
        """Where the detector saw the person last, ``(4,)``."""
        return np.asarray(self._paths[0, -1])

    def is_on(self, track: Track) -> bool:
        """Whether a whole track is that of this person, or a second one of the same person."""
        if not self.track.frames:
            return False
        return any(box is self.track.boxes[-1] for box in track.boxes) or is_double(track, self.track)

    def go_on(self, steps: int, image: np.ndarray, frame: int) -> None:
        """Move on by ``steps`` frames, and look at the newest, whose index in the track is ``frame``."""
        track, last = self.track, self._window - 1
        steps = min(steps if self.length else 1, self._window)
        kept = self._window - steps
        for array in (
            *(self.pixels, self.confidence, self.world, self.boxes, self.present),
            *(self._paths, self._wanted, self._detected),
        ):
            array[:, :kept] = array[:, steps:].copy()
            array[:, kept:] = 0
        self.length = min(self.length + steps, self._window)
        self._paths[0, -1] = track.boxes[-1]
        self._detected[0, -1] = track.frames[-1] == frame
        self._wanted[0, -1] = frame - track.frames[-1] <= BEHIND
        self.estimate(last, image)
        self._steps = steps

    def part(self, other: LivePerson) -> None:
        """Of two persons found in one place, the one whose way leads elsewhere wasn't found there."""
        if not (self.seen and other.seen):
            return
        found = np.stack([self.boxes[0, -1], other.boxes[0, -1]])
        wrong = stray(found, np.stack([self.path, other.path]))
        if wrong is not None:
            (self, other)[wrong]._drop(0, self._window - 1)

    def fill(self, longest: int) -> None:
        """Fill the frames that never came before the newest, if they are at most so many."""
        before = self._window - 1 - self._steps
        if 1 < self._steps < self._window and self.present[0, before] and self.seen:
            values = [array[0, before:] for array in (self.pixels, self.world, self.boxes)]
            present = self.present[0, before:]
            present[:], _ = fill_bodies(present, values, self.confidence[0, before:], longest)


class LivePose:
    """Follows the most important persons, one by default, through frames that come one by one.

    Persons are detected in every n-th frame and joined to tracks. Of those seen in the last ``window`` frames (at
    least 90), the most important are followed (:func:`.tracking.rate_tracks`): each until another is half as
    important again and there is no room for both, or until another has been there for 30 frames in which this one
    wasn't. Who comes back near the same place within 60 frames is the same person; else, and whenever another person
    is followed, that window begins anew, since joints of two persons are no movement.

    Memory doesn't grow: tracks keep what the window needs, joints are kept for the window alone, and who has left is
    forgotten.

    Args:
        networks: find persons and joints; ``persons`` of their configuration is not looked at.
        window: frames that are kept.
        rate: frames a second, by which motion is judged.
        most: how many persons are followed at the most.

    Attributes:
        followed: the persons who are followed, in the order in which they were. Their numbers count from 1.
        others: how many more were there when persons were detected last.

    """

    def __init__(
        self, networks: VideoPoseEstimator, window: int = 60, rate: float = 30.0, most: int = 1
    ) -> None:
        self._networks, self.config = networks, networks.config
        self.window, self.rate, self.most = window, rate, most
        self.layout = networks.estimator.layout
        self._swap = list(self.layout.mirrored) if self.config.mirrored else slice(None)
        self.reset()

    def reset(self) -> None:
        """Forget all, as before the first frame; the networks stay loaded."""
        self._persons = 0
        self._begin((0, 0))

    def _begin(self, size: tuple[int, int]) -> None:
        """Forget who was there; pictures of a new size follow."""
        self._tracker, self._size = Tracker(), size
        self.followed: list[LivePerson] = []
        self.others = self._since = 0
        self._frame = -1
        self._looked: deque[int] = deque()

    def look(self, frame: int, image: np.ndarray) -> None:
        """Find the persons in one frame.

        Args:
            frame: its index; indices ascend, and those of frames that were dropped are left out.
            image: ``(H, W, 3)`` uint8, red, green, blue. With another size than before all begins anew.
        """
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._begin(size)
        steps, self._frame = frame - self._frame, frame
        self._since += 1
        # Where many frames are dropped, tracks would end before the n-th frame that is looked at.
        latest = max(self.config.every, _LATEST)
        if not self._looked or self._since >= self.config.every or frame - self._looked[-1] >= latest:
            self._detect(frame, image)
        for one in self.followed:
            one.go_on(steps, image, frame)
        for one, other in combinations(self.followed, 2):
            one.part(other)
        for one in self.followed:
            one.fill(round(self.rate))

    def newest(self, person: LivePerson) -> tuple[np.ndarray, np.ndarray] | None:
        """Pixels ``(V, 2)`` and confidence ``(V,)`` of one in the newest frame; None if not seen there."""
        if not person.seen:
            return None
        return person.pixels[0, -1, self._swap].copy(), person.confidence[0, -1, self._swap].copy()

    def poses(self, person: LivePerson) -> VideoPoses:
        """What is kept of a followed person, with what wasn't seen masked, filled and marked as in a whole video.

        Frames that never came are filled already, see :class:`LivePerson`.
        """
        begin = self.window - person.length
        return video_poses(person, self.config, self._size, self.rate, begin=begin)

    def _detect(self, frame: int, image: np.ndarray) -> None:
        self._since = 0
        self._tracker.update(frame, *self._networks.detector.detect(image))
        self._looked.append(frame)
        self._forget(frame - max(self.window, _LEAST_HORIZON))
        tracks = self._tracker.tracks
        self._choose(frame, choose_actors(tracks, self._looked, self._size, self.rate, len(tracks)))

    def _forget(self, before: int) -> None:
        """Let go of all that was detected before a frame."""
        while self._looked[0] < before:
            self._looked.popleft()
        for track in self._tracker.tracks:
            old = int(np.searchsorted(track.frames, before))
            del track.frames[:old], track.boxes[:old], track.scores[:old]
        # In place of the list itself: the tracker goes on with it.
        self._tracker.tracks[:] = [track for track in self._tracker.tracks if track.frames]

    def _choose(self, frame: int, ranked: list[tuple[Track, float]]) -> None:
        """Whom to follow from now on, of whole tracks with their importance."""
        kept: list[tuple[LivePerson, float]] = []
        for one in self.followed:
            mine = next((pair for pair in ranked if one.is_on(pair[0])), None)
            is_gone = mine is None or frame - mine[0].frames[-1] > JOIN_GAP
            if mine is not None and not is_gone and not any(mine[0] is other.track for other, _ in kept):
                one.track = mine[0]
                kept.append((one, mine[1]))
        here = [pair for pair in ranked if pair[0].frames[-1] == frame]
        for track, importance in [pair for pair in here if not any(one.is_on(pair[0]) for one, _ in kept)]:
            if len(kept) >= self.most:
                # Who is away goes first, then who matters least.
                weakest = min(kept, key=lambda pair: (frame - pair[0].track.frames[-1] <= BEHIND, pair[1]))
                is_away = frame - weakest[0].track.frames[-1] > BEHIND
                if not is_away and importance <= SWITCH * weakest[1]:
                    break
                kept.remove(weakest)
            self._persons += 1
            new = LivePerson(self._networks.estimator, self._persons, track, self.window)
            kept.append((new, importance))
        self.followed = [one for one, _ in kept]
        self.others = sum(not any(one.is_on(track) for one in self.followed) for track, _ in here)


class Patches:
    """Patches around one person of the last frames, as they were in the picture: no pixel is changed.

    Where and how large the crops are that a model looks at depends on the whole window, so they are cut when it is
    used; what they can show is kept until then. Such a frame has its patch in its place and is grey elsewhere.

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

    def add(self, frame: int, image: np.ndarray, person: LivePerson, layout: SkeletonLayout) -> None:
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
        height, width = self._shape
        left, top, right, bottom = 0, 0, width, height
        if not self.whole:
            # Where the person is, or was detected last if lost.
            box = person.boxes[0, -1].astype(np.float64) if person.seen else person.path
            box = np.clip(box, 0, np.array([width, height] * 2))
            size = max(float((box[2:] - box[:2]).max()), _size(person, layout))
            # Who is lost for a moment is no smaller.
            self._size = size if person.seen else max(size, self._size)
            side = math.ceil(max(SPARE * self._size, LEAST))
            corner = np.floor((box[:2] + box[2:] - side) / 2)  # moved inside, as the crop of persons is
            left, top = np.clip(corner, 0, np.maximum([width - side, height - side], 0)).astype(int).tolist()
            right, bottom = min(left + side, width), min(top + side, height)
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


def _size(person: LivePerson, layout: SkeletonLayout) -> float:
    """The person's size along the bones: who crouches may stand in the window's next frames. 0 if lost."""
    if not person.seen:
        return 0.0
    joints, present = np.zeros((1, 1, layout.num_joints, layout.dims), np.float32), np.ones((1, 1), bool)
    newest = Sample("newest", UNKNOWN_LABEL, joints, present, np.zeros(1, np.int32))
    newest = replace(newest, pixels=person.pixels[:, -1:], confidence=person.confidence[:, -1:])
    return float(np.nan_to_num(person_sizes(newest, layout)[0]))
