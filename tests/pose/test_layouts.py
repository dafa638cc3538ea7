from __future__ import annotations

import numpy as np
import pytest

from hhmnet.pose.clips import mix, targets
from hhmnet.pose.networks import PoseError
from hhmnet.skeleton import BLAZEPOSE33, COCO17, KINECT20, LAYOUTS, NTU25


def standing() -> np.ndarray:
    """A person of BlazePose's joints, metres from the hips, y down; joints that aren't named lie at the ears."""
    places = {"ear": (0.08, -0.75), "shoulder": (0.2, -0.5), "elbow": (0.25, -0.25), "wrist": (0.25, 0.0)}
    places |= {"index": (0.26, 0.1), "pinky": (0.28, 0.1), "thumb": (0.22, 0.05), "hip": (0.15, 0.0)}
    places |= {"knee": (0.15, 0.4), "ankle": (0.15, 0.8), "heel": (0.15, 0.85), "foot": (0.15, 0.88)}
    joints = np.zeros((33, 3), np.float32)
    for i, name in enumerate(BLAZEPOSE33.joints):
        side, _, joint = name.partition("_")
        x, y = places.get(joint, places["ear"])
        joints[i, :2] = (x if side == "left" else -x, y)
    return joints


def test_every_target_is_a_known_layout_and_works() -> None:
    for source in (BLAZEPOSE33, COCO17):
        assert source.name in targets(source)
        for name in targets(source):
            points = np.ones((2, 4, source.num_joints, 2), np.float32)
            made, trust = mix(points, np.full(points.shape[:-1], 0.7, np.float32), source, LAYOUTS[name])
            assert made.shape == (2, 4, LAYOUTS[name].num_joints, 2)
            np.testing.assert_allclose(made, 1, rtol=1e-6)
            np.testing.assert_allclose(trust, 0.7)


@pytest.mark.parametrize("target", [KINECT20, NTU25])
def test_a_standing_person_stands_in_kinects_layouts(target: object) -> None:
    assert isinstance(target, type(KINECT20))
    made, _ = mix(standing(), np.ones(33, np.float32), BLAZEPOSE33, target)
    height = {joint: -float(made[target.index(joint), 1]) for joint in target.joints}
    order = ["foot", "ankle", "knee", "hip", "shoulder"]
    assert sorted(order, key=lambda joint: height[f"left_{joint}"]) == order
    middle = ["hip_center", "spine", "shoulder_center", "head"]
    if target is NTU25:
        middle = ["spine_base", "spine_mid", "spine_shoulder", "neck", "head"]
    assert sorted(middle, key=lambda joint: height[joint]) == middle
    np.testing.assert_allclose([made[target.index(joint), 0] for joint in middle], 0, atol=1e-6)
    for joint in ("shoulder", "hand", "foot"):  # left is left
        assert made[target.index(f"left_{joint}"), 0] > 0 > made[target.index(f"right_{joint}"), 0]


def test_heights_of_the_kinects_middle_joints() -> None:
    made, _ = mix(standing(), np.ones(33, np.float32), BLAZEPOSE33, KINECT20)
    heights = [-float(made[KINECT20.index(joint), 1]) for joint in ("hip_center", "spine", "shoulder_center")]
    assert heights == pytest.approx([0.5 / 7, 0.5 / 4, 0.5 + 0.25 / 3], abs=1e-5)


def test_joints_of_one_name_are_the_same() -> None:
    points = np.random.default_rng(0).normal(size=(33, 2)).astype(np.float32)
    made, _ = mix(points, np.ones(33, np.float32), BLAZEPOSE33, COCO17)
    for i, name in enumerate(COCO17.joints):
        np.testing.assert_allclose(made[i], points[BLAZEPOSE33.index(name)], rtol=1e-6)


def test_a_mean_is_as_trusted_as_its_least_trusted_joint() -> None:
    trust = np.ones(33, np.float32)
    trust[BLAZEPOSE33.index("left_hip")] = 0.3
    trust[BLAZEPOSE33.index("left_ear")] = 0
    made, found = mix(standing(), trust, BLAZEPOSE33, KINECT20)
    assert found[KINECT20.index("hip_center")] == pytest.approx(0.3)
    assert found[KINECT20.index("head")] == 0
    ears = [BLAZEPOSE33.index("left_ear"), BLAZEPOSE33.index("right_ear")]
    np.testing.assert_allclose(made[KINECT20.index("head")], standing()[ears].mean(0), rtol=1e-6)


def test_two_dimensions_do_not_become_three() -> None:
    with pytest.raises(PoseError, match="coco17 can't become kinect20; choose one of coco17"):
        mix(np.zeros((17, 2)), np.zeros(17), COCO17, KINECT20)
