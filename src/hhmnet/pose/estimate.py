"""A whole video → the joints of those who act in it → a clip in the layout that models are trained on."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hhmnet.conversion import convert
from hhmnet.fields import within
from hhmnet.pose.detectors import PersonDetector, read_constants
from hhmnet.pose.estimators import BlazePose, Detector, PoseEstimator
from hhmnet.pose.following import Follower, fill_bodies, fill_joints, kinect_axes, root_path
from hhmnet.pose.networks import PoseError, fetch_models
from hhmnet.pose.tracking import Tracker, choose_actors
from hhmnet.skeleton import SkeletonLayout
from hhmnet.video import KEPT_BYTES, Video, VideoError, open_video

MIN_CONFIDENCE = 0.2
"""A joint with less confidence is missing."""
MAX_GAP = 10
"""Gaps of at most this many frames are filled with a straight line, and marked."""
USUAL_RATE = 30
"""Frames a second of a usual video."""
FOCAL = 1.2
"""Focal length as a share of the picture's longer side, for the way along the optical axis: 45 degrees are seen."""


@dataclass
class PoseConfig:
    """How joints are found in a video."""

    detector_size: int = 512
    """The picture's longer side for the detector, in pixels; persons of a tenth of it in height are found."""
    every: int = 6
    """Persons are looked for in every n-th frame of 30 a second, in other videos as often a second; in between they are
    followed."""
    persons: int = 1
    """Persons kept at the most, the most important first."""
    mirrored: bool = False
    """The videos are mirror images, as a Kinect's are: left and right change places."""

    def __post_init__(self) -> None:
        within(self, 64, 4096, "detector_size")
        within(self, 1, float("inf"), "every", "persons")

    def step(self, rate: float) -> int:
        """Frames from one look for persons to the next where there are ``rate`` a second; 0 if nobody knows."""
        return max(round(self.every * (rate or USUAL_RATE) / USUAL_RATE), 1)


@dataclass
class VideoPoses:
    """Joints of M persons in the T frames of a video, the most important person first.

    The first six are as in :class:`~hhmnet.pose.following.Follower`; where a joint is missing, ``pixels`` and
    ``confidence`` are zero, and where it was filled in, ``confidence`` lies between that and the least confidence.

    Attributes:
        interpolated: whether the whole body was filled in, ``(M, T)`` bool.
        size: width and height of the picture.
        fps: frames a second.
        others: number of tracks that were not chosen.
        damage: what is wrong with the video's file; "" if nothing is.
    """

    layout: SkeletonLayout
    pixels: np.ndarray
    confidence: np.ndarray
    world: np.ndarray
    boxes: np.ndarray
    present: np.ndarray
    interpolated: np.ndarray
    size: tuple[int, int]
    fps: float
    others: int = 0
    damage: str = ""


class VideoPoseEstimator:
    """Finds the joints of those who act in a video. It looks at the video twice.

    First persons are detected in every n-th frame and joined to tracks, and those who act are told from bystanders by
    their whole tracks. Then the joints of those alone are found in every frame. A ``detector`` and an ``estimator`` of
    your own stand in for SSD and BlazePose. The result doesn't depend on ``threads``, which work at the same time.
    Raises PoseError: a network can't be had or run.
    """

    def __init__(
        self,
        config: PoseConfig | None = None,
        detector: Detector | None = None,
        estimator: PoseEstimator | None = None,
        threads: int = 1,
    ) -> None:
        self.config, self.threads = config or PoseConfig(), threads
        self.detector = detector or _load_detector(self.config)
        self.estimator = estimator or _load_estimator(threads)

    def estimate(self, path: Path, begin: int = 0, end: float = math.inf) -> VideoPoses:
        """Joints of those who act in the video at ``path``, or its frames ``begin`` to ``end``, that one left out.

        A damaged video gives what comes before the damage. PyTorch works in one thread a picture, so that the result is
        the same however many videos are in work. Raises VideoError: the video has no frame that can be decoded;
        PoseError: no person was found in it.
        """
        config, tracker, count = self.config, Tracker(), 0
        waiting: deque[tuple[int, Future[tuple[np.ndarray, np.ndarray]]]] = deque()

        def follow(most: int) -> None:
            """Track what was detected, until at most so many frames are waiting."""
            while len(waiting) > most:
                index, found = waiting.popleft()
                tracker.update(index, *found.result())

        with ExitStack() as stack, open_video(path) as video, ThreadPoolExecutor(self.threads) as pool:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
            # A small video is decoded once, a larger one twice.
            is_small = video.num_frames * video.width * video.height * 3 <= KEPT_BYTES
            kept = list(_span(video, begin, end)) if is_small else None
            every = config.step(video.fps)
            for index, image in kept or _span(video, begin, end):
                count = index + 1
                if index % every == 0:
                    waiting.append((index, pool.submit(self.detector.detect, image)))
                    follow(2 * self.threads)  # so many pictures are kept at the most
            follow(0)
            if not count:
                where = f" from frame {begin} on" if begin else ""
                raise video.damage or VideoError(path, None, f"has no frame that can be decoded{where}")
            size = (video.width, video.height)
            looked = range(0, count, every)
            actors = choose_actors(tracker.tracks, looked, size, video.fps, config.persons)
            if not actors:
                raise PoseError("no person was found in it")
            follower = Follower(self.estimator, [track for track, _ in actors], count)
            for index, image in kept or _span(video, begin, end):
                if index < count:
                    follower.estimate(index, image)
            poses = video_poses(follower, config, size, video.fps)
            poses.others = len(tracker.tracks) - len(actors)
            poses.damage = video.damage.reason if video.damage else ""
            return poses


