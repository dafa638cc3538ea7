"""The sample set's people, what they do, and what sensors report of it."""

from __future__ import annotations

import numpy as np
import pytest

from hhmnet.skeleton import KINECT20
from hhmnet.synthetic import ACTIONS, CAMERAS, SKELETON_CEILING, SUBJECTS, Performance, observe, performance
from hhmnet.synthetic.body import JOINT
from hhmnet.synthetic.motion import MAX_FRAMES, MIN_FRAMES

ROUNDS = [(subject, 7) for subject in range(1, SUBJECTS + 1)]


def every_performance(action: int) -> list[Performance]:
    return [performance(action, subject, episode) for subject, episode in ROUNDS]


@pytest.mark.parametrize(
    ("numbers", "frames", "sums", "hand"),
    [
        ((1, 2, 3, 1), 74, [-0.4545, 2.4991, -0.2287], [0.2588, -0.1420, 2.9580]),
        ((10, 9, 1, 2), 44, [-0.1798, 2.6178, -0.6384], [0.6364, 0.1818, 3.2730]),
    ],
)
def test_clips_are_those_that_figures_were_measured_on(numbers, frames: int, sums, hand) -> None:
    acted = performance(*numbers[:3], seed=4)
    assert len(acted.joints) == frames
    np.testing.assert_allclose(acted.joints[9, [3, 11, 19]].sum(0), sums, atol=1e-4)
    np.testing.assert_allclose(observe(acted, numbers[3])[12, JOINT["right_hand"]], hand, atol=1e-4)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_bodies_keep_their_bones_stand_on_the_floor_and_move_as_people_do(action) -> None:
    for acted in every_performance(action.id):
        joints, bones = acted.joints, acted.subject.bones
        assert MIN_FRAMES <= len(joints) <= MAX_FRAMES
        lengths = np.linalg.norm(joints - joints[..., KINECT20.parents, :], axis=-1)
        np.testing.assert_allclose(lengths, lengths[:1].repeat(len(joints), 0), atol=1e-9)
        for bone in ("elbow", "wrist", "hand", "knee", "ankle", "foot", "hip", "shoulder"):
            for side in ("left", "right"):
                np.testing.assert_allclose(lengths[0, JOINT[f"{side}_{bone}"]], bones[bone], atol=1e-9)
        assert joints[..., 1].min() > -0.03
        feet = joints[:, [JOINT["left_foot"], JOINT["right_foot"]], 1]
        assert feet.min(1).max() < 0.12  # one foot is down at all times
        velocity = np.diff(joints, axis=0) * 30
        assert np.linalg.norm(velocity, axis=-1).max() < 16
        assert np.abs(velocity[:, 0]).max() < 2


def test_actions_do_what_their_names_say() -> None:
    ids = {action.name: action.id for action in ACTIONS}

    def acting(acted: Performance, joint: str) -> np.ndarray:
        return acted.joints[:, JOINT[f"{acted.subject.handedness}_{joint}"]]

    for acted in every_performance(ids["sit down"]):
        assert acted.joints[-1, 0, 1] < 0.65 * acted.subject.hip_height
    for acted in every_performance(ids["stand up"]):
        assert acted.joints[0, 0, 1] < 0.65 * acted.subject.hip_height < acted.joints[-1, 0, 1]
    for acted in every_performance(ids["pick up"]):
        assert acting(acted, "hand")[:, 1].min() < 0.75
    for acted in every_performance(ids["wave"]):
        assert (acting(acted, "hand")[:, 1] > acting(acted, "shoulder")[:, 1]).any()
    for acted in every_performance(ids["walk"]):
        way = acted.joints[-1, 0] - acted.joints[0, 0]
        across = acted.joints[:, JOINT["left_hip"]] - acted.joints[:, JOINT["right_hip"]]
        ahead = np.cross(across, [0.0, 1.0, 0.0]).mean(0)
        assert way @ ahead > 0.8 * np.linalg.norm(way) * np.linalg.norm(ahead) > 0
        ankles = acted.joints[:, [JOINT["left_ankle"], JOINT["right_ankle"]]][:, :, [0, 2]]
        speeds = np.linalg.norm(np.diff(ankles, axis=0), axis=-1) * 30
        assert np.median(speeds.min(1)) < 0.05, "the standing foot doesn't slide"


def test_no_skeleton_passes_the_ceiling() -> None:
    """The members of a pair differ in the object alone, so the best answer to both is right for one."""
    answers: dict[bytes, list[int]] = {}
    for action in ACTIONS:
        for subject, episode in ROUNDS:
            seen = observe(performance(action.id, subject, episode), 3)
            answers.setdefault(seen.tobytes(), []).append(action.id)
    best = sum(max(ids.count(answer) for answer in ids) for ids in answers.values())
    assert best / (len(ACTIONS) * len(ROUNDS)) == pytest.approx(SKELETON_CEILING)
    pairs = [{ACTIONS[i - 1].object for i in ids} for ids in answers.values() if len(ids) > 1]
    assert {frozenset(pair) for pair in pairs} == {
        frozenset({"bottle", "book"}),
        frozenset({"racket", "bat"}),
    }


# What sensors report.


def test_sensors_err_a_little_always_and_much_sometimes() -> None:
    errors, depths, frozen = [], [], 0
    for action in ACTIONS:
        for subject, episode in ROUNDS:
            acted = performance(action.id, subject, episode)
            for view, camera in CAMERAS.items():
                true, seen = camera.to_camera(acted.joints), observe(acted, view)
                root = seen[:, 0]  # within the sensor's range
                assert ((root[:, 2] > 1.5) & (root[:, 2] < 4.5)).all()
                assert (np.abs(root[:, 0] / root[:, 2]) < np.tan(np.radians(57 / 2))).all()
                errors.append(np.linalg.norm(seen - true, axis=-1))
                depths.append(true[..., 2])
                frozen += int((np.diff(seen, axis=0) == 0).all(-1).sum())
    error, depth = np.concatenate(errors), np.concatenate(depths)
    trunk = error[:, :4]
    assert 0.005 < np.median(trunk) < 0.04
    assert np.median(trunk[depth[:, :4] > 3.2]) > 1.3 * np.median(trunk[depth[:, :4] < 2.6])
    assert np.median(error[:, [JOINT["left_hand"], JOINT["right_hand"]]]) > np.median(trunk)
    assert 0.003 < np.mean(error > 0.12) < 0.05
    assert frozen > 100, "a lost joint stays where it was"
