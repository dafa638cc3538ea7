"""How fast joints come from video: each step by itself, one video in one process, and a folder on all cores.

    python benchmarks/pose_speed.py VIDEO [VIDEO …] [--copies 8] [--jobs 2]

For a folder, each video is given to the reader ``videos`` under as many names as ``--copies`` says.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from hhmnet.benchmarks.measure import timed
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.prepare import prepare
from hhmnet.readers.videos import Videos, VideosConfig
from hhmnet.video import open_video

STEP_FRAMES = 30


def main() -> None:
    """Measure every video named on the command line, and print a table."""
    parser = argparse.ArgumentParser(description="Speed of joints from video.")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--copies", type=int, default=8, help="copies of each video in the folder (8)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes for the folder (one a core)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of one video in one process (3)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    estimator = VideoPoseEstimator(PoseConfig())
    print(f"load before: {os.getloadavg()[0]:.1f}")
    for path in options.videos:
        steps = time_steps(estimator, path)
        print(f"{path.name}: ms a call (median of {STEP_FRAMES} frames)")
        for step, seconds in steps.items():
            print(f"  {step:32} {1000 * seconds:7.1f}")
        rates = [one_video_rate(estimator, path) for _ in range(options.rounds)]
        shown = ", ".join(f"{rate:.1f}" for rate in rates)
        print(f"  one video, one process           {median(rates):7.1f} frames/s ({shown})")
        with tempfile.TemporaryDirectory() as folder:
            rate = folder_rate(path, Path(folder), options.copies, options.jobs)
        print(f"  folder, {options.jobs} processes               {rate:7.1f} frames/s")


def time_steps(estimator: VideoPoseEstimator, path: Path) -> dict[str, float]:
    """Median seconds of decoding, detecting and estimating, in frames from the video's middle."""
    times: dict[str, list[float]] = {
        "decode and convert": [],
        "detect persons": [],
        "joints, led by the frame before": [],
    }
    times["joints, from a box"] = []
    with open_video(path) as video:
        first = max(video.num_frames // 2 - STEP_FRAMES // 2, 0)
        image = video.frame(first)
        box = _largest(estimator, image)
        region = estimator.estimator.estimate(image, box).region
        for index in range(first + 1, min(first + 1 + STEP_FRAMES, video.num_frames)):
            times["decode and convert"].append(timed(lambda i=index: video.frame(i)))
            image = video.frame(index)
            times["detect persons"].append(timed(lambda im=image: estimator.detector.detect(im)))
            led = time.perf_counter()
            region = estimator.estimator.estimate(image, box, region).region
            times["joints, led by the frame before"].append(time.perf_counter() - led)
            times["joints, from a box"].append(timed(lambda im=image: estimator.estimator.estimate(im, box)))
    return {step: median(values) for step, values in times.items()}


def _largest(estimator: VideoPoseEstimator, image: np.ndarray) -> np.ndarray:
    boxes, _ = estimator.detector.detect(image)
    return boxes[np.argmax((boxes[:, 2:] - boxes[:, :2]).prod(1))]


def frames_per_second(call: Callable[[], int]) -> float:
    """Frames a second of a call that returns how many frames it did."""
    begun = time.perf_counter()
    return call() / (time.perf_counter() - begun)


def one_video_rate(estimator: VideoPoseEstimator, path: Path) -> float:
    """Frames a second of one video from its file to its joints, with the networks loaded."""
    return frames_per_second(lambda: estimator.estimate(path).present.shape[1])


def folder_rate(path: Path, folder: Path, copies: int, jobs: int) -> float:
    """Frames a second of preparing a folder with copies of a video, the processes' start included."""
    source = folder / "videos"
    source.mkdir()
    names = [f"{i:03d}{path.suffix}" for i in range(copies)]
    for name in names:
        shutil.copy(path, source / name)
    (source / "labels.csv").write_text("video,label\n" + "".join(f"{name},one\n" for name in names))
    reader = Videos(source, VideosConfig())
    return frames_per_second(lambda: prepare(reader, folder / "store", jobs=jobs).frames)


if __name__ == "__main__":
    main()