def _span(video: Video, begin: int, end: float) -> Iterator[tuple[int, np.ndarray]]:
    """The images of some of a video's frames, counted from the first of them."""
    for index, image in video:
        if index >= end:
            return
        if index >= begin:
            yield index - begin, image


def video_poses(
    found: Follower, config: PoseConfig, size: tuple[int, int], fps: float, begin: int = 0
) -> VideoPoses:
    """What a follower found from the frame ``begin`` on, with what wasn't seen masked, filled and marked."""
    pixels, confidence, world, boxes, present = (array[:, begin:].copy() for array in found.arrays)
    interpolated = np.zeros_like(present)
    for row in range(len(present)):
        bodies = [pixels[row], world[row], boxes[row]]
        interpolated[row] = fill_bodies(present[row], bodies, confidence[row], MAX_GAP)
        fill_joints(present[row], pixels[row], world[row], confidence[row], MIN_CONFIDENCE, MAX_GAP)
    swap = found.layout.mirrored if config.mirrored else slice(None)
    pixels, confidence, world = (array[:, :, swap] for array in (pixels, confidence, world))
    return VideoPoses(found.layout, pixels, confidence, world, boxes, present, interpolated, size, fps)


def _load_detector(config: PoseConfig) -> Detector:
    return PersonDetector(read_constants(fetch_models("ssd")["ssd"]), config.detector_size)


def _load_estimator(threads: int) -> PoseEstimator:
    return BlazePose(fetch_models("blazepose")["blazepose"], threads)


def clip_fields(poses: VideoPoses, layout: SkeletonLayout, config: PoseConfig) -> dict[str, Any]:
    """A sample's fields that follow from what was seen: joints, pixels, confidence, boxes, frames.

    Axes of joints in metres are a Kinect's, y up and z away from the camera, so that of a person who faces the camera
    the left joints have the smaller x. A joint that isn't seen stays where the estimator supposes it: legs under a desk
    are somewhere below the hips, not at the camera, where a zero would put them. Raises LayoutError: there is no way
    from the estimator's joints to these.
    """
    pixels, confidence = convert(poses.pixels, poses.layout, layout, poses.confidence)
    # In a sample (0, 0) is the middle of the first pixel.
    pixels = np.where(confidence[..., None] > 0, pixels - np.float32(0.5), np.float32(0))
    joints = pixels
    if layout.dims == 3:
        joints, _ = convert(poses.world, poses.layout, layout, poses.confidence, keep_missing=True)
        seen = zip(poses.world, poses.pixels, poses.confidence, poses.present, strict=True)
        paths = [root_path(*person, poses.size, FOCAL) for person in seen]
        joints = kinect_axes(joints + np.stack(paths)[:, :, None], config.mirrored)
        joints[~poses.present] = 0
    frames = np.arange(poses.present.shape[1], dtype=np.int32)
    return {
        "joints": joints,
        "present": poses.present,
        "frame_index": frames,
        "pixels": pixels,
        "confidence": confidence,
        "boxes": poses.boxes,
        "interpolated": poses.interpolated,
        "video_frames": frames,
    }
