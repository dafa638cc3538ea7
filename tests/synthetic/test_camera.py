"""What the sample set's sensors report."""

import numpy as np
import pytest

from hhmnet.skeleton import KINECT20
from hhmnet.synthetic import ACTIONS, CAMERAS, SUBJECTS, Camera, clip_joints, observe, performance
from hhmnet.synthetic.body import turn

JOINT = {name: KINECT20.index(name) for name in KINECT20.joints}
ROUNDS = [(subject, episode) for subject in range(1, SUBJECTS + 1) for episode in (0, 7)]


def test_an_unknown_view_is_named() -> None:
    with pytest.raises(ValueError, match="'view'"):
        clip_joints(1, 1, 0, 4)


def test_the_three_views_are_rigid_images_of_one_motion() -> None:
    assert len(CAMERAS) == 3
    for action in ACTIONS:
        joints = performance(action.id, 3, 1).joints.reshape(-1, 3)
        images = [camera.to_camera(joints) for camera in CAMERAS.values()]
        for image in images[1:]:
            a, b = images[0] - images[0].mean(0), image - image.mean(0)
            left, _, right = np.linalg.svd(a.T @ b)
            rotation = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
            np.testing.assert_allclose(a @ rotation, b, atol=1e-9)  # no reflection either
            assert np.degrees(np.arccos((np.trace(rotation) - 1) / 2)) > 30


def test_a_camera_measures_depth_along_its_axis() -> None:
    camera = Camera(yaw=np.pi / 2, distance=3.0, height=1.0, pitch=0.0)
    points = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.5, 0.0], [0.0, 1.0, 0.4]])
    expected = [[0.0, 0.0, 3.0], [0.0, 0.0, 2.0], [0.0, 0.5, 3.0], [0.4, 0.0, 3.0]]
    np.testing.assert_allclose(camera.to_camera(points), expected, atol=1e-12)


@pytest.mark.parametrize("view", CAMERAS)
def test_people_are_within_the_sensors_range(view: int) -> None:
    for action in ACTIONS:
        for subject, episode in ROUNDS:
            joints = clip_joints(action.id, subject, episode, view)
            assert np.isfinite(joints).all()
            root = joints[:, 0]
            assert (root[:, 2] > 1.5).all()
            assert (root[:, 2] < 4.5).all()
            assert (np.abs(root[:, 0] / root[:, 2]) < np.tan(np.radians(57 / 2))).all()
            assert np.quantile(np.abs(joints[..., 1]), 0.99) < 1.5


def test_who_faces_a_sensor_has_the_left_shoulder_at_smaller_x() -> None:
    gaps = []
    for action in ACTIONS:
        if action.motion != "walk":
            for subject, episode in ROUNDS:
                joints = clip_joints(action.id, subject, episode, 1)
                gaps.append((joints[:, JOINT["right_shoulder"]] - joints[:, JOINT["left_shoulder"]])[0, 0])
    assert min(gaps) > 0


def test_sensors_err_a_little_always_and_much_sometimes() -> None:
    errors, depths = [], []
    for action in ACTIONS:
        for subject, episode in ROUNDS:
            acted = performance(action.id, subject, episode)
            for view, camera in CAMERAS.items():
                true = camera.to_camera(acted.joints)
                errors.append(np.linalg.norm(observe(acted, view) - true, axis=-1))
                depths.append(true[..., 2])
    trunk = np.concatenate([error[:, :4].ravel() for error in errors])
    depth = np.concatenate([depth[:, :4].ravel() for depth in depths])
    assert 0.005 < np.median(trunk) < 0.04
    assert np.median(trunk[depth > 3.2]) > 1.3 * np.median(trunk[depth < 2.6])
    hands = np.concatenate([error[:, [JOINT["left_hand"], JOINT["right_hand"]]].ravel() for error in errors])
    assert np.median(hands) > np.median(trunk)
    far_off = np.mean(np.concatenate([error.ravel() for error in errors]) > 0.12)
    assert 0.003 < far_off < 0.05


def test_a_lost_joint_stays_where_it_was() -> None:
    frozen = 0
    for subject, episode in ROUNDS:
        joints = clip_joints(2, subject, episode, 1)
        frozen += int((np.diff(joints, axis=0) == 0).all(-1).sum())
    assert frozen > 10


def test_the_actions_can_be_told_apart_in_a_new_view_but_not_by_a_mean_pose() -> None:
    motions = sorted({action.motion for action in ACTIONS})
    ids = [next(action.id for action in ACTIONS if action.motion == motion) for motion in motions]

    def upright(joints: np.ndarray) -> np.ndarray:
        """A clip turned so that the shoulders lie along x, on 16 frames, ``(16, 20, 3)``."""
        across = (joints[:, JOINT["left_shoulder"]] - joints[:, JOINT["right_shoulder"]]).mean(0)
        moved = joints - joints[:1, :1]
        turned = turn(moved.reshape(-1, 3), np.full(moved.size // 3, np.arctan2(across[2], across[0])))
        frames = np.linspace(0, len(joints) - 1, 16).round().astype(int)
        return turned.reshape(moved.shape)[frames]

    poses, sequences, labels, views = [], [], [], []
    for subject in range(1, SUBJECTS + 1):
        for label, action in enumerate(ids):
            for view in CAMERAS:
                joints = clip_joints(action, subject, 0, view)
                poses.append((joints - joints[:, :1]).mean(0).ravel())
                sequences.append(upright(joints).ravel())
                labels.append(label)
                views.append(view)
    y, test = np.array(labels), np.array(views) == 3

    # A linear classifier by ridge regression on one-hot labels.
    x = np.array(poses)
    x = np.c_[(x - x[~test].mean(0)) / x[~test].std(0).clip(1e-6), np.ones(len(x))]
    gram = x[~test].T @ x[~test] + 10 * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[~test].T @ np.eye(len(ids))[y[~test]])
    linear = np.mean((x[test] @ weights).argmax(1) == y[test])

    z = np.array(sequences)
    nearest = ((z[test][:, None] - z[~test][None]) ** 2).sum(-1).argmin(1)
    matched = np.mean(y[~test][nearest] == y[test])
    assert matched > 0.85
    assert linear < 0.75
    assert matched > linear + 0.2
