from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hhmnet.pose import estimate
from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.sources import Input, InputError
from hhmnet.predict.timeline import (
    RecentVideo,
    Segment,
    TimelineConfig,
    Windows,
    merge,
    of_person,
    recognise_long,
    sliced,
    smooth,
)
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from hhmnet.video import VideoError, open_video
from made_bodies import at_rest
from made_models import skeleton_model
from made_people import BoxEstimator, KnowingDetector, MadeVideo, straight
from made_video import FRAMES, number_in, write_video

CONFIG = TimelineConfig(window=1.0, stride=0.5, smooth=0, enter=0.3, leave=0.2, shortest=0, still=0)


def test_smoothing_is_a_gaussian_mean_of_what_is_known() -> None:
    rows = np.random.default_rng(0).random((9, 3)).astype(np.float32)
    rows[4] = np.nan
    times = np.cumsum(np.random.default_rng(1).uniform(0.1, 0.5, 9))
    found = smooth(rows, times, 0.4)
    for i in range(9):
        near = [j for j in range(9) if j != 4 and abs(times[i] - times[j]) <= 1.6]
        weights = [math.exp(-((times[i] - times[j]) ** 2) / (2 * 0.4**2)) for j in near]
        wanted = sum(weight * rows[j] for weight, j in zip(weights, near, strict=True)) / sum(weights)
        np.testing.assert_allclose(found[i], wanted if i != 4 else np.nan, rtol=1e-5)
    np.testing.assert_array_equal(smooth(rows, times, 0), rows)


def plain_merge(rows: np.ndarray, enter: float, leave: float) -> list[int | None]:
    """Which class holds in each window, from the definition."""
    held: list[int | None] = [None]
    for row in rows:
        now = held[-1]
        if np.isnan(row[0]):
            now = None
        elif max(row) >= enter:
            now = list(row).index(max(row))
        elif now is not None and row[now] < leave:
            now = None
        held.append(now)
    return held[1:]


@settings(max_examples=50)
@given(
    arrays(np.float32, (14, 3), elements=st.floats(2**-7, 1, width=32)),
    st.sets(st.integers(0, 13), max_size=3),
)
def test_hysteresis(rows: np.ndarray, gaps: set[int]) -> None:
    rows = rows / rows.sum(1, keepdims=True)
    rows[list(gaps)] = np.nan
    runs = merge(rows, 0.5, 0.35)
    held: list[int | None] = [None] * 14
    for first, last, label in runs:
        assert held[first : last + 1] == [None] * (last + 1 - first)  # no two overlap
        held[first : last + 1] = [label] * (last + 1 - first)
    assert held == plain_merge(rows, 0.5, 0.35)
    for (_, last, label), (first, _, other) in pairwise(runs):
        assert first > last + 1 or other != label  # what goes on is one run


