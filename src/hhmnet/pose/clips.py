"""From the joints found in a video to a clip in the layout that models are trained on, on its way through the room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hhmnet.fields import one_of, within
from hhmnet.pose.estimate import PoseConfig, VideoPoses
from hhmnet.pose.networks import PoseError
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


SMOOTHING = 5.0
"""Standard deviation, in frames, of the smoothing of a person's size: depth follows from it and would tremble."""

_MIN_JOINTS = 4
_TRUSTED = 0.7


def root_path(
    world: np.ndarray,
    pixels: np.ndarray,
    confidence: np.ndarray,
    present: np.ndarray,
    size: tuple[int, int],
    focal: float,
) -> np.ndarray:
    """Positions of the hips relative to the camera, by weak perspective.

    In each frame the joints in metres are laid over the joints in pixels at the scale s (pixels a metre) and place
    that fit best. A camera of focal length f (pixels) then sees the hips, at the pixel (u, v), from the point
    ((u − cx)/s, (v − cy)/s, f/s). The focal length of a video is mostly unknown. If it is wrong by a factor, so is the
    way along the optical axis, while that across it stays right. A camera that moves adds its own way.

    Args:
        world: ``(T, V, 3)`` metres from the middle between the hips: x right, y down, z away from the camera.
        pixels: ``(T, V, 2)`` from the picture's upper left corner.
        confidence: ``(T, V)``; joints below 0.7 don't count.
        present: ``(T,)`` bool.
        size: width and height of the picture.
        focal: focal length as a share of the picture's longer side.

    Returns:
        ``(T, 3)`` float32 metres, axes as in ``world``; zero in frames without a body, and everywhere if in no frame
        enough joints are trusted.
    """
    frames = len(world)
    scale, hips = np.full(frames, np.nan), np.zeros((frames, 2))
    for t in np.flatnonzero(present):
        scale[t], hips[t] = _lay_over(world[t, :, :2], pixels[t], confidence[t])
    known = np.isfinite(scale)
    if not known.any():
        return np.zeros((frames, 3), np.float32)
    smooth = smoothed(np.log(np.where(known, scale, 1.0)), known)
    scale = np.exp(smooth)
    # Where too few joints were seen to lay one over the other, the place is taken from the frames around.
    at = np.flatnonzero(known)
    hips = np.stack([np.interp(np.arange(frames), at, hips[at, axis]) for axis in range(2)], 1)
    center = np.array(size) / 2
    path = np.concatenate([(hips - center) / scale[:, None], (focal * max(size) / scale)[:, None]], 1)
    return np.where(present[:, None], path, 0).astype(np.float32)


def smoothed(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A Gaussian mean over time of ``values (T,)`` where ``known (T,)``; elsewhere the mean of what is known around."""
    apart = np.arange(len(values))[:, None] - np.flatnonzero(known)[None, :]
    # Far from all that is known every weight would vanish; only differences between them count.
    power = -0.5 * (apart / SMOOTHING) ** 2
    weights = np.exp(power - power.max(1, keepdims=True))
    return np.asarray((weights * values[known]).sum(1) / weights.sum(1))


def _lay_over(world: np.ndarray, pixels: np.ndarray, confidence: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale, and the pixel of the origin, that lay ``world (V, 2)`` over ``pixels (V, 2)`` by least squares."""
    trusted = confidence >= _TRUSTED
    if trusted.sum() < _MIN_JOINTS:
        return float("nan"), np.zeros(2)
    weight = np.where(trusted, confidence, 0)[:, None].astype(np.float64)
    weight /= weight.sum()
    middle, place = (weight * world).sum(0), (weight * pixels).sum(0)
    spread = (weight * (world - middle) ** 2).sum()
    scale = (weight * (world - middle) * (pixels - place)).sum() / max(spread, 1e-9)
    if scale <= 0 or spread < 1e-4:
        return float("nan"), np.zeros(2)
    return float(scale), place - scale * middle


def kinect_axes(points: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """``points (..., 3)`` as a Kinect has them: y up, z away from the camera, x to the camera's left.

    Args:
        points: x right and y down in the picture, z away from the camera.
        mirrored: the picture is a mirror image.
    """
    return points * np.array([1 if mirrored else -1, -1, 1], np.float32)


ROOTS = ("path", "zero")


@dataclass
class ClipConfig(PoseConfig):
    """How joints are found in a video, and where the skeleton made of them stands."""

    root: str = "path"
    """Where a skeleton in metres stands: path (on the person's way, from size and place in the picture) or zero
    (always at the origin)."""
    focal: float = 1.2
    """Focal length as a share of the picture's longer side, for the way along the optical axis; 1.2 is a field of view
    of 45 degrees."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "root", ROOTS)
        within(self, 0.1, 100, "focal")


def clip_fields(poses: VideoPoses, layout: SkeletonLayout, config: ClipConfig) -> dict[str, Any]:
    """A sample's fields that follow from what was seen: joints, pixels, confidence, boxes, frames.

    Axes of joints in metres: as a Kinect gives them, y up and z away from the camera, so that of a person who faces the
    camera the left joints have the smaller x. In a picture that isn't mirrored, x therefore goes to the left.

    Args:
        poses: what was seen.
        layout: the joints that are wanted.
        config: where the skeleton stands.

    Raises:
        PoseError: there is no way from the estimator's joints to these.
    """
    joints, confidence = _joints(poses, layout, config)
    pixels, _ = _pixels(poses, layout)
    frames = np.arange(poses.present.shape[1], dtype=np.int32)
    return {
        "joints": joints,
        "present": poses.present,
        "frame_index": frames,
        "pixels": pixels,
        "confidence": confidence,
        "boxes": poses.boxes,
        "interpolated": poses.interpolated,
        "video_frames": frames,
    }


def _joints(poses: VideoPoses, layout: SkeletonLayout, config: ClipConfig) -> tuple[np.ndarray, np.ndarray]:
    """Joints ``(M, T, V, C)`` and confidence ``(M, T, V)`` in the layout."""
    if layout.dims == 2 or poses.world is None:
        return _pixels(poses, layout)
    joints, confidence = mix(poses.world, poses.confidence, poses.layout, layout)
    if config.root == "path":
        paths = [_path(poses, person, config.focal) for person in range(len(joints))]
        joints = joints + np.stack(paths)[:, :, None]
    joints = kinect_axes(joints, config.mirrored)
    # A joint that isn't seen stays where the estimator supposes it: legs under a desk are somewhere below the hips,
    # not at the camera, where a zero would put them and stretch the body's box to them.
    joints[~poses.present] = 0
    return joints, confidence


def _pixels(poses: VideoPoses, layout: SkeletonLayout) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``(M, T, V, 2)``, of which (0, 0) is the middle of the first, and confidence ``(M, T, V)``."""
    pixels, confidence = mix(poses.pixels, poses.confidence, poses.layout, layout)
    pixels -= 0.5
    pixels[confidence <= 0] = 0
    return pixels, confidence


def _path(poses: VideoPoses, person: int, focal: float) -> np.ndarray:
    assert poses.world is not None
    return root_path(
        poses.world[person],
        poses.pixels[person],
        poses.confidence[person],
        poses.present[person],
        poses.size,
        focal,
    )
