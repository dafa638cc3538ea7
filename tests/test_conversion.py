from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hhmnet.conversion import Camera, convert, project
from hhmnet.skeleton import BLAZEPOSE33, COCO17, KINECT20, NTU25, LayoutError, SkeletonLayout
from made_poses import body

CAMERA = Camera(500, 510, 320, 240, (640, 480))


def clip(layout: SkeletonLayout, *shape: int) -> np.ndarray:
    """Joints about three metres from the camera."""
    joints = np.random.default_rng(0).normal(0, 0.4, (*shape, layout.num_joints, 3)).astype(np.float32)
    return joints + np.array([0, 0, 3], np.float32)


def at(joints: np.ndarray, layout: SkeletonLayout, *names: str) -> np.ndarray:
    return joints[..., [layout.index(name) for name in names], :]


MEANS = {
    "kinect20": {"hip_center": "spine_base", "shoulder_center": "neck", "spine": "spine_base spine_mid"},
    "ntu25": {
        "spine_base": "hip_center",
        "neck": "shoulder_center",
        "spine_mid": "hip_center shoulder_center",
    },
}
MEANS["ntu25"]["spine_shoulder"] = "shoulder_center left_shoulder right_shoulder"


@pytest.mark.parametrize(("source", "target"), [(NTU25, KINECT20), (KINECT20, NTU25), (NTU25, NTU25)])
def test_joint_by_joint(source: SkeletonLayout, target: SkeletonLayout) -> None:
    """A joint is that of its name, or a mean; hand tips and thumbs are missing."""
    joints = clip(source, 2, 5)
    converted, trust = convert(joints, source, target)
    assert converted.dtype == trust.dtype == np.float32
    means = {} if source == target else MEANS[target.name]
    for place, name in enumerate(target.joints):
        parts = means.get(name, name).split()
        is_made = set(parts) <= set(source.joints)
        expected = at(joints, source, *parts).mean(-2) if is_made else np.zeros((2, 5, 3))
        np.testing.assert_allclose(converted[..., place, :], expected, rtol=1e-6)
        assert (trust[..., place] == is_made).all()


@pytest.mark.parametrize(
    ("target", "heights"),
    [
        (KINECT20, {"hip_center": 0.45 / 7, "spine": 0.45 / 4, "shoulder_center": 0.45 + 0.2 / 3, "head": 0.65}),
        (NTU25, {"spine_mid": 0.225, "spine_shoulder": 0.45, "neck": 0.45 + 0.2 / 3, "head": 0.65}),
    ],
    ids=["kinect20", "ntu25"],
)  # fmt: skip
def test_a_person_from_video_stands_as_kinects_see(target: SkeletonLayout, heights: dict[str, float]) -> None:
    """Metres from the hips, y up: shoulders are at 0.45, ears at 0.65."""
    made, _ = convert(body(BLAZEPOSE33)[0] * (1, -1, 1), BLAZEPOSE33, target)
    for joint, height in heights.items():
        assert made[target.index(joint), :2] == pytest.approx([0, height], abs=1e-5)
    order = [made[target.index(f"left_{joint}"), 1] for joint in ("foot", "ankle", "knee", "hip", "shoulder")]
    assert order == sorted(order)
    for joint in ("shoulder", "hand", "foot"):  # left is left
        assert made[target.index(f"left_{joint}"), 0] > 0 > made[target.index(f"right_{joint}"), 0]


def test_coco_joints_are_seen_by_the_camera() -> None:
    joints = clip(KINECT20, 2, 5)
    joints[0, 2] = 0  # an absent body is seen nowhere
    pixels, trust = convert(joints, KINECT20, COCO17, camera=CAMERA)
    for name in ("left_shoulder", "right_ankle", "nose"):
        x, y, z = at(joints, KINECT20, "head" if name == "nose" else name)[1, 3, 0]
        expected = [320 + 500 * x / z, 240 - 510 * y / z]
        np.testing.assert_allclose(at(pixels, COCO17, name)[1, 3, 0], expected, rtol=1e-5)
    assert not at(pixels, COCO17, "left_eye", "right_eye", "left_ear", "right_ear").any()
    assert trust.sum(-1).tolist() == [[13, 13, 0, 13, 13], [13] * 5]
    seen = project(np.array([[1, 0.5, 2.0], [0, 0, 0], [1, 1, -1], [1e30, 0, 1e-30]]), CAMERA)
    np.testing.assert_allclose(seen, [[570, 112.5], *[[np.nan] * 2] * 3])
    half = project(joints[1], CAMERA.resized(320, 120))
    # Pixel 0 of the small picture covers pixels 0 and 1 of the large one, whose middle is 0.5.
    np.testing.assert_allclose((half + 0.5) * [2, 4] - 0.5, project(joints[1], CAMERA), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "target", "keep"),
    [(KINECT20, NTU25, False), (NTU25, COCO17, True), (BLAZEPOSE33, KINECT20, False)],
)
def test_a_joint_is_as_sure_as_its_parts(source: SkeletonLayout, target: SkeletonLayout, keep: bool) -> None:
    joints = clip(source, 50)
    rng = np.random.default_rng(1)
    trust = rng.choice(np.float32([0, 0.25, 0.5, 1]), joints.shape[:-1], p=[0.1, 0.1, 0.1, 0.7])
    made, trusted = convert(joints, source, target, trust, CAMERA, keep_missing=keep)
    sure, _ = convert(joints, source, target, camera=CAMERA)
    np.testing.assert_array_equal(made, sure if keep else sure * (trusted > 0)[..., None])
    for joint in range(source.num_joints):  # it follows each joint that moves it, and no other
        moved, lost = joints.copy(), trust.copy()
        moved[:, joint] += 0.5
        lost[:, joint] = 0
        is_part = (convert(moved, source, target, camera=CAMERA)[0] != sure).any((0, -1))
        assert (trusted[:, is_part] <= trust[:, joint, None]).all()
        assert not (convert(joints, source, target, lost, CAMERA)[1] != trusted)[:, ~is_part].any()


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (KINECT20, COCO17, r"kinect20 is in metres and coco17 in pixels; give the camera, .*camera="),
        (COCO17, NTU25, "coco17 has no depth, so it can't become ntu25; estimate 3-D joints"),
        (replace(KINECT20, name="mine"), NTU25, "no conversion from mine to ntu25 .* there are: ntu25 →"),
    ],
)
def test_where_there_is_no_way(source: SkeletonLayout, target: SkeletonLayout, reason: str) -> None:
    with pytest.raises(LayoutError, match=reason):
        convert(clip(source)[..., : source.dims], source, target)
