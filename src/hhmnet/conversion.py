"""From one skeleton layout to another: blazepose33 → ntu25 → kinect20 → coco17, and others to these.

A target joint is a source joint of the same name, or the mean of a few that lie around its place. Where there is
neither, it is missing: zero, with confidence 0. The two Kinects and BlazePose put their joints differently (heights
measured on UTD-MHAD for v1 and on NTU RGB+D for v2), so these are approximations: between the Kinects,

- hips: v1 puts its hip_center some 7 cm above them, v2 its spine_base between them;
- neck and v1's shoulder_center lie some 10 cm above the shoulders, v1's spine some 13 cm above the hips;
- ntu25's spine_mid, made from kinect20, is a few centimetres too high;
- coco17's nose is the head of a Kinect, which is the middle of the skull.

A Kinect's middle joints lie where BlazePose has no landmark; the weights of their means follow from these heights,
of about 50 cm from hips to shoulders and 25 cm from shoulders to ears. A Kinect's hand lies at the knuckles, its foot
before the ankle. Human3.6M's 17 joints become kinect20 by the same heights (nobody measured them there).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hhmnet.skeleton import LAYOUTS, LayoutError, SkeletonLayout

Means = dict[
    str, str
]  # target joint → the source joints whose mean it is; one that is there twice counts twice

_HIPS, _SHOULDERS, _EARS = (f"left_{joint} right_{joint}" for joint in ("hip", "shoulder", "ear"))


def _sides(**means: str) -> Means:
    """The same means for the left and the right joints."""
    found = {}
    for side in ("left", "right"):
        for joint, parts in means.items():
            found[f"{side}_{joint}"] = " ".join(f"{side}_{part}" for part in parts.split())
    return found


_MEANS: dict[tuple[str, str], Means] = {  # joints that aren't named here have the same name in both
    ("ntu25", "kinect20"): {
        "hip_center": "spine_base",
        "spine": "spine_base spine_mid",
        "shoulder_center": "neck",
    },
    ("kinect20", "ntu25"): {
        "spine_base": "hip_center",
        "spine_mid": "hip_center shoulder_center",
        "spine_shoulder": f"shoulder_center {_SHOULDERS}",
        "neck": "shoulder_center",
    },
    ("kinect20", "coco17"): {"nose": "head"},
    ("ntu25", "coco17"): {"nose": "head"},
    ("blazepose33", "kinect20"): {
        "hip_center": f"{_HIPS} " * 6 + _SHOULDERS,
        "spine": f"{_HIPS} " * 3 + _SHOULDERS,
        "shoulder_center": f"{_SHOULDERS} {_SHOULDERS} {_EARS}",
        "head": _EARS,
        **_sides(hand="index pinky", foot="ankle foot"),
    },
    ("blazepose33", "ntu25"): {
        "spine_base": _HIPS,
        "spine_mid": f"{_HIPS} {_SHOULDERS}",
        "spine_shoulder": _SHOULDERS,
        "neck": f"{_SHOULDERS} {_SHOULDERS} {_EARS}",
        "head": _EARS,
        **_sides(hand="wrist index pinky", hand_tip="index", foot="ankle foot"),
    },
    **{(source, "coco17"): {} for source in ("blazepose33", "body25", "coco18", "halpe26", "h36m17")},
    ("h36m17", "kinect20"): {
        "hip_center": "hip hip spine",
        "spine": "hip spine",
        "shoulder_center": "thorax nose",
        "head": "nose head",
        **_sides(hand="wrist", foot="ankle"),
    },
}


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without lens distortion: focal lengths, middle and size of its picture, all in pixels.

    A point (x, y, z) in metres, y up, z away from the camera, is seen at the pixel ``(cx + fx·x/z, cy − fy·y/z)``: x
    right, y down, (0, 0) the middle of the upper left pixel. Kinects deliver mirrored pictures, in which their x goes
    to the right; for joints with a Kinect's axes in the picture of any other camera, give a negative ``fx``.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    size: tuple[int, int]

    def resized(self, width: int, height: int) -> Camera:
        """The same camera when its pictures are scaled to another size."""
        across, down = width / self.size[0], height / self.size[1]
        cx, cy = (self.cx + 0.5) * across - 0.5, (self.cy + 0.5) * down - 0.5
        return Camera(self.fx * across, self.fy * down, cx, cy, (width, height))


# Nominal focal length of Microsoft's Kinect for Windows SDK 1.x (NuiImageCamera.h).
KINECT_V1_DEPTH = Camera(285.63, 285.63, 159.5, 119.5, (320, 240))


def project(joints: np.ndarray, camera: Camera) -> np.ndarray:
    """Where a camera sees ``joints (..., 3)``, in metres in its own coordinates: ``(..., 2)`` float32 pixels, also
    outside the picture; NaN for a joint that isn't in front of the camera.
    """
    x, y, z = np.moveaxis(np.asarray(joints, np.float64), -1, 0)
    z = np.where(z > 0, z, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = np.stack([camera.cx + camera.fx * x / z, camera.cy - camera.fy * y / z], axis=-1)
        pixels = pixels.astype(np.float32)
    pixels[~np.isfinite(pixels).all(axis=-1)] = np.nan
    return pixels


def targets(source: SkeletonLayout) -> tuple[str, ...]:
    """Names of the layouts that joints of ``source`` can become."""
    return (*(target for start, target in _MEANS if start == source.name), source.name)


def convert(
    joints: np.ndarray,
    source: SkeletonLayout,
    target: SkeletonLayout,
    confidence: np.ndarray | None = None,
    camera: Camera | None = None,
    *,
    keep_missing: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Joints of one layout as joints of another.

    Args:
        joints: ``(..., V, C)`` of the layout ``source``; also pixels ``(..., V, 2)`` of the joints of a 3-D layout,
            which stay pixels.
        confidence: trust in each joint, ``(..., V)`` from 0 to 1; 0 where a joint is missing. All 1 by default.
        camera: needed where the source is in metres and the target 2-D.
        keep_missing: a joint with confidence 0 is where its parts are, as an estimator supposes them, instead of zero.

    Returns joints ``(..., V', C')`` and confidence ``(..., V')``, float32. A mean is as trusted as the least trusted of
    its joints; a missing joint is zero, with confidence 0, and so is one that lies behind the camera. LayoutError is
    raised where the joints don't fit the source layout, there is no way to the target, or it needs a camera.
    """
    joints = np.asarray(joints)
    if joints.shape[-2:] != (source.num_joints, 2):
        source.check(joints)
    if confidence is None:
        confidence = np.ones(joints.shape[:-1], np.float32)
    if confidence.shape != joints.shape[:-1]:
        raise LayoutError(f"the confidence must have the shape {joints.shape[:-1]}, got {confidence.shape}")
    if target.dims > source.dims:
        remedy = "estimate 3-D joints from the video instead"
        raise LayoutError(f"{source.name} has no depth, so it can't become {target.name}; {remedy}")
    are_known = all(layout == LAYOUTS.get(layout.name) for layout in (source, target))
    means = {} if source == target else _MEANS.get((source.name, target.name)) if are_known else None
    if means is None:
        ways = ", ".join(f"{one} → {other}" for one, other in _MEANS)
        raise LayoutError(f"no conversion from {source.name} to {target.name} is defined; there are: {ways}")
    if target.dims < joints.shape[-1]:
        if camera is None:
            remedy = "give the camera, as convert(…, camera=…)"
            raise LayoutError(f"{source.name} is in metres and {target.name} in pixels; {remedy}")
        joints = project(joints, camera)
        confidence = np.where(np.isfinite(joints).all(axis=-1), confidence, 0)
    converted = np.zeros((*joints.shape[:-2], target.num_joints, joints.shape[-1]), np.float32)
    trusted = np.zeros(converted.shape[:-1], np.float32)
    for joint, name in enumerate(target.joints):
        parts = [source.index(part) for part in means.get(name, name).split() if part in source.joints]
        if parts:
            trusted[..., joint] = confidence[..., parts].min(axis=-1)
            converted[..., joint, :] = joints[..., parts, :].mean(axis=-2)
    if not keep_missing:
        converted[trusted <= 0] = 0
    return converted, trusted
