"""From one skeleton layout to another: ntu25 → kinect20 → coco17, and back where there is a way back.

A target joint is a source joint of the same place, or the mean of a few that lie around it. Where none does, it is
missing: zero, with confidence 0. Limbs and head are the same joints in both Kinects. Elsewhere the two generations put
their joints differently (heights measured on UTD-MHAD for v1 and on NTU RGB+D for v2), so these are approximations:

=========================  =======================================  =================================================
target joint               made from                                what is off
=========================  =======================================  =================================================
kinect20 hip_center        ntu25 spine_base, and back               v1 puts it some 7 cm above the hips, v2 between them
kinect20 spine             mean of ntu25 spine_base, spine_mid      little: v1 puts it some 13 cm above the hips
kinect20 shoulder_center   ntu25 neck, and back                     little: both some 10 cm above the shoulders
ntu25 spine_mid            mean of kinect20 hip_center,             a few centimetres too high
                           shoulder_center
ntu25 spine_shoulder       mean of kinect20 shoulder_center and     little
                           both shoulders
coco17 nose                head of either Kinect                    that is the middle of the skull
=========================  =======================================  =================================================

ntu25's hand tips and thumbs have no place in kinect20, and coco17's eyes and ears none in either.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hhmnet.skeleton import COCO17, KINECT20, LAYOUTS, NTU25, LayoutError, SkeletonLayout

Sources = dict[str, tuple[str, ...]]
"""Joints whose mean each target joint is, by name; a target joint that isn't named is missing."""


def _same(source: SkeletonLayout, target: SkeletonLayout, **others: tuple[str, ...]) -> Sources:
    """Joints of one name are the same; ``others`` are added."""
    return {joint: (joint,) for joint in target.joints if joint in source.joints} | others


_RULES: dict[tuple[str, str], Sources] = {
    ("ntu25", "kinect20"): _same(
        NTU25,
        KINECT20,
        hip_center=("spine_base",),
        spine=("spine_base", "spine_mid"),
        shoulder_center=("neck",),
    ),
    ("kinect20", "ntu25"): _same(
        KINECT20,
        NTU25,
        spine_base=("hip_center",),
        spine_mid=("hip_center", "shoulder_center"),
        spine_shoulder=("shoulder_center", "left_shoulder", "right_shoulder"),
        neck=("shoulder_center",),
    ),
    ("kinect20", "coco17"): _same(KINECT20, COCO17, nose=("head",)),
    ("ntu25", "coco17"): _same(NTU25, COCO17, nose=("head",)),
}

_HIPS, _SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")

# The same places as in hhmnet.pose.clips, which has no head but ears.
_TRUNKS: dict[str, Sources] = {
    "kinect20": {
        "hip_center": _HIPS * 6 + _SHOULDERS,
        "spine": _HIPS * 3 + _SHOULDERS,
        "shoulder_center": (*_SHOULDERS, "head"),
    },
    "ntu25": {
        "spine_base": _HIPS,
        "spine_mid": _HIPS + _SHOULDERS,
        "spine_shoulder": _SHOULDERS,
        "neck": (*_SHOULDERS, "head"),
    },
}


def trunk_means(layout: SkeletonLayout) -> np.ndarray:
    """Share of each joint (columns) in each joint (rows), ``(V, V)`` float32, that derives the trunk from the others.

    Hips, shoulders and head are found by every sensor and estimator; where between them the trunk's other joints lie,
    each decides for itself. As means of these five they are in the same place for all.

    Raises:
        LayoutError: nothing is known of the layout's trunk.
    """
    if layout.name not in _TRUNKS:
        raise LayoutError(f"the trunk can be derived in {' and '.join(_TRUNKS)}, not in {layout.name}")
    shares = np.eye(layout.num_joints, dtype=np.float32)
    for joint, names in _TRUNKS[layout.name].items():
        row = shares[layout.index(joint)]
        row[:] = 0
        for name in names:
            row[layout.index(name)] += 1 / len(names)
    return shares


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera without lens distortion.

    A point (x, y, z) in metres, y up, z away from the camera, is seen at the pixel ``(cx + fx·x/z, cy − fy·y/z)``: x
    right, y down, (0, 0) the middle of the upper left pixel.

    Kinects deliver mirrored pictures, in which their x goes to the right. In the picture of any other camera it goes to
    the left: give a negative ``fx`` for joints with a Kinect's axes.

    Attributes:
        fx: focal length in pixels, across; negative if x goes to the left of the picture.
        fy: focal length in pixels, down.
        cx: where the optical axis meets the picture, pixels from the left.
        cy: likewise, pixels from above.
        size: width and height of the picture, pixels.
        rotation: ``(3, 3)``, turns the joints' coordinates into the camera's; none by default.
        translation: ``(3,)`` metres, added after that.

    Raises:
        ValueError: a field can't be one of a camera.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    size: tuple[int, int]
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    translation: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def __post_init__(self) -> None:
        for name in ("rotation", "translation"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        if not 0 < abs(self.fx) < np.inf or not 0 < self.fy < np.inf:
            raise ValueError("camera: fields 'fx' and 'fy' must be focal lengths in pixels, and 'fy' above 0")
        if not np.isfinite([self.cx, self.cy]).all():
            raise ValueError("camera: fields 'cx' and 'cy' must be finite")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError("camera: field 'size' must be a width and a height in pixels")
        turn = self.rotation
        if (
            turn.shape != (3, 3)
            or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-6)
            or np.linalg.det(turn) < 0
        ):
            raise ValueError("camera: field 'rotation' must be a rotation matrix of shape (3, 3)")
        if self.translation.shape != (3,) or not np.isfinite(self.translation).all():
            raise ValueError("camera: field 'translation' must be three finite numbers")

    def resized(self, width: int, height: int) -> Camera:
        """The same camera when its pictures are scaled to another size."""
        across, down = width / self.size[0], height / self.size[1]
        return replace(
            self,
            fx=self.fx * across,
            fy=self.fy * down,
            cx=(self.cx + 0.5) * across - 0.5,
            cy=(self.cy + 0.5) * down - 0.5,
            size=(width, height),
        )


