"""Three Kinect-like sensors around the room: where they stand, what they see, what they get wrong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hhmnet.skeleton import KINECT20
from hhmnet.synthetic.motion import Performance, performance
from hhmnet.synthetic.moves import MOTIONS

_NOISE_STREAM = 3  # hhmnet.synthetic.motion uses 1 and 2


@dataclass(frozen=True)
class Camera:
    """A sensor's place in the room.

    Camera coordinates are Kinect v1's: metres from the sensor, x to the *sensor's* left, y up, z away from
    it. A person who faces the sensor thus has the left shoulder at the smaller x. The point ``(x, y, z)``
    lies in row ``cy - f * y / z`` of a picture, and in column ``cx - f * x / z``; in a mirrored picture, as
    Kinect v1's software delivers it, in column ``cx + f * x / z``.

    Attributes:
        yaw: where the sensor stands around the room's middle, radians from +z towards +x.
        distance: metres from the upright through the middle.
        height: metres above the floor.
        pitch: how far it looks down, radians.
    """

    yaw: float
    distance: float
    height: float
    pitch: float

    @cached_property
    def position(self) -> np.ndarray:
        """The sensor in room coordinates, ``(3,)`` metres."""
        return np.array([self.distance * np.sin(self.yaw), self.height, self.distance * np.cos(self.yaw)])

    @cached_property
    def rotation(self) -> np.ndarray:
        """``(3, 3)`` rotation; its rows are the camera's axes in room coordinates."""
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        level = np.array([-sin, 0.0, -cos])
        up = np.array([0.0, 1.0, 0.0])
        axis_z = np.cos(self.pitch) * level - np.sin(self.pitch) * up
        axis_y = np.sin(self.pitch) * level + np.cos(self.pitch) * up
        return np.stack([np.cross(axis_y, axis_z), axis_y, axis_z])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Room coordinates ``(..., 3)`` to camera coordinates ``(..., 3)``."""
        return (points - self.position) @ self.rotation.T


CAMERAS: dict[int, Camera] = {
    1: Camera(yaw=0.0, distance=3.00, height=0.95, pitch=0.02),
    2: Camera(yaw=-np.pi / 4, distance=3.10, height=1.10, pitch=0.06),
    3: Camera(yaw=np.pi / 4, distance=2.90, height=0.85, pitch=0.00),
}

# Kinect finds the trunk more steadily than what moves fast or is thin.
_UNSTEADY = {"elbow": 1.4, "knee": 1.4, "wrist": 2.0, "ankle": 2.0, "hand": 2.5, "foot": 2.5}
_LIMBS = [j for j, name in enumerate(KINECT20.joints) if name.split("_")[-1] in _UNSTEADY]
_JITTER = np.array([_UNSTEADY.get(name.split("_")[-1], 1.0) for name in KINECT20.joints])


def observe(acted: Performance, view: int, seed: int = 0) -> np.ndarray:
    """What a sensor reports of a performance: ``(T, 20, 3)`` camera coordinates in metres.

    The performance, with jitter that grows with depth, a constant misplacement of every joint, and joints
    that are lost for some frames. Like the performance it is the same for both members of a pair of actions.

    Args:
        acted: the performance.
        view: which sensor, 1 to 3.
        seed: seed of the whole set.

    Raises:
        ValueError: there is no such view.
    """
    if view not in CAMERAS:
        raise ValueError(
            f"sample set: field 'view' must be one of {', '.join(map(str, CAMERAS))}, got {view}"
        )
    stream = list(MOTIONS).index(acted.action.motion)
    rng = np.random.default_rng([seed, _NOISE_STREAM, stream, acted.subject.number, acted.episode, view])
    seen = CAMERAS[view].to_camera(acted.joints)
    return _lose(seen + _jitter(seen, rng), rng)


def clip_joints(action: int, subject: int, episode: int, view: int, seed: int = 0) -> np.ndarray:
    """One clip of the sample set, ``(T, 20, 3)`` camera coordinates in metres: a performance, observed.

    Raises:
        ValueError: a number out of range.
    """
    return observe(performance(action, subject, episode, seed), view, seed)


def _jitter(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Errors ``(T, 20, 3)`` that grow with the square of depth, as triangulation's do; largest along z."""
    frames = len(seen)
    scale = 0.0035 * (seen[..., 2:] / 2.5) ** 2 * _JITTER[:, None] * np.array([1.0, 1.0, 1.6])
    quick = rng.normal(size=seen.shape)
    padded = rng.normal(size=(frames + 6, *seen.shape[1:])).cumsum(0)
    slow = (padded[6:] - padded[:-6]) / np.sqrt(6.0)
    return scale * (quick + 1.5 * slow + 2.0 * rng.normal(size=(1, *seen.shape[1:])))


def _lose(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Freeze or misplace limb joints, and what hangs on them, for some frames; hidden ones more often.

    A joint counts as hidden where it lies behind hip_center as the sensor sees it.
    """
    frames = len(seen)
    hidden = np.clip((seen[:, _LIMBS, 2] - seen[:, :1, 2]) / 0.2, 0.0, 1.0).mean(0)
    events = rng.poisson((0.05 + 0.35 * hidden) * frames / 50)
    for joint in np.repeat(_LIMBS, events):
        start, length = int(rng.integers(1, frames - 3)), int(rng.integers(3, 13))
        lost, span = _HANGING[joint], slice(start, start + length)
        if rng.random() < 0.6:
            seen[span, lost] = seen[start - 1, lost]
        else:
            seen[span, lost] += rng.normal(0.0, 0.08, 3)
    return seen


def _hanging() -> dict[int, list[int]]:
    """For every joint, itself and the joints further out on the same limb."""
    return {
        joint: [
            other
            for other in range(KINECT20.num_joints)
            if KINECT20.hops[other, KINECT20.root]
            == KINECT20.hops[other, joint] + KINECT20.hops[joint, KINECT20.root]
        ]
        for joint in _LIMBS
    }


_HANGING = _hanging()