def test_segments_begin_and_end_with_motion_and_short_ones_are_left_out() -> None:
    times, edges, pace = np.arange(100) / 10, np.array([0, 1.5, 2.5, 3.5, 6.5, 10]), np.ones(100)
    pace[:3] = pace[33:36] = 0
    rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [np.nan] * 2, [0.7, 0.3]])
    config = TimelineConfig(shortest=0, smooth=0, still=0.5)

    def found(last: int = 5) -> list[Segment]:
        windows = Windows(edges[:last], edges[1 : last + 1], edges[:last] + 0.5, edges[: last + 1], times)
        known = np.where(np.isnan(rows[:last, :1]), np.nan, 1.0)
        return of_person(2, windows, rows[:last], known, pace, config, ("sit", "walk"))[2]

    first, second, third = found()
    assert first[:6] == (2, "sit", pytest.approx(0.3), 2.5, 3, 24)  # begins with motion
    assert first.probability == pytest.approx(0.85)
    assert second[:6] == (2, "walk", 2.5, pytest.approx(3.3), 25, 32)
    assert third[:6] == (2, "sit", 6.5, 10.0, 65, 99)
    config.shortest = 1.5
    assert [segment.label for segment in found()] == ["sit", "sit"]
    config.shortest = 500  # a recording that is no longer keeps its only one
    (only,) = found(1)
    assert only[:4] == (2, "sit", pytest.approx(0.3), 1.5)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two persons in 90 frames of 30 a second; the second one is there in the last third alone."""
    rng = np.random.default_rng(7)
    joints = rng.normal(0, 0.4, (2, 1, 20, 3)) + rng.normal(0, 0.05, (2, 90, 20, 3)).cumsum(1)
    joints[1, :60] = 0
    np.savez(tmp_path / "two.npz", joints=joints)
    return tmp_path / "two.npz"


def test_each_window_gets_the_answer_of_a_clip_of_one_person(
    of_skeletons: Recognizer, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress: list[tuple[int, int]] = []
    found = recognise_long(of_skeletons, two, CONFIG, progress=lambda *counts: progress.append(counts))
    np.testing.assert_allclose(found.windows.starts, [0, 0.5, 1, 1.5, 2])
    assert (found.duration, found.modalities) == (pytest.approx(3), ("skeleton",))
    whole = of_skeletons.sources.read(two).sample
    for person, numbers in ((0, range(5)), (1, (4,))):
        for number in numbers:
            part = sliced(whole, person, slice(15 * number, 15 * number + 30))
            wanted = of_skeletons.predict(part).probabilities
            np.testing.assert_allclose(found.probabilities[person, number], wanted, atol=1e-5)
    # Who is there for less than half of a window has no answer; at exactly half there is one.
    assert np.isnan(found.probabilities[1, :3]).all()
    assert np.isfinite(found.probabilities[1, 3:]).all()
    assert found.of_person(2)[0].start >= 1.75
    assert progress[-1] == (7, 10)
    assert progress == sorted(progress)
    # Nobody said how long windows are: as the clips that the model learned from.
    assert recognise_long(of_skeletons, two).config.window == 2.0
    spec = dataclasses.replace(of_skeletons.engine.spec, clip_frames=25, clip_rate=20.0)
    monkeypatch.setattr(of_skeletons.engine, "spec", spec)
    assert recognise_long(of_skeletons, two).config.window == 1.25


def test_joints_are_estimated_once_and_each_person_has_a_timeline(
    of_skeletons: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = straight((80, 120), (0.5, 0), (50, 120)), straight((240, 130), (-0.2, 0), (50, 140))
    estimator = BoxEstimator()
    monkeypatch.setattr(estimate, "_load_detector", lambda config: KnowingDetector(*ways))
    monkeypatch.setattr(estimate, "_load_estimator", lambda threads: estimator)
    MadeVideo(tmp_path / "a.mkv", 50, rate=25)
    model = of_skeletons.engine.model  # type: ignore[attr-defined]
    found = recognise_long(Recognizer(model, pose=estimate.PoseConfig(persons=2)), tmp_path / "a.mkv", CONFIG)
    assert found.duration == pytest.approx(2, abs=0.01)
    assert found.probabilities.shape[:2] == (2, 3)
    assert np.isfinite(found.probabilities).all()
    assert len(estimator.led) == 2 * 50  # once a person and frame, however many windows there are


def test_windows_of_a_model_with_video(of_both: Recognizer, filmed: Store) -> None:
    item, config = Input("filmed", filmed.path, 0), TimelineConfig(window=0.6, stride=0.3, smooth=0)
    found = recognise_long(of_both, item, config)
    assert found.modalities == ("skeleton", "video")
    sample = filmed.sample(0)
    with open_video(Path(str(filmed.video_folder), str(sample.video))) as video:
        times = video.times[sample.video_frames]
    for number, (start, end) in enumerate(zip(*found.windows[:2], strict=True)):
        first, last = np.searchsorted(times - times[0], [start, end])
        part = sliced(sample, 0, slice(first, last))
        wanted = of_both.predict(part, videos=filmed.video_folder)
        np.testing.assert_allclose(found.probabilities[0, number], wanted.probabilities, atol=1e-5)
    alone = recognise_long(of_both, item, config, modalities=("skeleton",))
    assert alone.modalities == ("skeleton",)


@pytest.mark.usefixtures("nobody")
def test_a_recording_of_nobody_is_named(of_skeletons: Recognizer, tmp_path: Path) -> None:
    MadeVideo(tmp_path / "empty.mkv", 10)
    with pytest.raises(InputError, match=r"empty\.mkv: no person was found"):
        recognise_long(of_skeletons, tmp_path / "empty.mkv")


def test_recent_pictures_are_the_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4")
    monkeypatch.setattr("hhmnet.video.KEPT_BYTES", 8 * 64 * 48 * 3)  # eight pictures
    with RecentVideo(tmp_path / "a.mp4") as video:
        for index in (0, 3, 9, 5, 9, 11, 2, 30, 28, 31, 40, 0):
            assert number_in(video.frame(index)) == index
            assert len(video._recent) <= 8
        with pytest.raises(VideoError, match="isn't one of"):
            video.frame(FRAMES)


RATE = 30
MOVING = {"wave": ("right_hand", "right_wrist"), "kick": ("left_foot", "left_ankle"), "nod": ("head",)}


def acting(name: str, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Somebody who swings one limb twice, or stands and sways, before a sensor that errs by half a centimetre."""
    sway = 0.01 * np.sin(np.arange(frames) / 20 + rng.uniform(0, 6))[:, None, None]
    joints = at_rest() + sway + rng.normal(0, 0.005, (frames, 20, 3))
    swing = rng.uniform(0.35, 0.5) * np.sin(np.linspace(0, 4 * np.pi, frames))
    for joint in MOVING.get(name, ()):
        joints[:, KINECT20.index(joint), 0] += swing
    return joints


