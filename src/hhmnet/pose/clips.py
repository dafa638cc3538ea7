"""From what was seen in a video to a clip in the joints that models are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hhmnet.fields import one_of, within
from hhmnet.pose.estimate import PoseConfig, VideoPoses
from hhmnet.pose.layouts import mix
from hhmnet.pose.root import kinect_axes, root_path
from hhmnet.skeleton import SkeletonLayout

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
