"""From an estimator's joints to those of a layout that models are trained on."""

from __future__ import annotations

import numpy as np

from hhmnet.pose.assets import PoseError
from hhmnet.skeleton import BLAZEPOSE33, COCO17, KINECT20, NTU25, SkeletonLayout

Mix = dict[str, str]
"""Target joint → the source joints whose mean it is; one that stands there twice counts twice."""

_HIPS, _SHOULDERS, _EARS = (f"left_{joint} right_{joint}" for joint in ("hip", "shoulder", "ear"))


def _sides(**mixes: str) -> Mix:
    """The same mix for the left and the right; ``@`` stands for the side."""
    return {
        f"{side}_{joint}": " ".join(f"{side}_{part}" for part in parts.split())
        for side in ("left", "right")
        for joint, parts in mixes.items()
    }


# Kinect's middle joints lie where no landmark of BlazePose does. Seen on Kinect data (hhmnet.conversion), hip_center is
# some 7 cm above the hips and spine 13 cm, of about 50 cm to the shoulders; shoulder_center and neck are some 10 cm
# above the shoulders, of about 25 cm to the ears. A Kinect's hand lies at the knuckles, its foot before the ankle.
_MIXES: dict[tuple[str, str], Mix] = {
    (BLAZEPOSE33.name, KINECT20.name): {
        "hip_center": f"{_HIPS} " * 6 + _SHOULDERS,
        "spine": f"{_HIPS} " * 3 + _SHOULDERS,
        "shoulder_center": f"{_SHOULDERS} {_SHOULDERS} {_EARS}",
        "head": _EARS,
        **_sides(hand="index pinky", foot="ankle foot"),
    },
    (BLAZEPOSE33.name, NTU25.name): {
        "spine_base": _HIPS,
        "spine_mid": f"{_HIPS} {_SHOULDERS}",
        "spine_shoulder": _SHOULDERS,
        "neck": f"{_SHOULDERS} {_SHOULDERS} {_EARS}",
        "head": _EARS,
        **_sides(hand="wrist index pinky", hand_tip="index", foot="ankle foot"),
    },
    (BLAZEPOSE33.name, BLAZEPOSE33.name): {},
    (BLAZEPOSE33.name, COCO17.name): {},
    (COCO17.name, COCO17.name): {},
}


def targets(source: SkeletonLayout) -> tuple[str, ...]:
    """Layouts that can be made from what an estimator with the layout ``source`` gives."""
    return tuple(target for start, target in _MIXES if start == source.name)


def mix(
    points: np.ndarray, confidence: np.ndarray, source: SkeletonLayout, target: SkeletonLayout
) -> tuple[np.ndarray, np.ndarray]:
    """Points of the target layout's joints; joints of one name are the same, the others are means.

    Args:
        points: ``(..., V, C)``.
        confidence: ``(..., V)``; 0 for a joint that is missing.
        source: layout of ``points``.
        target: layout of the result.

    Returns:
        Points ``(..., V', C)`` and confidence ``(..., V')``, float32. A mean is as trusted as the least trusted joint
        in it; where one is missing, so is the mean: its confidence is 0, its position that of whatever is given.

    Raises:
        PoseError: there is no way from one layout to the other.
    """
    if (source.name, target.name) not in _MIXES:
        raise PoseError(
            f"joints of {source.name} can't become {target.name}; choose one of {', '.join(targets(source))}"
        )
    special = _MIXES[source.name, target.name]
    made = np.zeros((*points.shape[:-2], target.num_joints, points.shape[-1]), np.float32)
    trust = np.zeros(made.shape[:-1], np.float32)
    for place, joint in enumerate(target.joints):
        parts = [source.index(part) for part in special.get(joint, joint).split()]
        made[..., place, :] = points[..., parts, :].mean(-2)
        trust[..., place] = confidence[..., parts].min(-1)
    return made, trust
