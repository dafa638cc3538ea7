"""A long recording of actions and pauses: the actions are found, and standing about is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.timeline import Segment, TimelineConfig, recognise_long
from hhmnet.skeleton import KINECT20
from made_bodies import at_rest
from made_models import skeleton_model

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
    for number in range(60):
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
