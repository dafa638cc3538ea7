"""A long recording of actions and pauses: the actions are found, and standing about is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.timeline import Segment, TimelineConfig, recognise_long
from hhmnet.skeleton import KINECT20
from made_models import skeleton_model

RATE = 30
MOVING = {"wave": ("right_hand", "right_wrist"), "kick": ("left_foot", "left_ankle"), "nod": ("head",)}
HEIGHTS = {"head": 1.7, "shoulder": 1.4, "spine": 1.1, "hip": 0.95, "elbow": 1.15, "wrist": 0.95, "hand": 0.9}


def standing(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Somebody who stands and sways before a sensor that errs by half a centimetre, ``(T, 20, 3)``."""
    rest = np.zeros((20, 3))
    for place, name in enumerate(KINECT20.joints):
        side = name.startswith("left") - name.startswith("right")
        height = next((value for part, value in HEIGHTS.items() if part in name), 0.5 * ("knee" in name))
        rest[place] = 0.25 * side, height, 0
    sway = 0.01 * np.sin(np.arange(frames) / 20 + rng.uniform(0, 6))[:, None, None]
    return rest + sway + rng.normal(0, 0.005, (frames, 20, 3))


def acting(name: str, frames: int, rng: np.random.Generator) -> np.ndarray:
    """The same person, who swings one limb twice."""
    joints = standing(frames, rng)
    swing = rng.uniform(0.35, 0.5) * np.sin(np.linspace(0, 4 * np.pi, frames))
    for joint in MOVING[name]:
        joints[:, KINECT20.index(joint), 0] += swing
    return joints


def example(name: str, rng: np.random.Generator) -> np.ndarray:
    """Most of an action, and a little of what is before or after it."""
    frames, length = rng.integers(45, 75, 2)
    joints = np.concatenate([standing(30, rng), acting(name, int(frames), rng), standing(30, rng)])
    start = int(30 + frames * rng.uniform(0.1, 0.9) - length / 2)
    return joints[max(start, 0) : max(start, 0) + length]


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """Knows the three actions from twenty clips of each."""
    folder, rng = tmp_path_factory.mktemp("examples"), np.random.default_rng(0)
    examples: dict[str, list[Path]] = {name: [] for name in MOVING}
    for number in range(60):
        name = list(MOVING)[number % 3]
        examples[name].append(folder / f"{number}.npz")
        np.savez(examples[name][-1], joints=example(name, rng))
    return Recognizer(skeleton_model(frames=16)).enroll(examples)


def f1(found: list[Segment], truth: list[tuple[str, float, float]]) -> float:
    """Of segments, each with at most one true one of its class that it covers with an IoU of 0.5 or more."""
    left, hits = list(truth), 0
    for segment in found:
        for one in left:
            label, start, end = one
            shared = min(end, segment.end) - max(start, segment.start)
            if label == segment.label and shared >= 0.5 * (max(end, segment.end) - min(start, segment.start)):
                left.remove(one)
                hits += 1
                break
    return 2 * hits / (len(found) + len(truth))


def test_actions_are_found_and_pauses_stay_empty(recognizer: Recognizer, tmp_path: Path) -> None:
    rng, parts, truth, time = np.random.default_rng(1), [], list[tuple[str, float, float]](), 0.0
    for _ in range(8):
        for name in ("", list(MOVING)[int(rng.integers(3))]):
            frames = int(rng.integers(45, 75) if name else rng.integers(60, 120))
            parts.append(acting(name, frames, rng) if name else standing(frames, rng))
            truth += [(name, time, time + frames / RATE)] if name else []
            time += frames / RATE
    np.savez(tmp_path / "long.npz", joints=np.concatenate(parts))
    found = recognise_long(recognizer, tmp_path / "long.npz", TimelineConfig(window=2.0)).segments
    pauses = time - sum(end - start for _, start, end in truth)
    wrong = sum(segment.end - segment.start for segment in found) - sum(
        max(0.0, min(end, segment.end) - max(start, segment.start))
        for segment in found
        for _, start, end in truth
    )
    assert f1(found, truth) >= 0.8
    assert wrong < 0.1 * pauses
