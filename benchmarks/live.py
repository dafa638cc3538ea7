"""Live recognition: how long answers take, how many frames a second it keeps up with, and memory over an hour.

    python benchmarks/live.py speed zoo/nw_ucla/homogeneous VIDEO [--seconds 60] [--every 15]
    python benchmarks/live.py memory zoo/nw_ucla/homogeneous VIDEO [--frames 108000] [--answers 300] [--real-joints]

``speed`` plays the video in a loop at its own rate, then as fast as it can. ``memory`` pushes an hour's worth of
frames: the joints come from a stand-in that gives those of the video again and again, and everything else is real.
With ``--real-joints`` they are estimated in every frame, which takes about as long as the frames last: give fewer.

A model of phase 2 looks at the pictures too, unless ``--modality skeleton`` says otherwise. The window is the model's.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch

from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.pose.estimate import VideoPoseEstimator
from hhmnet.pose.estimators import Pose
from hhmnet.predict.capture import Capture
from hhmnet.predict.live import StreamingConfig, StreamingRecognizer
from hhmnet.sample import MODALITIES
from hhmnet.video import open_video


def main() -> None:
    """Measure what the command line says, and print it."""
    parser = argparse.ArgumentParser(description="Speed and memory of live recognition.")
    parser.add_argument("what", choices=("speed", "memory"))
    parser.add_argument("model", type=Path, help="folder with the model")
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=60, help="of each part of speed (60)")
    parser.add_argument("--every", type=int, default=15, help="frames from one answer to the next (15)")
    parser.add_argument(
        "--frames", type=int, default=108_000, help="frames of memory (108,000: an hour at 30 a second)"
    )
    parser.add_argument("--answers", type=int, default=300, help="answers given in them (300)")
    parser.add_argument("--real-joints", action="store_true", help="estimate joints in memory, too")
    parser.add_argument(
        "--modality", action="append", choices=MODALITIES, help="what to go by (all there is)"
    )
    options = parser.parse_args()
    print(f"{options.model}, {options.video.name}; {torch.get_num_threads()} threads of torch")
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, niceness {os.nice(0)}")
    if options.what == "speed":
        speed(options, real_time=True)
        speed(options, real_time=False)
    else:
        memory(options)


def streaming(
    options: argparse.Namespace, model: ActionModel, every: int, rate: float, networks: VideoPoseEstimator
) -> StreamingRecognizer:
    """As ``hhmnet live`` makes it."""
    config = StreamingConfig(every=every, rate=rate, modalities=tuple(options.modality or ()))
    recognizer = StreamingRecognizer(model, config, networks)
    print(f"{' and '.join(recognizer.modalities)}; a window of {recognizer.config.frames} frames")
    return recognizer


def speed(options: argparse.Namespace, real_time: bool) -> None:
    """One person, joints by the networks, from the video in a loop."""
    networks = VideoPoseEstimator()
    model = from_pretrained(options.model)
    with Capture(str(options.video), real_time, loop=True) as capture:
        recognizer = streaming(options, model, options.every, capture.rate, networks)
        latencies: list[float] = []
        own, busy, frames, count = {False: [], True: []}, 0.0, iter(capture), 0
        for _ in range(30):  # the first calls of every network are slow
            recognizer.push_frame(next(frames).image)
        recognizer.reset()
        dropped, begun, held = capture.dropped, time.monotonic(), resident()
        for frame in frames:
            worked = time.thread_time()
            answer = recognizer.push_frame(frame.image, frame.time)
            worked = time.thread_time() - worked
            own[answer is not None].append(worked)
            busy, count = busy + worked, count + 1
            if answer is not None:
                latencies.append(time.monotonic() - frame.captured)
            if time.monotonic() - begun > options.seconds:
                break
        elapsed, dropped = time.monotonic() - begun, capture.dropped - dropped
    print(
        f"\n{'played at its own rate' if real_time else 'as fast as possible'}, {capture.rate:.0f} frames/s:"
    )
    print(
        f"  frames looked at     {count:,} in {elapsed:.1f} s: {count / elapsed:.1f} frames/s; {dropped:,} dropped"
    )
    if real_time:
        middle, high, highest = 1000 * np.percentile(latencies, [50, 95, 99])
        print(
            f"  capture to answer    median {middle:.0f} ms, 95 % {high:.0f} ms, 99 % {highest:.0f} ms "
            f"({len(latencies)} answers)"
        )
    print(
        f"  processor time       {1000 * busy / count:.1f} ms a frame, one thread: "
        f"{count / busy:.1f} frames/s of a core"
    )
    print(f"  resident memory      {held:.1f} MiB at the beginning, {resident():.1f} MiB at the end")
    for name, kind in (("frame alone", False), ("with answer", True)):
        middle, high = 1000 * np.percentile(own[kind], [50, 95])
        print(f"    {name}        median {middle:.0f} ms, 95 % {high:.0f} ms")


class Recorded:
    """Stands in for detector and estimator: what they found in a video, again and again."""

    def __init__(self, networks: VideoPoseEstimator, video: Path, frames: int) -> None:
        self.layout = networks.estimator.layout
        self._detections: list[tuple[np.ndarray, np.ndarray]] = []
        self._poses: list[Pose] = []
        self._images: list[np.ndarray] = []
        self.place = 0
        region = None
        with open_video(video) as pictures:
            for _, image in itertools.islice(pictures, frames):
                self._detections.append(networks.detector.detect(image))
                box = np.array([*self._detections[-1][0], [0, 0, 9, 9]])[0]
                self._poses.append(networks.estimator.estimate(image, box, region))
                region = self._poses[-1].region
                self._images.append(image)

    @property
    def image(self) -> np.ndarray:
        """The frame that is shown."""
        return self._images[self._turn]

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the frame that is shown."""
        return self._detections[self._turn]

    def estimate(self, image: np.ndarray, box: np.ndarray, region: np.ndarray | None = None) -> Pose:
        """Those of the frame that is shown."""
        return self._poses[self._turn]

    @property
    def _turn(self) -> int:
        """Forwards and backwards, so that nobody jumps."""
        place = self.place % (2 * len(self._poses))
        return min(place, 2 * len(self._poses) - 1 - place)


def memory(options: argparse.Namespace) -> None:
    """Resident memory while frames go by."""
    networks = VideoPoseEstimator()
    model = from_pretrained(options.model)
    recorded = Recorded(networks, options.video, 40)
    every = max(options.frames // options.answers, 1)
    if not options.real_joints:
        networks = VideoPoseEstimator(networks.config, recorded, recorded)
    recognizer = streaming(options, model, every, 30.0, networks)
    begun, answers, persons = time.monotonic(), 0, set()
    print(f"\n{options.frames:,} frames, an answer every {every}:")
    for frame in range(options.frames):
        recorded.place = frame
        answer = recognizer.push_frame(recorded.image)
        if answer is not None:
            answers += answer.label is not None
            persons.add(answer.person)
        if (frame + 1) % (options.frames // 12) == 0:
            print(
                f"  after {frame + 1:8,} frames ({(frame + 1) / 108_000 * 60:5.1f} min): {resident():7.1f} MiB",
                flush=True,
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {answers} answers on person {persons}, {time.monotonic() - begun:.0f} s; peak {peak:.1f} MiB")


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
