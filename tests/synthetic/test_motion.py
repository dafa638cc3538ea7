"""The sample set's people and motions."""

import dataclasses

import numpy as np
import pytest

from hhmnet.skeleton import KINECT20
from hhmnet.synthetic import (
    ACTIONS,
    CAMERAS,
    SKELETON_CEILING,
    SUBJECTS,
    Performance,
    clip_joints,
    observe,
    performance,
)
from hhmnet.synthetic.body import joints_of, make_subject, standing, turn, two_bones
from hhmnet.synthetic.motion import EPISODES, MAX_FRAMES, MIN_FRAMES
from hhmnet.synthetic.moves import course

JOINT = {name: KINECT20.index(name) for name in KINECT20.joints}
ROUNDS = [(subject, episode) for subject in range(1, SUBJECTS + 1) for episode in (0, 7)]


def every_performance(action: int, seed: int = 0) -> list[Performance]:
    return [performance(action, subject, episode, seed) for subject, episode in ROUNDS]


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(joints - joints[..., KINECT20.parents, :], axis=-1)


# Courses and limbs


def test_course_from_rest_to_rest_is_the_minimum_jerk_course() -> None:
    t = np.linspace(0, 1, 41)
    expected = 2.0 + 3.0 * (10 * t**3 - 15 * t**4 + 6 * t**5)
    np.testing.assert_allclose(course(0.5 + 2 * t, (0.5, 2.0), (2.5, 5.0)), expected, atol=1e-12)


def test_course_meets_its_keys_without_overshoot_or_jumps() -> None:
    keys = ((0.0, (0.0, 1.0, -1.0)), (0.3, (2.0, 0.5, -1.0)), (0.5, (2.5, 0.9, 0.0)), (1.0, (3.0, 0.9, -2.0)))
    times, values = np.array([t for t, _ in keys]), np.array([v for _, v in keys])
    np.testing.assert_allclose(course(times, *keys), values, atol=1e-12)
    u = np.linspace(-0.2, 1.2, 14001)
    path = course(u, *keys)
    np.testing.assert_allclose(path[u < 0], values[:1].repeat((u < 0).sum(), 0))
    np.testing.assert_allclose(path[u > 1], values[-1:].repeat((u > 1).sum(), 0))
    for start, end in zip(range(3), range(1, 4), strict=True):
        inside = path[(u >= times[start]) & (u <= times[end])]
        low, high = np.minimum(values[start], values[end]), np.maximum(values[start], values[end])
        assert (inside >= low - 1e-9).all()
        assert (inside <= high + 1e-9).all()
    velocity = np.gradient(path, u, axis=0)
    assert np.abs(np.diff(velocity, axis=0)).max() < 0.05  # about 1e-4 of time apart: no kink
    assert velocity[np.searchsorted(u, 0.3), 0] > 1  # passes a way point without stopping


def test_two_bones_keeps_lengths_and_reaches_what_it_can() -> None:
    rng = np.random.default_rng(0)
    start, pole = rng.normal(size=(500, 3)), rng.normal(size=(500, 3))
    target = start + rng.normal(size=(500, 3)) * 0.3
    middle, end = two_bones(start, target, pole, 0.30, 0.25)
    np.testing.assert_allclose(np.linalg.norm(middle - start, axis=1), 0.30, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(end - middle, axis=1), 0.25, atol=1e-9)
    distance = np.linalg.norm(target - start, axis=1)
    reachable = (distance > 0.1) & (distance < 0.54)
    assert 100 < reachable.sum() < 500
    np.testing.assert_allclose(end[reachable], target[reachable], atol=1e-9)
    axis = (target - start) / distance[:, None]
    np.testing.assert_allclose(np.cross(end - start, axis), 0, atol=1e-9)
    aside = pole - (pole * axis).sum(1, keepdims=True) * axis
    assert (((middle - start) * aside).sum(1) > 0).all()


