"""Where persons are in pictures, and how large."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest

from hhmnet.data.places import person_sizes
from hhmnet.skeleton import KINECT20, LAYOUTS, SkeletonLayout
from made_crops import made_clip


def index(layout: SkeletonLayout, *names: str) -> list[int]:
    return [layout.index(name) for name in names]


def way_length(pixels: np.ndarray, known: np.ndarray, joints: list[int]) -> float:
    """Length of the way through these joints; a bone that isn't known counts as long as the others on average."""
    bones = [math.dist(pixels[a], pixels[b]) for a, b in pairwise(joints) if known[a] and known[b]]
    return sum(bones) * (len(joints) - 1) / len(bones) if bones and sum(bones) else math.nan


WAYS = {
    "kinect20": "head shoulder_center spine hip_center {0}_hip {0}_knee {0}_ankle {0}_foot",
    "ntu25": "head neck spine_shoulder spine_mid spine_base {0}_hip {0}_knee {0}_ankle {0}_foot",
    "coco17": "right_ear right_eye nose {0}_shoulder {0}_hip {0}_knee {0}_ankle",
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_size_along_the_bones(name, missing):
    layout = LAYOUTS[name]
    rng = np.random.default_rng(2)
    pixels = rng.uniform(1, 60, (1, 9, layout.num_joints, 2)).astype(np.float32)
    confidence = (rng.random(pixels.shape[:3]) >= missing).astype(np.float32)
    sample = made_clip(
        frames=9,
        pixels=pixels,
        confidence=confidence,
        joints=np.ones((*pixels.shape[:3], layout.dims), np.float32),
    )
    found = person_sizes(sample, layout)
    for t in range(9):
        lengths = [
            way_length(pixels[0, t], confidence[0, t], index(layout, *WAYS[name].format(side).split()))
            for side in ("left", "right")
        ]
        known = [length for length in lengths if not math.isnan(length)]
        if known:
            assert found[t] == pytest.approx(max(known), rel=1e-5)
        else:
            assert math.isnan(found[t]) or found[t] < 60


def test_size_without_bones_is_the_box_or_what_the_joints_span(chain):
    pixels = np.array([[1, 1], [4, 9], [2, 2], [3, 3], [3, 5]], np.float32)
    plain = made_clip(frames=3, pixels=np.stack([pixels] * 3)[None], joints=np.ones((1, 3, 5, 3), np.float32))
    assert person_sizes(plain, chain).tolist() == [8, 8, 8]  # its head is its foot: no bones lie between them
    boxes = np.array([[[0, 0, 10, 30], [5, 5, 5, 5], [0, 0, 50, 10]]], np.float32)
    boxed = dataclasses.replace(plain, boxes=boxes)
    assert person_sizes(boxed, chain).tolist() == [30, 8, 50]
    assert person_sizes(dataclasses.replace(made_clip(frames=3), boxes=boxes), KINECT20)[0] != 30
    gone = dataclasses.replace(
        boxed, present=np.zeros((1, 3), bool), joints=np.zeros((1, 3, 5, 3), np.float32)
    )
    assert np.isnan(person_sizes(gone, chain)).all()
