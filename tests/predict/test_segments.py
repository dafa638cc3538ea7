from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hhmnet.predict.segments import TimelineConfig, merge, smooth, to_segments, windows


@pytest.mark.parametrize(
    ("duration", "starts"),
    [
        (1.5, [0]),
        (2.0, [0]),
        (2.2, [0, 0.2]),
        (3.0, [0, 0.5, 1.0]),
        (3.1, [0, 0.5, 1.0, 1.1]),
        (3.01, [0, 0.5, 1.0]),
    ],
)
def test_windows_reach_from_end_to_end(duration: float, starts: list[float]) -> None:
    found, ends = windows(duration, 2.0, 0.5)
    np.testing.assert_allclose(found, starts)
    np.testing.assert_allclose(ends, np.minimum(np.array(starts) + 2, duration))
    assert ends[-1] == pytest.approx(duration, abs=0.05)


def test_smoothing_is_a_gaussian_mean_of_what_is_known() -> None:
    rows = np.random.default_rng(0).random((9, 3)).astype(np.float32)
    rows[4] = np.nan
    times = np.cumsum(np.random.default_rng(1).uniform(0.1, 0.5, 9))
    found = smooth(rows, times, 0.4)
    for i in range(9):
        total, weights = np.zeros(3), 0.0
        for j in range(9):
            apart = abs(times[i] - times[j])
            if j != 4 and apart <= 1.6:
                weight = np.exp(-(apart**2) / (2 * 0.4**2))
                total, weights = total + weight * rows[j], weights + weight
        np.testing.assert_allclose(found[i], total / weights if i != 4 else np.nan, rtol=1e-5)
    np.testing.assert_array_equal(smooth(rows, times, 0), rows)


def plain_merge(rows: np.ndarray, enter: float, leave: float) -> list[int | None]:
    """Which class holds in each window, from the definition."""
    held: list[int | None] = []
    now: int | None = None
    for row in rows:
        if np.isnan(row[0]):
            now = None
        elif max(row) >= enter:
            now = list(row).index(max(row))
        elif now is not None and row[now] < leave:
            now = None
        held.append(now)
    return held


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


def test_a_wavering_answer_stays_whole() -> None:
    rows = np.array([[p, 1 - p - 0.25, 0.25] for p in (0.2, 0.6, 0.42, 0.55, 0.41, 0.3, 0.2)])
    assert merge(rows, 0.6, 0.4) == [(1, 4, 0)]
    assert merge(rows, 0.6, 0.6) == [(1, 1, 0)]


def test_segments_in_seconds_and_frames() -> None:
    times = np.arange(100) / 10
    middles = np.array([1.0, 2.0, 3.0, 4.0, 9.0])
    rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [np.nan] * 2, [0.7, 0.3]])
    config = TimelineConfig(shortest=0)
    first, second, third = to_segments(2, rows, ("sit", "walk"), middles, times, 10.0, config)
    assert first[:6] == (2, "sit", 0.0, 2.5, 0, 24)
    assert first.probability == pytest.approx(0.85)
    assert second[:6] == (2, "walk", 2.5, 3.5, 25, 34)
    assert third[:6] == (2, "sit", 6.5, 10.0, 65, 99)
    config.shortest = 1.5
    kept = to_segments(2, rows, ("sit", "walk"), middles, times, 10.0, config)
    assert [segment.label for segment in kept] == ["sit", "sit"]


def test_a_short_recording_keeps_its_only_segment() -> None:
    config = TimelineConfig(shortest=5)
    (only,) = to_segments(
        1, np.array([[0.9, 0.1]]), ("a", "b"), np.array([0.5]), np.arange(10) / 10, 1.0, config
    )
    assert only[:4] == (1, "a", 0.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"enter": 0.3, "leave": 0.5}, "'leave' must be at most enter"),
        ({"stride": 0}, "'stride'"),
        ({"window": -1}, "'window'"),
    ],
)
def test_wrong_choices_are_named(fields: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TimelineConfig(**fields)
