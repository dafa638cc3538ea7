"""People in made-up videos, and what is cut out of them, written down plainly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.data.roi import GREY, ClipCrops, RoiConfig, cut_clip
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store, write_store
from hhmnet.video import VideoError
from made_bodies import at_rest
from made_video import write_video

WIDTH, HEIGHT = 96, 64
SMALL = RoiConfig(instants=5, cell=16, scene=24, scene_instants=2)
TOLERANCE = 1.6  # torch rounds after each axis


def standing(x: float, top: float, height: float) -> np.ndarray:
    """Pixels ``(20, 2)`` of a Kinect body that stands at ``x``, its left side on the right of the picture."""
    return at_rest()[:, :2] / 1.6 * [height, -height] + [x, top + height]


def made_clip(number: int = 0, frames: int = 12, persons: int = 1, **more: Any) -> Sample:
    """A clip of persons who walk through a picture of WIDTH x HEIGHT; always the same for one number."""
    rng = np.random.default_rng(number)
    pixels = np.zeros((persons, frames, 20, 2), np.float32)
    for person in range(persons):
        start, end = rng.uniform(25, WIDTH - 25, 2)
        height = rng.uniform(30, 45)
        for t, x in enumerate(np.linspace(start, end, frames)):
            pixels[person, t] = standing(x, 8, height) + rng.normal(0, 0.6, (20, 2))
    fields: dict[str, Any] = {
        "sample_id": f"made{number:02d}",
        "label": number % 2,
        "joints": rng.normal(size=(persons, frames, 20, 3)).astype(np.float32),
        "present": np.ones((persons, frames), bool),
        "frame_index": np.arange(frames, dtype=np.int32),
        "camera": str(1 + number % 3),
        "pixels": pixels,
        "video": f"made{number:02d}.mkv",
        "video_frames": np.arange(frames, dtype=np.int32),
    }
    return Sample(**(fields | more))


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Pictures of coloured noise with some structure, all different."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    wave = np.stack([(x * 2 + y) % 256, (x + 3 * y) % 256, (5 * x) % 256], -1)
    return [
        np.clip(0.6 * wave + rng.integers(0, 100, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
        for _ in range(count)
    ]


class Frames:
    """Pictures as a video gives them; those of ``lost`` can't be had."""

    def __init__(self, images: Sequence[np.ndarray], lost: Sequence[int] = ()) -> None:
        self.images, self.lost = images, lost
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def frame(self, index: int) -> np.ndarray:
        self.asked.append(index)
        if index in self.lost or not 0 <= index < len(self.images):
            raise VideoError(Path("made.mkv"), index, "is lost")
        return self.images[index]


def crops_of(sample: Sample, video: Frames, config: RoiConfig) -> ClipCrops:
    """What is cut out of a whole video."""
    crops, problem = cut_clip(sample, KINECT20, video, config)
    assert not problem
    return crops


def plain_resize(square: np.ndarray, side: int) -> np.ndarray:
    """A square image by the definition of the triangle filter, which is stretched where the image shrinks."""
    length = len(square)
    scale = length / side
    away = np.abs(np.arange(length) + 0.5 - (np.arange(side)[:, None] + 0.5) * scale)
    weights = np.maximum(0.0, 1 - away / max(scale, 1.0))
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("ij,kl,jlc->ikc", weights, weights, square.astype(np.float64), optimize=True)


def write_made_store(folder: Path, samples: Sequence[Sample]) -> tuple[Store, Path]:
    """A store of these clips in ``folder/store``, and lossless videos of theirs in ``folder/videos``."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    for number, sample in enumerate(samples):
        if sample.video is not None:
            write_video(videos / sample.video, "ffv1", pictures=pictures(12, number), pixels="bgr0")
    write_store(
        folder / "store",
        samples,
        layout=KINECT20,
        class_names=("sit", "stand"),
        protocol="nw_ucla_cross_view",
        provenance={},
    )
    return Store(folder / "store"), videos


def plain_cut(image: np.ndarray, x: float, y: float, side: int) -> tuple[np.ndarray, float]:
    """The square around a pixel, grey beyond the picture, and the share of it that is inside."""
    left, top = (math.floor(value - (side - 1) / 2 + 0.5) for value in (x, y))
    square = np.full((side, side, 3), GREY, np.uint8)
    inside = 0
    for row in range(side):
        for column in range(side):
            if 0 <= top + row < len(image) and 0 <= left + column < image.shape[1]:
                square[row, column] = image[top + row, left + column]
                inside += 1
    return square, inside / side**2
