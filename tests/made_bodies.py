"""Made bodies that stand as people do, in any layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hhmnet.skeleton import KINECT20, SkeletonLayout

HIPS = 0.95
_HEIGHTS = {
    **dict.fromkeys(("head", "nose", "eye", "ear", "mouth"), 1.6),
    **dict.fromkeys(("neck", "shoulder", "thorax", "shoulder_center", "spine_shoulder"), 1.4),
    **dict.fromkeys(("elbow", "spine", "spine_mid"), 1.15),
    **dict.fromkeys(("wrist", "hand", "hip", "hip_center", "spine_base", "mid_hip"), HIPS),
    **dict.fromkeys(("hand_tip", "thumb", "pinky", "index"), 0.85),
    "knee": 0.5,
    **dict.fromkeys(("ankle", "foot", "heel", "big_toe", "small_toe"), 0.08),
}
_ASIDE = {"eye": 0.03, "ear": 0.07, "mouth": 0.02, "hip": 0.12, "knee": 0.13, "ankle": 0.13, "shoulder": 0.19}
_ASIDE |= {"foot": 0.14, "heel": 0.13, "big_toe": 0.15, "small_toe": 0.18, "thumb": 0.24}


def at_rest(layout: SkeletonLayout = KINECT20) -> np.ndarray:
    """Who stands upright, ``(V, 3)``: metres to the person's left, up from the ground, and away from the camera, 0."""
    body = np.zeros((layout.num_joints, 3))
    for number, name in enumerate(layout.joints):
        side, _, joint = name.partition("_")
        joint, across = (joint, 1 if side == "left" else -1) if side in ("left", "right") else (name, 0)
        joint = joint.removesuffix("_inner").removesuffix("_outer")
        body[number, :2] = _ASIDE.get(joint, 0.25) * across, _HEIGHTS[joint]
    return body


def standing(
    rng: np.random.Generator, layout: SkeletonLayout = KINECT20, frames: int = 6, persons: int = 0
) -> np.ndarray:
    """A body of 1.7 m that waves, three metres away: ``(T, V, 3)``, or ``(M, T, V, 3)`` of ``persons``; metres, y up.

    In a 2-D layout it is ``(T, V, 2)``, in pixels of a picture of 640 by 480, y down.
    """
    if persons:
        return np.stack([standing(rng, layout, frames) for _ in range(persons)])
    body = np.stack([at_rest(layout) + np.array([0, 0, 3])] * frames)
    wave = np.sin(np.arange(frames) + rng.uniform(0, 6))[:, None]
    raised = ("right_wrist", "right_hand", "right_elbow")
    arm = [number for number, name in enumerate(layout.joints) if name in raised]
    body[:, arm, 1] += 0.3 + 0.2 * wave
    body += rng.normal(0, 0.005, body.shape)
    return body if layout.dims == 3 else body[..., :2] * [150, -150] + [320, 300]


POSES = {"arms up": (0.6, 0.0), "arms out": (0.0, 0.5), "crouch": (-0.4, 0.1)}


def posed(pose: str, seed: int) -> np.ndarray:
    """Somebody who moves hands and elbows up or aside, ``(12, 20, 3)`` float32."""
    body = standing(np.random.default_rng(seed), frames=12)
    up, out = POSES[pose]
    along = np.linspace(0, 1, 12)[:, None]
    for side, sign in (((5, 6, 7), 1), ((9, 10, 11), -1)):
        body[:, side, 1] += up * along
        body[:, side, 0] += sign * out * along
    return body.astype(np.float32)


def write_clip(file: Path, pose: str, seed: int) -> Path:
    """A clip of :func:`posed` as a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, joints=posed(pose, seed))
    return file