# Nominal focal lengths of Microsoft's Kinect for Windows SDK 1.x (NuiImageCamera.h): 285.63 pixels for depth at
# 320×240, 531.15 for colour at 640×480.
KINECT_V1_DEPTH = Camera(285.63, 285.63, 159.5, 119.5, (320, 240))
KINECT_V1_COLOR = Camera(531.15, 531.15, 319.5, 239.5, (640, 480))


def project(joints: np.ndarray, camera: Camera) -> np.ndarray:
    """Where a camera sees joints.

    Args:
        joints: ``(..., 3)`` metres.
        camera: the camera.

    Returns:
        ``(..., 2)`` float32 pixels, also outside the picture; NaN for a joint that isn't in front of the camera.
    """
    seen = np.asarray(joints, np.float64) @ camera.rotation.T + camera.translation
    x, y, z = np.moveaxis(seen, -1, 0)
    z = np.where(z > 0, z, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = np.stack([camera.cx + camera.fx * x / z, camera.cy - camera.fy * y / z], axis=-1)
        pixels = pixels.astype(np.float32)
    pixels[~np.isfinite(pixels).all(axis=-1)] = np.nan
    return pixels


def convert(
    joints: np.ndarray,
    source: SkeletonLayout,
    target: SkeletonLayout,
    confidence: np.ndarray | None = None,
    camera: Camera | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Joints of one layout as joints of another.

    Args:
        joints: ``(..., V, C)`` of the source layout.
        source: the layout they have.
        target: the layout they should have.
        confidence: trust in each joint, ``(..., V)`` from 0 to 1; 0 where a joint is missing. All 1 by default.
        camera: needed where the source is 3-D and the target 2-D; else unused.

    Returns:
        Joints ``(..., V', C')`` and confidence ``(..., V')``, float32. A mean is as trusted as the least trusted of
        its joints; a missing joint is zero, with confidence 0, and so is one that lies behind the camera.

    Raises:
        LayoutError: the joints don't fit the source layout, there is no way to the target, or it needs a camera.
    """
    joints = np.asarray(joints)
    source.check(joints)
    trust = (
        np.ones(joints.shape[:-1], np.float32) if confidence is None else np.asarray(confidence, np.float32)
    )
    if trust.shape != joints.shape[:-1]:
        raise LayoutError(f"the confidence must have the shape {joints.shape[:-1]}, got {trust.shape}")
    rule = _rule(source, target)
    if target.dims < source.dims:
        if camera is None:
            raise LayoutError(
                f"{source.name} is in metres and {target.name} in pixels; give the camera that saw the joints, such as "
                f"convert(…, camera=KINECT_V1_COLOR)"
            )
        joints = project(joints, camera)
        trust = np.where(np.isfinite(joints).all(axis=-1), trust, 0)
    found = np.zeros((*joints.shape[:-2], target.num_joints, target.dims), np.float32)
    trusted = np.zeros(found.shape[:-1], np.float32)
    for name, names in rule.items():
        joint, parts = target.index(name), [source.index(part) for part in names]
        trusted[..., joint] = trust[..., parts].min(axis=-1)
        mean = joints[..., parts, :].mean(axis=-2)
        found[..., joint, :] = np.where(trusted[..., joint, None] > 0, mean, 0)
    return found, trusted


def _rule(source: SkeletonLayout, target: SkeletonLayout) -> Sources:
    if source == target:
        return _same(source, target)
    if target.dims > source.dims:
        raise LayoutError(
            f"{source.name} has no depth, so it can't become {target.name}; estimate 3-D joints from the video instead"
        )
    rule = _RULES.get((source.name, target.name))
    if rule is None or any(layout != LAYOUTS[layout.name] for layout in (source, target)):
        ways = ", ".join(f"{one} → {other}" for one, other in _RULES)
        raise LayoutError(f"no conversion from {source.name} to {target.name} is defined; there are: {ways}")
    return rule
