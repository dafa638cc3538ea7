from __future__ import annotations

from pathlib import Path

import numpy as np
import pose_accuracy
import pytest

from hhmnet.conversion import convert
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.sample import Sample
from hhmnet.skeleton import NTU25
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight

FRAMES = 12


def test_distances_are_those_between_the_joints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = tmp_path / "clip.mkv"
    MadeVideo(video, FRAMES)
    player = straight((100, 130), (0, 0), (60, 140))
    estimator = VideoPoseEstimator(PoseConfig(mirrored=True), KnowingDetector(player), BoxEstimator())
    found = estimator.estimate(video)
    pixels, _ = convert(found.pixels, found.layout, NTU25, found.confidence)
    confidence = np.ones((1, FRAMES, 25), np.float32)
    confidence[:, 6:, NTU25.index("left_knee")] = 0.5
    pixels[:, 6:, NTU25.index("left_knee")] += 1000  # the Kinect only inferred it there
    joints = pose_accuracy._joints(found)[None].astype(np.float32)
    sample = Sample(
        sample_id="made",
        label=0,
        joints=joints + np.float32([0, 0, 1]),
        present=np.ones((1, FRAMES), bool),
        frame_index=np.arange(FRAMES, dtype=np.int32),
        pixels=pixels + np.float32([3, 4]),
        confidence=confidence,
    )
    pose_accuracy.compare(estimator, sample, video)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"made: {FRAMES} of {FRAMES} frames")
    figures = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in lines[2:-1]}
    assert len(figures) == 12
    assert figures["right_wrist"][:2] == [1.0, 5.0]
    assert figures["left_knee"][:2] == [0.5, 5.0]
    assert all(values[3] == 0 for values in figures.values())  # both are measured from the hips
    depth = pose_accuracy.ways(found, sample)[1][0, 2] - pose_accuracy.ways(found, sample)[0][0, 2]
    assert depth == pytest.approx(1, abs=1e-4)
