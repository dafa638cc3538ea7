from __future__ import annotations

import numpy as np

from hhmnet.pose.following import fill_bodies, fill_joints, gaps


def flags(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def test_gaps_between_seen_frames() -> None:
    seen = flags("..xx.x...xx....x..")
    assert gaps(seen, 3) == [(3, 5), (5, 9)]
    assert gaps(seen, 4) == [(3, 5), (5, 9), (10, 15)]
    assert gaps(seen, 0) == []
    assert gaps(flags("....."), 9) == []


def test_bodies_are_filled_on_a_straight_line_and_marked() -> None:
    present = flags(".xx..x....x.")
    position = np.where(present, np.arange(12) ** 2, 0)[:, None, None].astype(np.float32) * np.ones(
        (1, 2, 3), np.float32
    )
    box = np.where(present, 10.0, 0)[:, None] * np.ones((1, 4))
    confidence = np.where(present, np.linspace(0.3, 0.9, 12), 0)[:, None] * np.ones((1, 2))
    before = position.copy()
    there, filled = fill_bodies(present, [position, box], confidence, 3)
    assert (filled == flags("...xx.......")).all()
    assert (there == flags(".xxxxx....x.")).all()
    np.testing.assert_allclose(position[3:5, 0, 0], [4 + (25 - 4) / 3, 4 + 2 * (25 - 4) / 3], rtol=1e-6)
    assert (box[3:5] == 10).all()
    np.testing.assert_allclose(confidence[3:5, 0], confidence[2, 0])
    untouched = ~filled
    np.testing.assert_array_equal(position[untouched], before[untouched])


def test_joints_below_the_least_confidence_are_masked() -> None:
    confidence = np.array([[0.9, 0.05], [0.8, 0.04], [0.7, 0.2]])
    points = np.ones((3, 2, 2))
    fill_joints(np.ones(3, bool), [points], confidence, least=0.1, longest=5)
    np.testing.assert_array_equal(confidence, [[0.9, 0], [0.8, 0], [0.7, 0.2]])
    assert (points[:2, 1] == 0).all()
    assert (points[:, 0] == 1).all()


def test_short_gaps_of_joints_are_filled_and_told_by_their_confidence() -> None:
    confidence = np.array([0.9, 0.0, 0.05, 0.9, 0, 0, 0, 0.9])[:, None]
    points = np.arange(8.0)[:, None, None] * np.ones((1, 1, 2)) * 10
    points[1:3] = -99
    fill_joints(np.ones(8, bool), [points], confidence, least=0.1, longest=2)
    np.testing.assert_allclose(points[:, 0, 0], [0, 10, 20, 30, 0, 0, 0, 70])
    np.testing.assert_allclose(confidence[:, 0], [0.9, 0.05, 0.05, 0.9, 0, 0, 0, 0.9])


def test_joints_are_not_filled_where_the_body_is_missing() -> None:
    confidence = np.array([0.9, 0.0, 0.9])[:, None]
    points = np.ones((3, 1, 2))
    fill_joints(flags("x.x"), [points], confidence, least=0.1, longest=2)
    assert confidence[1] == 0
    assert (points[1] == 0).all()


def test_a_guess_stays_where_it_is_but_in_short_gaps() -> None:
    confidence = np.array([0.0, 0.9, 0.0, 0.9, 0.05, 0.05])[:, None]
    guess = np.array([5.0, 1, 77, 3, 8, 9])[:, None, None] * np.ones((1, 1, 3))
    pixels = guess.copy()
    fill_joints(np.ones(6, bool), [pixels], confidence, least=0.1, longest=1, guesses=[guess])
    assert guess[:, 0, 0].tolist() == [5, 1, 2, 3, 8, 9]
    assert pixels[:, 0, 0].tolist() == [0, 1, 2, 3, 0, 0]
    assert confidence[:, 0].tolist() == [0, 0.9, 0.05, 0.9, 0, 0]
