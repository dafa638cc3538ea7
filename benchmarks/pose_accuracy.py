"""How far estimated joints lie from a Kinect's, on NTU RGB+D clips whose colour video is there.

    python benchmarks/pose_accuracy.py --source DIR

Only frames count in which the Kinect says that it tracked the joint. The Kinect is no ground truth either: its joints
are defined otherwise, most of all at shoulders, hips and ankles.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from hhmnet.conversion import convert
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, VideoPoses
from hhmnet.pose.following import kinect_axes, root_path
from hhmnet.readers.ntu import NTU120
from hhmnet.sample import Sample
from hhmnet.skeleton import NTU25

FOCAL = 1060 / 1920
"""About a Kinect v2's colour camera, as a share of the longer side."""
JOINTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def main() -> None:
    """Compare, and print a table for each clip."""
    parser = argparse.ArgumentParser(description="Estimated joints beside a Kinect's.")
    parser.add_argument(
        "--source", type=Path, required=True, help="folder of NTU's .skeleton files and videos"
    )
    options = parser.parse_args()
    reader = NTU120(options.source)
    estimator = VideoPoseEstimator(PoseConfig(mirrored=True))
    for item in reader.items():
        sample = reader.read(item, Counter())
        if sample.video and sample.num_persons == 1:
            compare(estimator, sample, options.source / sample.video)


def compare(estimator: VideoPoseEstimator, sample: Sample, video: Path) -> None:
    """Print the median distances of one clip."""
    assert sample.pixels is not None
    assert sample.confidence is not None
    found = estimator.estimate(video)
    tall = float(np.median(found.boxes[0, :, 3] - found.boxes[0, :, 1]))
    print(
        f"{sample.sample_id}: {found.present[0].sum()} of {len(found.present[0])} frames, {tall:.0f} pixels tall"
    )
    print(f"{'joint':16} {'tracked':>8} {'pixels':>7} {'% of height':>12} {'cm from the hips':>17}")
    cm = 100 * metres_apart(found, sample)
    for joint in (f"{side}_{name}" for name in JOINTS for side in ("left", "right")):
        place = NTU25.index(joint)
        tracked = (sample.confidence[0, :, place] == 1) & found.present[0]
        apart = np.linalg.norm(
            found.pixels[0, :, found.layout.index(joint)] - sample.pixels[0, :, place], axis=1
        )
        pixels = float(np.median(apart[tracked]))
        depth = f"{np.median(cm[tracked, place]):17.0f}"
        print(f"{joint:16} {tracked.mean():8.2f} {pixels:7.1f} {100 * pixels / tall:12.1f} {depth}")
    ours, kinect = (", ".join(f"{x:.2f}" for x in np.median(way, 0)) for way in ways(found, sample))
    print(f"hips, metres from the camera (x, y, z): {ours}; Kinect: {kinect}")


def metres_apart(found: VideoPoses, sample: Sample) -> np.ndarray:
    """Distance of every joint ``(T, 25)`` from the Kinect's, both measured from the hips."""
    ours = _joints(found)
    return np.asarray(
        np.linalg.norm((ours - ours[:, :1]) - (sample.joints[0] - sample.joints[0, :, :1]), axis=-1)
    )


def ways(found: VideoPoses, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The hips' way ``(T, 3)``, ours and the Kinect's."""
    return _joints(found)[:, 0], sample.joints[0, :, 0]


def _joints(found: VideoPoses) -> np.ndarray:
    """NTU's joints in a Kinect's axes, ``(T, 25, 3)``."""
    world, _ = convert(found.world, found.layout, NTU25, found.confidence, keep_missing=True)
    path = root_path(
        found.world[0], found.pixels[0], found.confidence[0], found.present[0], found.size, FOCAL
    )
    return kinect_axes(world[0] + path[:, None], mirrored=True)


if __name__ == "__main__":
    main()
