from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hhmnet.conversion import KINECT_V1_COLOR, KINECT_V1_DEPTH, Camera, convert, project, trunk_means
from hhmnet.pose.clips import mix
from hhmnet.skeleton import BLAZEPOSE33, COCO17, KINECT20, NTU25, LayoutError, SkeletonLayout

CAMERA = Camera(500, 510, 320, 240, (640, 480))
LIMBS = [
    f"{side}_{joint}"
    for side in ("left", "right")
    for joint in ["shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
]


def clip(layout: SkeletonLayout, seed: int = 0, shape: tuple[int, ...] = (2, 5)) -> np.ndarray:
    """Joints about three metres from the camera."""
    joints = np.random.default_rng(seed).normal(0, 0.4, (*shape, layout.num_joints, 3)).astype(np.float32)
    return joints + np.array([0, 0, 3], np.float32)


def at(joints: np.ndarray, layout: SkeletonLayout, *names: str) -> np.ndarray:
    return joints[..., [layout.index(name) for name in names], :]


def turn(x: float, y: float, z: float) -> np.ndarray:
    """A rotation, written out from its three angles."""
    a = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    b = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    c = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return a @ b @ c


def test_ntu_to_kinect_joint_by_joint() -> None:
    joints = clip(NTU25)
    found, trust = convert(joints, NTU25, KINECT20)
    assert found.dtype == trust.dtype == np.float32
    assert found.shape == (2, 5, 20, 3)
    assert (trust == 1).all()
    same = [*LIMBS, "head", "left_hand", "right_hand", "left_foot", "right_foot"]
    np.testing.assert_array_equal(at(found, KINECT20, *same), at(joints, NTU25, *same))
    np.testing.assert_array_equal(
        at(found, KINECT20, "hip_center", "shoulder_center"), at(joints, NTU25, "spine_base", "neck")
    )
    middle = at(joints, NTU25, "spine_base", "spine_mid").mean(-2, keepdims=True)
    np.testing.assert_allclose(at(found, KINECT20, "spine"), middle, rtol=1e-6)


def test_kinect_to_ntu_misses_hand_tips_and_thumbs() -> None:
    joints = clip(KINECT20)
    found, trust = convert(joints, KINECT20, NTU25)
    missing = {name for j, name in enumerate(NTU25.joints) if not trust[..., j].any()}
    assert missing == {"left_hand_tip", "right_hand_tip", "left_thumb", "right_thumb"}
    assert not at(found, NTU25, *missing).any()
    shoulders = at(joints, KINECT20, "shoulder_center", "left_shoulder", "right_shoulder").mean(-2)
    np.testing.assert_allclose(at(found, NTU25, "spine_shoulder")[..., 0, :], shoulders, rtol=1e-6)
    back = at(joints, KINECT20, "hip_center", "shoulder_center").mean(-2)
    np.testing.assert_allclose(at(found, NTU25, "spine_mid")[..., 0, :], back, rtol=1e-6)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_there_and_back_keeps_what_both_have(seed: int) -> None:
    joints = clip(NTU25, seed)
    kinect, trust = convert(joints, NTU25, KINECT20)
    back, _ = convert(kinect, KINECT20, NTU25, trust)
    shared = [*LIMBS, "head", "neck", "spine_base", "left_hand", "right_hand", "left_foot", "right_foot"]
    np.testing.assert_array_equal(at(back, NTU25, *shared), at(joints, NTU25, *shared))
    again, _ = convert(back, NTU25, KINECT20)
    kept = [joint for joint in KINECT20.joints if joint != "spine"]
    np.testing.assert_array_equal(at(again, KINECT20, *kept), at(kinect, KINECT20, *kept))


def test_the_way_to_coco_is_the_same_by_way_of_kinect() -> None:
    joints = clip(NTU25)
    direct, trust = convert(joints, NTU25, COCO17, camera=CAMERA)
    stepped, other = convert(*_first(convert(joints, NTU25, KINECT20)), camera=CAMERA)
    np.testing.assert_array_equal(direct, stepped)
    np.testing.assert_array_equal(trust, other)


def _first(made: tuple[np.ndarray, np.ndarray]) -> tuple[Any, ...]:
    return made[0], KINECT20, COCO17, made[1]


def test_coco_joints_are_seen_by_the_camera() -> None:
    joints = clip(KINECT20)
    pixels, trust = convert(joints, KINECT20, COCO17, camera=CAMERA)
    assert pixels.shape == (2, 5, 17, 2)
    for name in (*LIMBS, "nose"):
        x, y, z = at(joints, KINECT20, "head" if name == "nose" else name)[1, 3, 0]
        expected = [320 + 500 * x / z, 240 - 510 * y / z]
        np.testing.assert_allclose(at(pixels, COCO17, name)[1, 3, 0], expected, rtol=1e-5)
    unseen = ["left_eye", "right_eye", "left_ear", "right_ear"]
    assert not trust[..., [COCO17.index(name) for name in unseen]].any()
    assert not at(pixels, COCO17, *unseen).any()
    assert trust.sum() == 2 * 5 * 13


@pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
def test_to_itself_nothing_changes(layout: SkeletonLayout) -> None:
    joints = clip(layout)[..., : layout.dims]
    found, trust = convert(joints, layout, layout)
    np.testing.assert_array_equal(found, joints)
    assert (trust == 1).all()


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_joint_is_as_sure_as_the_least_sure_it_is_made_of(data: st.DataObject) -> None:
    source, target = data.draw(st.sampled_from([(NTU25, KINECT20), (KINECT20, NTU25), (NTU25, COCO17)]))
    trust = data.draw(
        hnp.arrays(np.float32, (3, source.num_joints), elements=st.sampled_from([0, 0.25, 0.5, 1]))
    )
    joints = clip(source, shape=(3,)) * (trust > 0)[..., None]
    found, trusted = convert(joints, source, target, trust, CAMERA)
    assert np.isfinite(found).all()
    assert not found[trusted == 0].any()
    moved = np.zeros(trusted.shape, bool)
    for j in range(source.num_joints):
        without = trust.copy()
        without[:, j] = 0
        _, less = convert(joints, source, target, without, CAMERA)
        assert (less <= trusted).all()
        changed = less != trusted
        moved |= changed
        assert (trusted[changed] <= np.broadcast_to(trust[:, j, None], changed.shape)[changed]).all()
    assert (moved == (trusted > 0)).all()


def test_absent_bodies_are_seen_nowhere() -> None:
    joints = clip(KINECT20)
    joints[0, 2] = 0
    pixels, trust = convert(joints, KINECT20, COCO17, camera=CAMERA)
    assert not pixels[0, 2].any()
    assert not trust[0, 2].any()
    assert trust[0, 1].any()


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (KINECT20, COCO17, r"kinect20 is in metres and coco17 in pixels; give the camera .*camera="),
        (NTU25, COCO17, "give the camera"),
        (COCO17, KINECT20, "coco17 has no depth, so it can't become kinect20; estimate 3-D joints"),
        (COCO17, NTU25, "has no depth"),
        (
            replace(KINECT20, name="mine"),
            NTU25,
            "no conversion from mine to ntu25 is defined; there are: ntu25 → kinect20",
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


def test_joints_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LayoutError, match="layout ntu25 has 25 joints, the data has 20"):
        convert(clip(KINECT20), NTU25, KINECT20)
    with pytest.raises(LayoutError, match=r"confidence must have the shape \(2, 5, 25\), got \(2, 5\)"):
        convert(clip(NTU25), NTU25, KINECT20, np.ones((2, 5)))


def test_projection_by_hand() -> None:
    seen = project(np.array([[0, 0, 2], [1, 0.5, 2], [-1, -1, 4], [0, 0, 0], [1, 1, -1]]), CAMERA)
    np.testing.assert_allclose(seen[:3], [[320, 240], [570, 112.5], [195, 367.5]])
    assert np.isnan(seen[3:]).all()
    mirrored = project(np.array([1, 0.5, 2.0]), replace(CAMERA, fx=-500))
    np.testing.assert_allclose(mirrored, [70, 112.5])
    assert np.isnan(project(np.array([1e30, 0, 1e-30]), CAMERA)).all()


@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    shift=st.tuples(*[st.floats(-2, 2)] * 3),
    point=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.5, 5)),
)
@settings(deadline=None)
def test_a_moved_camera_sees_moved_points_alike(
    angles: tuple[float, ...], shift: tuple[float, ...], point: tuple[float, ...]
) -> None:
    rotation = turn(*angles)
    moved = rotation.T @ (np.array(point) - shift)  # so that the camera's own coordinates are `point`
    camera = replace(CAMERA, rotation=rotation, translation=np.array(shift))
    np.testing.assert_allclose(project(moved, camera), project(np.array(point), CAMERA), rtol=1e-4, atol=1e-2)


