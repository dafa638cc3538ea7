"""What probabilities and "unknown" promise, on made logits of held-out clips."""

from __future__ import annotations

import numpy as np
import pytest

from hhmnet.confidence import Confidence, fit_confidence, softmax


def made(count: int, seed: int, known: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(N, 5)`` of clips, each near its class's place or, unknown, in between; and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, count)
    places = 9 * np.eye(5)[labels] if known else 3 * np.ones((count, 5))
    return places + rng.normal(0, 2, (count, 5)), labels


def test_known_clips_stay_known_and_others_are_told() -> None:
    confidence = fit_confidence(*made(400, 1), made(400, 0)[0])
    asked, others = made(2000, 2)[0], made(2000, 3, known=False)[0]
    assert 0.93 <= confidence.known(asked).mean() <= 0.97
    assert confidence.known(others).mean() < 0.4
    assert 0.88 <= confidence.known(asked, 0.1).mean() <= 0.92
    assert confidence.known(others, 0).all()
    assert Confidence().known(others).all()


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_the_temperature_brings_back_the_true_probabilities(scale: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 4))
    labels = (softmax(logits).cumsum(1) < rng.random((4000, 1))).sum(1).clip(max=3)
    confidence = fit_confidence(scale * logits, labels, logits)
    np.testing.assert_allclose(confidence.temperature, scale, rtol=0.1)
    unlabelled = fit_confidence(logits, np.full(4000, -1), logits)
    assert unlabelled == Confidence()
