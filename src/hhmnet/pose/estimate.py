"""A whole video → the joints of those who act in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hhmnet.fields import one_of, within
from hhmnet.pose.base import Detector, PoseEstimator
from hhmnet.pose.detectors import CloseDetector, PersonDetector
from hhmnet.pose.estimators import BlazePose, MoveNet
from hhmnet.pose.following import Follower, fill_bodies, fill_joints
from hhmnet.pose.networks import PoseError, network
from hhmnet.pose.tracking import Tracker, Traits, choose_actors
from hhmnet.skeleton import SkeletonLayout
from hhmnet.video import Video, VideoError, open_video

ESTIMATORS: dict[str, type[BlazePose] | type[MoveNet]] = {"blazepose": BlazePose, "movenet": MoveNet}
DETECTORS = {"ssd": "ssd", "close": "blazepose_detector"}

KEPT_BYTES = 256 << 20
"""A video whose pictures need no more memory than this is decoded once, a larger one twice."""


@dataclass
class PoseConfig:
    """How joints are found in a video."""

    estimator: str = "blazepose"
    """Who finds the joints: blazepose (33, in pixels and metres) or movenet (17, in pixels; twice as fast)."""
    detector: str = "ssd"
    """Who finds the persons: ssd (of any size) or close (persons who fill a good part of the picture; faster)."""
    detector_size: int = 512
    """The picture's longer side for ssd, in pixels; persons of a tenth of it in height are found."""
    every: int = 3
    """Persons are looked for in every n-th frame; in between they are followed."""
    persons: int = 1
    """Persons kept at the most, the most important first."""
    min_confidence: float = 0.2
    """A joint with less confidence is missing."""
    max_gap: int = 10
    """Gaps of at most this many frames are filled with a straight line, and marked."""
    mirrored: bool = False
    """The videos are mirror images, as a Kinect's are: left and right change places."""

    def __post_init__(self) -> None:
        one_of(self, "estimator", tuple(ESTIMATORS))
        one_of(self, "detector", tuple(DETECTORS))
        within(self, 64, 4096, "detector_size")
        within(self, 1, float("inf"), "every", "persons")
        within(self, 0, 1, "min_confidence")
        within(self, 0, float("inf"), "max_gap")


@dataclass
class VideoPoses:
    """Joints of M persons in the T frames of a video, the most important person first.

    Attributes:
        layout: the estimator's skeleton, with V joints.
        pixels: ``(M, T, V, 2)`` float32 from the picture's upper left corner; zero where a joint is missing.
        confidence: ``(M, T, V)`` float32; 0 where a joint is missing, above 0 but below the least confidence where it
            was filled in.
        world: ``(M, T, V, 3)`` float32 metres from the middle between the hips (x right and y down in the picture, z
            away from the camera); None from an estimator of two dimensions.
        boxes: ``(M, T, 4)`` float32 pixels.
        present: whether the person is there, ``(M, T)`` bool.
        interpolated: whether the whole body was filled in, ``(M, T)`` bool.
        size: width and height of the picture.
        fps: frames a second.
        tracks: number of each person's track, and how important it was found to be.
        others: number of tracks that were not chosen.
        damage: what is wrong with the video's file; "" if nothing is.
    """

    layout: SkeletonLayout
    pixels: np.ndarray
    confidence: np.ndarray
    world: np.ndarray | None
    boxes: np.ndarray
    present: np.ndarray
    interpolated: np.ndarray
    size: tuple[int, int]
    fps: float
    tracks: list[tuple[int, Traits]]
    others: int
    damage: str