def test_turn_is_a_rotation_that_takes_ahead_to_the_left() -> None:
    quarter = np.full(1, np.pi / 2)
    np.testing.assert_allclose(turn(np.array([0.0, 5.0, 1.0]), quarter), [[1.0, 5.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(turn(np.array([1.0, 5.0, 0.0]), quarter), [[0.0, 5.0, -1.0]], atol=1e-12)


def test_a_left_handed_body_is_the_mirror_image() -> None:
    right = make_subject(1, np.random.default_rng(3))
    left = dataclasses.replace(right, handedness="left")
    pose = standing(right, 25, np.random.default_rng(4))
    pose.wrists[:, 1] = [0.3, 0.4, 0.3]
    a, b = joints_of(pose, right), joints_of(pose, left)
    assert a[0, JOINT["right_hand"], 1] > a[0, JOINT["right_shoulder"], 1]
    assert b[0, JOINT["left_hand"], 1] > b[0, JOINT["left_shoulder"], 1]
    np.testing.assert_allclose(b[:, JOINT["left_hand"]], a[:, JOINT["right_hand"]] * [-1, 1, 1])
    np.testing.assert_allclose(b[:, JOINT["head"]], a[:, JOINT["head"]] * [-1, 1, 1])


# Performances


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_bodies_keep_their_bones_and_stand_on_the_floor(action) -> None:
    for acted in every_performance(action.id):
        joints = acted.joints
        assert joints.shape[1:] == (20, 3)
        assert MIN_FRAMES <= len(joints) <= MAX_FRAMES
        assert np.isfinite(joints).all()
        lengths = bone_lengths(joints)
        np.testing.assert_allclose(lengths, lengths[:1].repeat(len(joints), 0), atol=1e-9)
        bones = acted.subject.bones
        for bone in ("elbow", "wrist", "hand", "knee", "ankle", "foot", "hip", "shoulder"):
            for side in ("left", "right"):
                np.testing.assert_allclose(lengths[0, JOINT[f"{side}_{bone}"]], bones[bone], atol=1e-9)
        assert joints[..., 1].min() > -0.03
        feet = joints[:, [JOINT["left_foot"], JOINT["right_foot"]], 1]
        assert feet.min(1).max() < 0.12  # one foot is down at all times


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_motion_is_smooth_and_no_faster_than_people_are(action) -> None:
    for acted in every_performance(action.id):
        velocity = np.diff(acted.joints, axis=0) * acted.fps
        assert np.linalg.norm(velocity, axis=-1).max() < 16
        assert np.abs(velocity[:, 0]).max() < 2


def test_a_performance_is_decided_by_its_numbers_alone() -> None:
    again = performance(2, 5, 3, 7).joints
    for _ in range(2):
        np.testing.assert_array_equal(performance(2, 5, 3, 7).joints, again)
    for other in ((1, 5, 3, 7), (2, 4, 3, 7), (2, 5, 2, 7), (2, 5, 3, 8)):
        joints = performance(*other).joints
        assert joints.shape != again.shape or not np.allclose(joints, again)


def test_subjects_differ_and_are_themselves_in_every_action() -> None:
    bodies = [performance(1, subject, 0).subject for subject in range(1, SUBJECTS + 1)]
    assert len({body.height for body in bodies}) == SUBJECTS >= 10
    assert {body.handedness for body in bodies} == {"left", "right"}
    for body in bodies:
        assert 1.4 < body.height < 2.0
        assert all(performance(action.id, body.number, 2).subject == body for action in ACTIONS)


def test_pairs_share_the_motion_and_differ_in_the_object() -> None:
    assert len(ACTIONS) >= 8
    assert [action.id for action in ACTIONS] == list(range(1, len(ACTIONS) + 1))
    by_motion: dict[str, list[int]] = {}
    for action in ACTIONS:
        by_motion.setdefault(action.motion, []).append(action.id)
    pairs = [ids for ids in by_motion.values() if len(ids) > 1]
    assert [len(ids) for ids in pairs] == [2, 2]
    for first, second in pairs:
        held = {performance(first, 1, 0).object, performance(second, 1, 0).object}
        assert None not in held
        assert len(held) == 2
        for subject, episode in ROUNDS:
            acted, twin = performance(first, subject, episode), performance(second, subject, episode)
            np.testing.assert_array_equal(acted.joints, twin.joints)
            for view in CAMERAS:
                np.testing.assert_array_equal(observe(acted, view), observe(twin, view))


def test_the_ceiling_is_what_the_best_answer_to_every_skeleton_reaches() -> None:
    answers: dict[bytes, list[int]] = {}
    for action in ACTIONS:
        for subject, episode in ROUNDS:
            answers.setdefault(clip_joints(action.id, subject, episode, 3).tobytes(), []).append(action.id)
    best = sum(max(ids.count(answer) for answer in ids) for ids in answers.values())
    assert best / (len(ACTIONS) * len(ROUNDS)) == pytest.approx(SKELETON_CEILING)


def test_actions_do_what_their_names_say() -> None:
    ids = {action.name: action.id for action in ACTIONS}

    def acting(acted: Performance, joint: str) -> np.ndarray:
        return acted.joints[:, JOINT[f"{acted.handedness}_{joint}"]]

    for acted in every_performance(ids["sit down"]):
        assert acted.joints[-1, 0, 1] < 0.65 * acted.subject.hip_height
    for acted in every_performance(ids["stand up"]):
        assert acted.joints[0, 0, 1] < 0.65 * acted.subject.hip_height < acted.joints[-1, 0, 1]
    for acted in every_performance(ids["pick up"]):
        assert acting(acted, "hand")[:, 1].min() < 0.75
        assert acted.joints[:, JOINT["head"], 1].min() < 0.85 * acted.subject.height
    for acted in every_performance(ids["wave"]):
        assert (acting(acted, "hand")[:, 1] > acting(acted, "shoulder")[:, 1]).any()
    for acted in every_performance(ids["walk"]):
        way = acted.joints[-1, 0] - acted.joints[0, 0]
        assert np.linalg.norm(way) > 0.4
        across = acted.joints[:, JOINT["left_hip"]] - acted.joints[:, JOINT["right_hip"]]
        ahead = np.cross(across, [0.0, 1.0, 0.0]).mean(0)
        assert way @ ahead > 0.8 * np.linalg.norm(way) * np.linalg.norm(ahead)


def test_the_standing_foot_does_not_slide_in_walking() -> None:
    walk = next(action.id for action in ACTIONS if action.motion == "walk")
    for acted in every_performance(walk):
        ankles = acted.joints[:, [JOINT["left_ankle"], JOINT["right_ankle"]]][:, :, [0, 2]]
        speeds = np.linalg.norm(np.diff(ankles, axis=0), axis=-1) * acted.fps
        assert np.median(speeds.min(1)) < 0.05
        assert speeds.max() > 1.5


@pytest.mark.parametrize(
    ("numbers", "field"),
    [
        ((0, 1, 0, 0), "action"),
        ((11, 1, 0, 0), "action"),
        ((1, 0, 0, 0), "subject"),
        ((1, SUBJECTS + 1, 0, 0), "subject"),
        ((1, 1, -1, 0), "episode"),
        ((1, 1, EPISODES, 0), "episode"),
        ((1, 1, 0, -1), "seed"),
    ],
)
def test_numbers_out_of_range_are_named(numbers: tuple[int, int, int, int], field: str) -> None:
    with pytest.raises(ValueError, match=f"'{field}'"):
        performance(*numbers)
