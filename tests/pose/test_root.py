from __future__ import annotations

import numpy as np
import pytest

from hhmnet.pose.clips import SMOOTHING, kinect_axes, root_path, smoothed

SIZE = (640, 480)
FOCAL = 1.1


def seen(way: np.ndarray, joints: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A stiff body on a way through the room, in metres from its hips and in pixels of a pinhole camera."""
    body = np.random.default_rng(2).normal(0, [0.2, 0.5, 0.02], (joints, 3))
    world = np.repeat(body[None], len(way), 0)
    points = world + way[:, None]
    pixels = FOCAL * 640 * points[..., :2] / points[..., 2:] + [320, 240]
    return world.astype(np.float32), pixels.astype(np.float32)


def test_the_way_is_found_again() -> None:
    t = np.linspace(0, 1, 60)
    way = np.stack([-1 + 2 * t, 0.1 * np.sin(6 * t), 5 + t], 1)
    world, pixels = seen(way)
    path = root_path(world, pixels, np.full((60, 12), 0.9), np.ones(60, bool), SIZE, FOCAL)
    # Smoothing takes a little off the ends of the depth, weak perspective a little off all.
    np.testing.assert_allclose(path[5:-5], way[5:-5], atol=0.1)


def test_a_wrong_focal_length_scales_the_depth_alone() -> None:
    way = np.tile([0.5, -0.2, 4.0], (30, 1))
    world, pixels = seen(way)
    trust, there = np.full((30, 12), 0.9), np.ones(30, bool)
    right, wrong = (root_path(world, pixels, trust, there, SIZE, FOCAL * factor) for factor in (1, 2))
    np.testing.assert_allclose(wrong[:, :2], right[:, :2], rtol=1e-5)
    np.testing.assert_allclose(wrong[:, 2], 2 * right[:, 2], rtol=1e-5)


def test_frames_without_a_body_are_zero_and_disturb_nothing() -> None:
    way = np.tile([0.5, 0.0, 4.0], (30, 1))
    world, pixels = seen(way)
    there = np.ones(30, bool)
    there[10:20] = False
    pixels[10:20] = 0
    trust = np.full((30, 12), 0.9) * there[:, None]
    path = root_path(world, pixels, trust, there, SIZE, FOCAL)
    assert (path[10:20] == 0).all()
    np.testing.assert_allclose(path[there], way[there], atol=0.05)


def test_where_too_few_joints_are_seen_the_frames_around_tell() -> None:
    way = np.tile([0.5, 0.0, 4.0], (30, 1))
    world, pixels = seen(way)
    trust = np.full((30, 12), 0.9)
    trust[12, 3:] = 0
    pixels[12, 3:] = 0
    path = root_path(world, pixels, trust, np.ones(30, bool), SIZE, FOCAL)
    np.testing.assert_allclose(path[12], way[12], atol=0.05)


def test_joints_that_are_not_trusted_do_not_count() -> None:
    way = np.tile([0.5, 0.0, 4.0], (10, 1))
    world, pixels = seen(way)
    trust = np.full((10, 12), 0.9)
    trust[:, 4] = 0.1
    pixels[:, 4] += 300
    path = root_path(world, pixels, trust, np.ones(10, bool), SIZE, FOCAL)
    np.testing.assert_allclose(path, way, atol=0.05)


def test_without_any_trusted_body_the_root_is_zero() -> None:
    path = root_path(np.zeros((5, 4, 3)), np.zeros((5, 4, 2)), np.zeros((5, 4)), np.ones(5, bool), SIZE, 1)
    assert path.shape == (5, 3)
    assert not path.any()


def test_smoothing_follows_its_definition() -> None:
    values, known = np.random.default_rng(0).normal(size=20), np.arange(20) % 3 != 0
    expected = []
    for t in range(20):
        weights = [np.exp(-0.5 * ((t - u) / SMOOTHING) ** 2) for u in range(20) if known[u]]
        expected.append(np.dot(weights, values[known]) / np.sum(weights))
    np.testing.assert_allclose(smoothed(values, known), expected)


def test_smoothing_far_from_what_is_known() -> None:
    known = np.zeros(2000, bool)
    known[0] = True
    assert smoothed(np.full(2000, 3.0), known)[-1] == pytest.approx(3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_axes_keep_left_and_right_of_a_body_apart(mirrored: bool) -> None:
    """A Kinect's axes make a right-handed system, as x right, y down, z away do: a body isn't turned inside out."""
    picture = np.eye(3)
    if mirrored:  # what the mirror shows on the right is on the left in the room
        picture = picture * [-1, 1, 1]
    made = kinect_axes(picture, mirrored)
    assert np.linalg.det(made) == pytest.approx(1)
    np.testing.assert_allclose(kinect_axes(np.array([0, 1.0, 0]), mirrored), [0, -1, 0])
    np.testing.assert_allclose(kinect_axes(np.array([0, 0, 1.0]), mirrored), [0, 0, 1])
