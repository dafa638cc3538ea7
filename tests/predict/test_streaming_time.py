from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hhmnet.predict.streaming import StreamingConfig, StreamingRecognizer
from made_stream import RATE, model, movement, said, sample_of, streaming, whole


@pytest.mark.parametrize(
    ("frames", "rate", "given", "expected"),
    [(45, 25.0, None, 1.8), (60, None, None, 2.0), (None, None, None, 2.0), (45, 25.0, 3.0, 3.0)],
)
def test_the_window_is_as_long_as_the_training_clips(
    frames: int | None, rate: float | None, given: float | None, expected: float
) -> None:
    trained = model()
    trained.spec = replace(trained.spec, clip_frames=frames, clip_rate=rate)
    recognizer = StreamingRecognizer(trained, StreamingConfig(window=given))
    assert recognizer.config.window == pytest.approx(expected)
    assert recognizer.config.frames == round(expected * 30)


def test_a_long_stream_is_answered_by_its_last_frames_alone() -> None:
    recognizer = streaming(window=1.0, smoothing=0, every=7)
    joints = movement(400)
    answers = [answer for t in range(400) if (answer := recognizer.push_skeleton(joints[0, t]))]
    assert [answer.frame for answer in answers] == list(range(6, 400, 7))
    for answer in answers[5::9]:
        window = joints[:, answer.frame - 29 : answer.frame + 1]
        np.testing.assert_allclose(said(answer), whole(recognizer, sample_of(window)), atol=1e-6)


def test_there_is_no_answer_before_enough_was_seen() -> None:
    recognizer = streaming(window=1.0, every=5, least=0.5)
    answers = [recognizer.push_skeleton(joints) for joints in movement(30)[0]]
    given = [answer for answer in answers if answer is not None]
    assert [answer.label is not None for answer in given] == [False, False, True, True, True, True]
    assert [round(answer.covered * 30) for answer in given] == [5, 10, 15, 20, 25, 30]


def test_probabilities_are_smoothed_over_time() -> None:
    plain, smooth = (streaming(window=1.0, every=6, smoothing=value) for value in (0, 0.4))
    joints = 2 * movement(200) * np.linspace(-1, 1, 200)[None, :, None, None]
    pairs = [(plain.push_skeleton(frame), smooth.push_skeleton(frame)) for frame in joints[0]]
    expected = None
    for own, mixed in pairs:
        if own is None or own.probabilities is None:
            continue
        kept = math.exp(-(6 / RATE) / 0.4)
        expected = said(own) if expected is None else kept * expected + (1 - kept) * said(own)
        np.testing.assert_allclose(said(mixed), expected, atol=1e-6)
        assert mixed is not None
        np.testing.assert_allclose(mixed.window_probabilities, said(own), atol=1e-6)
    assert expected is not None
    assert expected.sum() == pytest.approx(1, abs=1e-5)


def test_dropped_frames_are_filled_with_a_straight_line() -> None:
    joints = movement(40)
    kept = [t for t in range(40) if t not in (*range(10, 15), 20, *range(25, 38))]
    line = joints.copy()
    for before, after in pairwise(kept):
        for t in range(before + 1, after):
            share = (t - before) / (after - before)
            line[:, t] = (1 - share) * joints[:, before] + share * joints[:, after]
    recognizer = streaming()
    for t in kept:
        recognizer.push_skeleton(joints[0, t], time=100 + t / RATE)
    answer = recognizer.answer()
    assert answer.frame == 39
    assert answer.present == 1
    np.testing.assert_allclose(said(answer), whole(recognizer, sample_of(line)), atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2])
def test_trembling_times_and_a_faster_source_change_nothing(factor: int) -> None:
    joints = movement(40)
    recognizer, random = streaming(), np.random.default_rng(1)
    for t in range(40 * factor):
        trembling = random.uniform(-0.2, 0.2) if t and factor == 1 else 0.0
        recognizer.push_skeleton(joints[0, t // factor], time=(t / factor + trembling) / RATE)
    answer = recognizer.answer()
    assert answer.frame == 39
    np.testing.assert_allclose(said(answer), whole(recognizer, sample_of(joints)), atol=1e-6)


def test_a_source_that_begins_anew_begins_a_new_window() -> None:
    recognizer, joints = streaming(), movement(40)
    for t in range(40):
        recognizer.push_skeleton(joints[0, t], time=1000 + t / RATE)
    for t in range(30):
        recognizer.push_skeleton(-joints[0, t], time=t / RATE)
    answer = recognizer.answer()
    assert answer.frame == 29
    np.testing.assert_allclose(said(answer), whole(recognizer, sample_of(-joints[:, :30])), atol=1e-6)


def test_who_leaves_and_comes_back_soon_is_the_same_person_and_later_another() -> None:
    recognizer, joints = streaming(window=4.0, every=10, least=0), movement(40)
    present = [*range(40), *[-1] * 50, *range(40), *[-1] * 70, *range(40)]
    pushed = [recognizer.push_skeleton(None if t < 0 else joints[0, t]) for t in present]
    answers = {answer.frame: answer for answer in pushed if answer is not None}
    persons = {frame: answer.person for frame, answer in answers.items()}
    assert persons == dict.fromkeys(range(9, 190, 10), 1) | {199: 0} | dict.fromkeys(range(209, 240, 10), 2)
    nobody, last = answers[199], answers[239]
    assert nobody.probabilities is nobody.label is None
    assert last.window_probabilities is not None
    np.testing.assert_allclose(
        last.window_probabilities, whole(recognizer, sample_of(joints)), atol=1e-6
    )  # nothing is left of the first one


def test_the_first_answer_on_a_new_person_is_not_smoothed_with_the_last_persons() -> None:
    recognizer, joints = streaming(window=1.0, every=1000, smoothing=60), movement(30)
    for frame in joints[0]:
        recognizer.push_skeleton(frame)
    recognizer.answer()
    for _ in range(70):
        recognizer.push_skeleton(None)
    for frame in -joints[0]:
        recognizer.push_skeleton(frame)
    answer = recognizer.answer()
    np.testing.assert_array_equal(said(answer), answer.window_probabilities)
