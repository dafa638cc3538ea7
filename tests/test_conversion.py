from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hhmnet.conversion import KINECT_V1_DEPTH, Camera, convert, project, trunk_means
from hhmnet.skeleton import BLAZEPOSE33, COCO17, KINECT20, NTU25, LayoutError, SkeletonLayout

CAMERA = Camera(500, 510, 320, 240, (640, 480))
LIMBS = [
    f"{side}_{joint}"
    for side in ("left", "right")
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]
ENDS = ["left_hand", "right_hand", "left_foot", "right_foot"]


def clip(layout: SkeletonLayout, *shape: int) -> np.ndarray:
    """Joints about three metres from the camera."""
    joints = np.random.default_rng(0).normal(0, 0.4, (*shape, layout.num_joints, 3)).astype(np.float32)
    return joints + np.array([0, 0, 3], np.float32)


def at(joints: np.ndarray, layout: SkeletonLayout, *names: str) -> np.ndarray:
    return joints[..., [layout.index(name) for name in names], :]


KINECTS = [
    *(("hip_center", "spine_base"), ("shoulder_center", "neck"), ("spine", "spine_base spine_mid")),
    *((name, name) for name in (*LIMBS, *ENDS, "head")),
]
BACK = [
    *(("spine_base", "hip_center"), ("neck", "shoulder_center"), ("spine_mid", "hip_center shoulder_center")),
    *(("spine_shoulder", "shoulder_center left_shoulder right_shoulder"),),
    *((name, name) for name in (*LIMBS, *ENDS, "head")),
]


@pytest.mark.parametrize(
    ("source", "target", "means", "missing"),
    [
        (NTU25, KINECT20, KINECTS, []),
        (KINECT20, NTU25, BACK, ["left_hand_tip", "right_hand_tip", "left_thumb", "right_thumb"]),
        (BLAZEPOSE33, BLAZEPOSE33, [(name, name) for name in BLAZEPOSE33.joints], []),
    ],
    ids=["ntu25 → kinect20", "kinect20 → ntu25", "to itself"],
)
def test_joint_by_joint(
    source: SkeletonLayout, target: SkeletonLayout, means: list[tuple[str, str]], missing: list[str]
) -> None:
    joints = clip(source, 2, 5)
    converted, trust = convert(joints, source, target)
    assert converted.dtype == trust.dtype == np.float32
    assert {name for name, _ in means} | set(missing) == set(target.joints)
    for name, parts in means:
        expected = at(joints, source, *parts.split()).mean(-2)
        np.testing.assert_allclose(at(converted, target, name)[..., 0, :], expected, rtol=1e-6)
    assert not at(converted, target, *missing).any()
    assert trust.sum(-1) == pytest.approx(np.full((2, 5), len(means)))


def standing() -> np.ndarray:
    """A person of BlazePose's joints, metres from the hips, y up; joints that aren't named lie at the ears."""
    places = {"ear": (0.08, 0.75), "shoulder": (0.2, 0.5), "elbow": (0.25, 0.25), "wrist": (0.25, 0.0)}
    places |= {"index": (0.26, -0.1), "pinky": (0.28, -0.1), "thumb": (0.22, -0.05), "hip": (0.15, 0.0)}
    places |= {"knee": (0.15, -0.4), "ankle": (0.15, -0.8), "heel": (0.15, -0.85), "foot": (0.15, -0.88)}
    joints = np.zeros((33, 3), np.float32)
    for i, name in enumerate(BLAZEPOSE33.joints):
        side, _, joint = name.partition("_")
        x, y = places.get(joint, places["ear"])
        joints[i, :2] = (-x if side == "right" else x, y)
    return joints


@pytest.mark.parametrize(
    ("target", "heights"),
    [
        (
            KINECT20,
            {"hip_center": 0.5 / 7, "spine": 0.5 / 4, "shoulder_center": 0.5 + 0.25 / 3, "head": 0.75},
        ),
        (
            NTU25,
            {"spine_base": 0, "spine_mid": 0.25, "spine_shoulder": 0.5, "neck": 0.5 + 0.25 / 3, "head": 0.75},
        ),
    ],
    ids=["kinect20", "ntu25"],
)
def test_a_person_from_video_stands_in_kinects_layouts(
    target: SkeletonLayout, heights: dict[str, float]
) -> None:
    made, _ = convert(standing(), BLAZEPOSE33, target)
    for joint, height in heights.items():
        assert made[target.index(joint), :2] == pytest.approx([0, height], abs=1e-5)
    order = [
        float(made[target.index(f"left_{joint}"), 1])
        for joint in ("foot", "ankle", "knee", "hip", "shoulder")
    ]
    assert order == sorted(order)
    for joint in ("shoulder", "hand", "foot"):  # left is left
        assert made[target.index(f"left_{joint}"), 0] > 0 > made[target.index(f"right_{joint}"), 0]