def example(name: str, rng: np.random.Generator) -> np.ndarray:
    """Most of an action, and a little of what is before or after it."""
    frames, length = rng.integers(45, 75, 2)
    parts = acting("", 30, rng), acting(name, int(frames), rng), acting("", 30, rng)
    start = max(int(30 + frames * rng.uniform(0.1, 0.9) - length / 2), 0)
    return np.concatenate(parts)[start : start + length]


def shared(segment: Segment, start: float, end: float) -> float:
    """Seconds that two stretches of time have in common."""
    return max(0.0, min(end, segment.end) - max(start, segment.start))


def test_actions_are_found_and_pauses_stay_empty(tmp_path: Path) -> None:
    rng, examples = np.random.default_rng(0), dict[str, list[Path]]()
    for number in range(180):  # a head on twenty joints of encoders that have learned nothing wants as many
        file, name = tmp_path / f"{number}.npz", list(MOVING)[number % 3]
        np.savez(file, joints=example(name, rng))
        examples.setdefault(name, []).append(file)
    recognizer = Recognizer(skeleton_model(frames=16)).enroll(examples)
    rng, parts, truth, time = np.random.default_rng(1), [], list[tuple[str, float, float]](), 0.0
    for _ in range(8):
        for name in ("", list(MOVING)[int(rng.integers(3))]):
            frames = int(rng.integers(45, 75) if name else rng.integers(60, 120))
            parts.append(acting(name, frames, rng))
            truth += [(name, time, time + frames / RATE)] if name else []
            time += frames / RATE
    np.savez(tmp_path / "long.npz", joints=np.concatenate(parts))
    found = recognise_long(recognizer, tmp_path / "long.npz", TimelineConfig(window=2.0)).segments
    hits, wrong = 0, sum(one.end - one.start for one in found)
    for name, start, end in truth:
        unions = ((one, max(end, one.end) - min(start, one.start)) for one in found if one.label == name)
        hits += any(shared(one, start, end) >= 0.5 * union for one, union in unions)
        wrong -= sum(shared(one, start, end) for one in found)
    assert 2 * hits / (len(found) + len(truth)) >= 0.8  # F1
    assert wrong < 0.1 * (time - sum(end - start for _, start, end in truth))