class VideoPoseEstimator:
    """Finds the joints of those who act in a video. It looks at the video twice.

    First persons are detected in every n-th frame and joined to tracks, and those who act are told from bystanders by
    their whole tracks. Then the joints of those alone are found in every frame.

    Args:
        config: what to use.
        detector: stands in for the detector that ``config`` names.
        estimator: stands in for the estimator that ``config`` names.

    Raises:
        PoseError: a network can't be had or run.
    """

    def __init__(
        self,
        config: PoseConfig | None = None,
        detector: Detector | None = None,
        estimator: PoseEstimator | None = None,
    ) -> None:
        self.config = config or PoseConfig()
        self.detector = detector or _load_detector(self.config)
        self.estimator = estimator or _load_estimator(self.config)

    def estimate(self, path: Path) -> VideoPoses:
        """Joints of those who act in the video at ``path``.

        A damaged video gives what comes before the damage. The work is done in one thread, so that the result is the
        same however many videos are in work.

        Raises:
            VideoError: the video has no frame that can be decoded.
            PoseError: no person was found in it.
        """
        with _one_thread(), open_video(path, errors="stop") as video:
            seen = self._detect(video)
            if not seen.count:
                raise video.damage or VideoError(path, None, "has no frame that can be decoded")
            size = (video.width, video.height)
            actors = choose_actors(seen.tracker.tracks, seen.frames, size, video.fps, self.config.persons)
            if not actors:
                raise PoseError("no person was found in it")
            follower = Follower(self.estimator, [track for track, _ in actors], seen.count)
            for index, image in seen.images or video:
                if index < seen.count:
                    follower.estimate(index, image)
            interpolated = self._fill(follower)
            swap = self.estimator.layout.mirrored if self.config.mirrored else slice(None)
            return VideoPoses(
                layout=self.estimator.layout,
                pixels=follower.pixels[:, :, swap],
                confidence=follower.confidence[:, :, swap],
                world=follower.world[:, :, swap] if follower.has_world else None,
                boxes=follower.boxes,
                present=follower.present,
                interpolated=interpolated,
                size=size,
                fps=video.fps,
                tracks=[(track.number, traits) for track, traits in actors],
                others=len(seen.tracker.tracks) - len(actors),
                damage=video.damage.reason if video.damage else "",
            )

    def _detect(self, video: Video) -> _DetectedTracks:
        """The first look: who is there, and where."""
        seen = _DetectedTracks(Tracker(), [], [], 0)
        size = video.num_frames * video.width * video.height * 3
        for index, image in video:
            seen.count = index + 1
            if size <= KEPT_BYTES:
                seen.images.append((index, image))
            if index % self.config.every == 0:
                found = self.detector.detect(image)
                seen.tracker.update(index, found.boxes, found.scores)
                seen.frames.append(index)
        return seen

    def _fill(self, found: Follower) -> np.ndarray:
        """Mask, fill and mark what wasn't seen; returns which bodies were filled in, ``(M, T)`` bool."""
        config = self.config
        interpolated = np.zeros_like(found.present)
        for row in range(len(found.present)):
            pixels, world, confidence = found.pixels[row], found.world[row], found.confidence[row]
            found.present[row], interpolated[row] = fill_bodies(
                found.present[row], [pixels, world, found.boxes[row]], confidence, config.max_gap
            )
            fill_joints(
                found.present[row], [pixels], confidence, config.min_confidence, config.max_gap, [world]
            )
        return interpolated


@dataclass
class _DetectedTracks:
    """What came of the first look: tracks, the frames looked at, the pictures if they are kept, their number."""

    tracker: Tracker
    frames: list[int]
    images: list[tuple[int, np.ndarray]]
    count: int


def networks_of(config: PoseConfig) -> list[str]:
    """Names of the networks that a configuration needs."""
    return [DETECTORS[config.detector], config.estimator]


def _load_detector(config: PoseConfig) -> Detector:
    model = network(DETECTORS[config.detector])
    return PersonDetector(model, config.detector_size) if config.detector == "ssd" else CloseDetector(model)


def _load_estimator(config: PoseConfig) -> PoseEstimator:
    return ESTIMATORS[config.estimator](network(config.estimator))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