@pytest.mark.parametrize("source", [KINECT20, NTU25], ids=lambda layout: layout.name)
def test_coco_joints_are_seen_by_the_camera(source: SkeletonLayout) -> None:
    joints = clip(source, 2, 5)
    joints[0, 2] = 0  # an absent body is seen nowhere
    pixels, trust = convert(joints, source, COCO17, camera=CAMERA)
    for name in (*LIMBS, "nose"):
        x, y, z = at(joints, source, "head" if name == "nose" else name)[1, 3, 0]
        np.testing.assert_allclose(
            at(pixels, COCO17, name)[1, 3, 0], [320 + 500 * x / z, 240 - 510 * y / z], rtol=1e-5
        )
    unseen = [COCO17.index(name) for name in ("left_eye", "right_eye", "left_ear", "right_ear")]
    assert not trust[..., unseen].any()
    assert not pixels[..., unseen, :].any()
    assert trust.sum(-1).tolist() == [[13, 13, 0, 13, 13], [13] * 5]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("source", "target"), [(NTU25, KINECT20), (KINECT20, NTU25), (NTU25, COCO17), (BLAZEPOSE33, KINECT20)]
)
def test_a_joint_is_as_sure_as_the_least_sure_it_is_made_of(
    source: SkeletonLayout, target: SkeletonLayout, keep: bool
) -> None:
    joints = clip(source, 50)
    trust = np.random.default_rng(1).choice(
        np.float32([0, 0.25, 0.5, 1]), joints.shape[:-1], p=[0.1, 0.1, 0.1, 0.7]
    )
    made, trusted = convert(joints, source, target, trust, CAMERA, keep_missing=keep)
    sure, _ = convert(joints, source, target, camera=CAMERA)
    np.testing.assert_array_equal(made, sure if keep else sure * (trusted > 0)[..., None])
    for joint in range(source.num_joints):  # it follows each joint that moves it, and no other
        moved = joints.copy()
        moved[:, joint] += 0.5
        is_part = (convert(moved, source, target, camera=CAMERA)[0] != sure).any((0, -1))
        assert (trusted[:, is_part] <= trust[:, joint, None]).all()
        trust_here = trust.copy()
        trust_here[:, joint] = 0
        changed = convert(joints, source, target, trust_here, CAMERA)[1] != trusted
        assert not changed[:, ~is_part].any()


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (KINECT20, COCO17, r"kinect20 is in metres and coco17 in pixels; give the camera .*camera="),
        (COCO17, NTU25, "coco17 has no depth, so it can't become ntu25; estimate 3-D joints"),
        (
            replace(KINECT20, name="mine"),
            NTU25,
            "no conversion from mine to ntu25 is defined; there are: ntu25 →",
        ),
        (
            NTU25,
            replace(KINECT20, joints=tuple("abcdefghijklmnopqrst")),
            "no conversion from ntu25 to kinect20",
        ),
    ],
)
def test_where_there_is_no_way(source: SkeletonLayout, target: SkeletonLayout, reason: str) -> None:
    with pytest.raises(LayoutError, match=reason):
        convert(clip(source)[..., : source.dims], source, target)


def test_projection_by_hand() -> None:
    seen = project(
        np.array([[0, 0, 2], [1, 0.5, 2], [-1, -1, 4], [0, 0, 0], [1, 1, -1], [1e30, 0, 1e-30]]), CAMERA
    )
    np.testing.assert_allclose(seen[:3], [[320, 240], [570, 112.5], [195, 367.5]])
    assert np.isnan(seen[3:]).all()
    np.testing.assert_allclose(project(np.array([1, 0.5, 2.0]), replace(CAMERA, fx=-500)), [70, 112.5])
    points = clip(KINECT20)
    half = project(points, CAMERA.resized(320, 120))
    # Pixel 0 of the small picture covers pixels 0 and 1 of the large one, whose middle is 0.5.
    np.testing.assert_allclose((half + 0.5) * [2, 4] - 0.5, project(points, CAMERA), rtol=1e-4, atol=1e-3)
    assert KINECT_V1_DEPTH.resized(640, 480).fx == pytest.approx(571.26)


@pytest.mark.parametrize(
    ("layout", "derived"),
    [
        (KINECT20, {"hip_center", "spine", "shoulder_center"}),
        (NTU25, {"spine_base", "spine_mid", "spine_shoulder", "neck"}),
    ],
    ids=["kinect20", "ntu25"],
)
def test_a_derived_trunk_follows_from_hips_shoulders_and_head(
    layout: SkeletonLayout, derived: set[str]
) -> None:
    shares = trunk_means(layout)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares @ shares, shares, atol=1e-6)
    trunk = [joint for joint in range(layout.num_joints) if shares[joint, joint] != 1]
    assert {layout.joints[joint] for joint in trunk} == derived
    assert not shares[:, trunk].any()
    # Joints from video are there already, so that deriving them again changes nothing.
    estimated, _ = convert(clip(BLAZEPOSE33), BLAZEPOSE33, layout)
    np.testing.assert_allclose(shares @ estimated, estimated, atol=1e-5)
    with pytest.raises(LayoutError, match="can be derived in kinect20 and ntu25, not in coco17"):
        trunk_means(COCO17)