def test_a_resized_picture_shows_the_same() -> None:
    points = clip(KINECT20).reshape(-1, 3)
    half = project(points, CAMERA.resized(320, 120))
    # Pixel 0 of the small picture covers pixels 0 and 1 of the large one, whose middle is 0.5.
    np.testing.assert_allclose((half + 0.5) * [2, 4] - 0.5, project(points, CAMERA), rtol=1e-4, atol=1e-3)
    assert CAMERA.resized(320, 120).size == (320, 120)
    assert KINECT_V1_DEPTH.resized(640, 480).fx == pytest.approx(571.26)
    assert KINECT_V1_COLOR.size == (640, 480)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"fx": 0}, "'fx' and 'fy'"),
        ({"fy": -1}, "'fx' and 'fy'"),
        ({"fx": float("nan")}, "'fx' and 'fy'"),
        ({"cx": float("inf")}, "'cx' and 'cy'"),
        ({"size": (0, 3)}, "'size'"),
        ({"rotation": np.eye(2)}, "'rotation'"),
        ({"rotation": 2 * np.eye(3)}, "'rotation'"),
        ({"rotation": np.diag([1, 1, -1])}, "'rotation'"),
        ({"translation": [1, 2]}, "'translation'"),
        ({"translation": [1, 2, np.nan]}, "'translation'"),
    ],
)
def test_bad_cameras_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(CAMERA, **fields)


@pytest.mark.parametrize("layout", [KINECT20, NTU25])
def test_a_derived_trunk_follows_from_hips_shoulders_and_head(layout: SkeletonLayout) -> None:
    shares = trunk_means(layout)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares @ shares, shares, atol=1e-6)
    trunk = [joint for joint in range(layout.num_joints) if shares[joint, joint] != 1]
    assert {layout.joints[joint] for joint in trunk} == (
        {"hip_center", "spine", "shoulder_center"}
        if layout is KINECT20
        else {"spine_base", "spine_mid", "spine_shoulder", "neck"}
    )
    assert not shares[:, trunk].any()
    # Joints from video are there already, so that deriving them again changes nothing.
    estimated, _ = mix(np.random.default_rng(0).normal(size=(33, 3)), np.ones(33), BLAZEPOSE33, layout)
    np.testing.assert_allclose(shares @ estimated, estimated, atol=1e-5)


def test_the_trunk_of_other_layouts_is_unknown() -> None:
    with pytest.raises(LayoutError, match="can be derived in kinect20 and ntu25, not in coco17"):
        trunk_means(COCO17)
