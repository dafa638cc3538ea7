"""The real networks, where they are in the cache, on real videos, where HHMNET_DATA names the folder that has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hhmnet.pose.base import iou
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.pose.networks import NETWORKS, is_cached, network
from hhmnet.skeleton import BLAZEPOSE33, NTU25
from hhmnet.video import open_video

pytest.importorskip("ai_edge_litert", reason="the networks need the package ai-edge-litert")
if not all(is_cached(name) for name in NETWORKS):
    pytest.skip("the networks aren't in the cache; `python -m hhmnet.pose fetch`", allow_module_level=True)

from hhmnet.pose.detectors import CloseDetector, PersonDetector, anchors
from hhmnet.pose.estimators import BlazePose, MoveNet

DATA = os.environ.get("HHMNET_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="HHMNET_DATA doesn't name the folder of real data")


def tennis(name: str) -> Path:
    assert DATA is not None
    return Path(DATA) / "tennis" / "videos" / name


def kinect_pixels() -> tuple[Path, np.ndarray, np.ndarray]:
    """The one NTU video, where its Kinect saw the joints, ``(T, 25, 2)``, and whether it really saw them."""
    assert DATA is not None
    name = "S001C001P001R001A001"
    lines = iter((Path(DATA) / "ntu" / f"{name}.skeleton").read_text().split("\n"))
    frames = []
    for _ in range(int(next(lines))):
        assert int(next(lines)) == 1
        next(lines)
        frames.append([next(lines).split() for _ in range(int(next(lines)))])
    values = np.array(frames, float)
    return Path(DATA) / "ntu" / f"{name}_rgb.avi", values[..., 5:7], values[..., 11] == 2


def test_nobody_is_in_an_empty_picture() -> None:
    grey = np.full((270, 480, 3), 128, np.uint8)
    assert len(PersonDetector(network("ssd")).detect(grey).boxes) == 0
    assert len(CloseDetector(network("blazepose_detector")).detect(grey).boxes) == 0
    for estimator in (BlazePose(network("blazepose")), MoveNet(network("movenet"))):
        poses = estimator.estimate(grey, np.float32([[100, 50, 200, 250]]))
        assert poses.pixels.shape == (1, estimator.layout.num_joints, 2)
        assert poses.found[0] < 0.5


def test_no_boxes_give_no_poses() -> None:
    poses = BlazePose(network("blazepose")).estimate(np.zeros((60, 80, 3), np.uint8), np.zeros((0, 4)))
    assert poses.pixels.shape == (0, 33, 2)
    assert poses.world is not None
    assert poses.world.shape == (0, 33, 3)


def test_the_close_detector_has_as_many_anchors_as_outputs() -> None:
    assert anchors().shape == (2254, 2)


@needs_data
@pytest.mark.parametrize("size", [300, 400, 640])
def test_the_detector_finds_the_same_box_at_any_size(size: int) -> None:
    with open_video(tennis("t100.mp4")) as video:
        image = video.frame(0)
    boxes = [PersonDetector(network("ssd"), side).detect(image).boxes[0] for side in (512, size)]
    assert iou(boxes[0][None], boxes[1][None])[0, 0] > 0.75


@needs_data
@pytest.mark.parametrize("estimator", ["blazepose", "movenet"])
def test_joints_lie_where_the_kinect_saw_them(estimator: str) -> None:
    path, truth, tracked = kinect_pixels()
    found = VideoPoseEstimator(PoseConfig(estimator=estimator, mirrored=True)).estimate(path)
    assert found.present.all()
    tall = np.median(found.boxes[0, :, 3] - found.boxes[0, :, 1])
    joints = ["shoulder", "elbow", "wrist", "knee", "ankle"]
    for joint in [f"{side}_{joint}" for side in ("left", "right") for joint in joints]:
        place = NTU25.index(joint)
        apart = np.linalg.norm(found.pixels[0, :, found.layout.index(joint)] - truth[:, place], axis=1)
        assert np.median(apart[tracked[:, place]]) < 0.05 * tall, joint


@needs_data
def test_metres_are_those_of_a_person() -> None:
    path, _, _ = kinect_pixels()
    world = VideoPoseEstimator(PoseConfig(mirrored=True)).estimate(path).world
    assert world is not None
    for bone, (least, most) in {
        "hip knee": (0.3, 0.5),
        "knee ankle": (0.3, 0.5),
        "shoulder elbow": (0.2, 0.36),
    }.items():
        for side in ("left", "right"):
            a, b = (world[0, :, BLAZEPOSE33.index(f"{side}_{joint}")] for joint in bone.split())
            assert least < np.median(np.linalg.norm(a - b, axis=-1)) < most
    hips = (world[0, :, BLAZEPOSE33.index("left_hip")] + world[0, :, BLAZEPOSE33.index("right_hip")]) / 2
    assert np.abs(hips).max() < 0.05


@needs_data
def test_the_close_detector_finds_who_fills_the_picture() -> None:
    path, truth, _ = kinect_pixels()
    with open_video(path) as video:
        image = video.frame(50)
    body = truth[50]
    left, top = (body.min(0) - 100).astype(int)
    right, bottom = (body.max(0) + 100).astype(int)
    piece = np.ascontiguousarray(image[top:bottom, left:right])
    found = CloseDetector(network("blazepose_detector")).detect(piece)
    assert found.scores[0] > 0.5
    center = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
    np.testing.assert_allclose(center, body[NTU25.index("spine_base")] - [left, top], atol=60)
