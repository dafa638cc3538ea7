"""A kinect20 body: who it belongs to, where its joints are when it takes a pose, and from where sensors see it.

Frames are right-handed with y up. In the *actor frame* the floor is y = 0, x points to the actor's left and z ahead.
Arrays are ``(T, ...)``: time is vectorised, not looped over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hhmnet.skeleton import KINECT20

FPS = 30.0
JOINT = {name: KINECT20.index(name) for name in KINECT20.joints}

# Bones of an average adult as fractions of body height, after the medians seen in Kinect v1 recordings.
_BONES = {"spine": 0.040, "shoulder_center": 0.205, "head": 0.113, "shoulder": 0.110, "elbow": 0.155}
_BONES |= {"wrist": 0.143, "hand": 0.048, "hip": 0.058, "knee": 0.262, "ankle": 0.228, "foot": 0.056}
_ANKLE_HEIGHT = 0.040  # of body height; the foot joint hangs a little lower
_HIP_DROP = 0.7  # downward part of the unit vector from hip_center to a hip
UP, _AHEAD = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Subject:
    """One person: a body, lengths in metres, and a way of moving."""

    number: int  # in file names, from 1
    height: float
    bones: dict[str, float]  # by the far joint ("elbow" is the upper arm); both sides are alike
    handedness: str  # "left" or "right", the hand that acts
    speed: float  # how fast the person moves; 1 is average, also of amplitude
    amplitude: float  # how widely the person moves
    stoop: float  # forward bend of the trunk at rest, radians
    flare: float  # how far the elbows stand out from the trunk; 0 hangs straight down
    squat: float  # 0 stoops to reach down, 1 bends the knees

    @property
    def arm(self) -> float:
        """Length of upper arm and forearm together."""
        return self.bones["elbow"] + self.bones["wrist"]

    @property
    def ankle_height(self) -> float:
        """Height of the ankle above the floor when the foot stands flat."""
        return _ANKLE_HEIGHT * self.height

    @property
    def hip_height(self) -> float:
        """Height of hip_center in relaxed standing, with the knees a little bent."""
        legs = self.bones["knee"] + self.bones["ankle"]
        return self.ankle_height + 0.985 * legs + _HIP_DROP * self.bones["hip"]


def make_subject(number: int, rng: np.random.Generator) -> Subject:
    """Draw a person from ``rng``."""
    height = float(np.clip(rng.normal(1.70, 0.09), 1.50, 1.92))
    arms, legs, trunk = rng.normal(1.0, (0.03, 0.025, 0.025))
    limbs = dict.fromkeys(("elbow", "wrist", "hand"), arms) | dict.fromkeys(("knee", "ankle", "foot"), legs)
    bones = {
        bone: float(share * height * limbs.get(bone, trunk) * rng.normal(1.0, 0.015))
        for bone, share in _BONES.items()
    }
    return Subject(
        number=number,
        height=height,
        bones=bones,
        handedness="left" if number % 5 == 2 else "right",  # allotted, so that every set has both
        speed=float(np.clip(rng.normal(1.0, 0.13), 0.75, 1.3)),
        amplitude=float(np.clip(rng.normal(1.0, 0.10), 0.8, 1.2)),
        stoop=float(rng.normal(0.06, 0.05)),
        flare=float(rng.uniform(0.08, 0.25)),
        squat=float(rng.uniform(0.1, 0.9)),
    )


@dataclass
class Pose:
    """What a motion controls, for a right-handed actor in the actor frame; axis 1 of limbs is (left, right).

    Wrists and elbows stand along (outward, up, forward): axes that turn with heading and twist but stay upright, so a
    hanging arm hangs however the trunk bends. Angles are radians.
    """

    root: np.ndarray  # (T, 3) hip_center, metres
    heading: np.ndarray  # (T,) direction the pelvis faces; positive turns left
    bend: np.ndarray  # (T,) forward bend of the chest; the pelvis takes a part of it
    lean: np.ndarray  # (T,) sideways bend, positive to the left
    twist: np.ndarray  # (T,) turn of the shoulders against the pelvis, positive to the left
    nod: np.ndarray  # (T,) forward tilt of the head against the upright
    gaze: np.ndarray  # (T,) turn of the head against the pelvis
    wrists: np.ndarray  # (T, 2, 3) targets from the shoulder, in arm lengths
    elbows: np.ndarray  # (T, 2, 3) where the elbows point; need not have unit length
    ankles: np.ndarray  # (T, 2, 3) targets, metres
    toes: np.ndarray  # (T, 2) direction of each foot, like heading
    heel: np.ndarray  # (T, 2) how far each heel is up: the foot tips down beyond standing flat


def standing(subject: Subject, frames: int, rng: np.random.Generator) -> Pose:
    """Relaxed standing with a little sway: the :class:`Pose` that every motion starts from."""
    seconds = np.arange(frames) / FPS

    def sway(size: float) -> np.ndarray:
        """A slow wander of roughly ``size``, different every time."""
        rates, phases = rng.uniform(0.15, 0.6, 2), rng.uniform(0, 2 * np.pi, 2)
        return size * np.sin(2 * np.pi * rates * seconds[:, None] + phases).sum(1)

    root = np.stack([sway(0.008), subject.hip_height + sway(0.002), sway(0.006)], 1)
    rest = np.array([[0.05 + subject.flare * s, -0.95, 0.08] for s in rng.uniform(0.6, 1.4, 2)])
    apart = 0.5 * subject.height * rng.uniform(0.10, 0.16)
    stagger = rng.normal(0.0, 0.025)
    ankles = [[sign * apart, subject.ankle_height, sign * stagger - 0.03] for sign in (1, -1)]
    toe_out = rng.uniform(0.05, 0.35)
    wander = np.stack([sway(0.012) for _ in range(6)], 1).reshape(frames, 2, 3)
    return Pose(
        root=root,
        heading=np.zeros(frames),
        bend=subject.stoop + sway(0.015),
        lean=sway(0.012),
        twist=sway(0.03),
        nod=0.5 * subject.stoop + rng.normal(0.1, 0.08) + sway(0.02),
        gaze=sway(0.08),
        wrists=rest[None] + wander,
        elbows=np.tile([0.45, 0.0, -1.0], (frames, 2, 1)),
        ankles=np.tile(ankles, (frames, 1, 1)),
        toes=np.tile([toe_out, -toe_out], (frames, 1)),
        heel=np.zeros((frames, 2)),
    )


def turn(vectors: np.ndarray, angle: np.ndarray | float) -> np.ndarray:
    """Rotate ``vectors (..., 3)`` by angles ``(...)``, or one for all, in radians about the upright, z towards x."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack(np.broadcast_arrays(cos * x + sin * z, y, cos * z - sin * x), -1)


def _tilt(vector: np.ndarray, bend: np.ndarray, lean: np.ndarray) -> np.ndarray:
    """Rotate ``vector (3,)`` by ``lean (T,)`` to the left, then by ``bend (T,)`` forward: ``(T, 3)``."""
    x, y, z = vector
    x, y = np.cos(lean) * x + np.sin(lean) * y, np.cos(lean) * y - np.sin(lean) * x
    return np.stack([x, np.cos(bend) * y - np.sin(bend) * z, np.sin(bend) * y + np.cos(bend) * z], -1)


def two_bones(
    start: np.ndarray, target: np.ndarray, pole: np.ndarray, first: float, second: float
) -> tuple[np.ndarray, np.ndarray]:
    """Middle and end joint of a limb from ``start`` towards ``target``, all ``(T, 3)``, by the law of cosines.

    The limb bends towards ``pole``. A target out of reach is approached along the straight line, so both bones keep
    their lengths (``first``, ``second``, metres).
    """
    reach = target - start
    wanted = np.linalg.norm(reach, axis=-1, keepdims=True)
    axis = reach / np.maximum(wanted, 1e-9)
    distance = np.clip(wanted, abs(first - second) + 0.15 * second, 0.998 * (first + second))
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    aside = pole - (pole * axis).sum(-1, keepdims=True) * axis
    aside /= np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-9)
    middle = start + first * (cosine * axis + np.sqrt(np.maximum(1 - cosine**2, 0.0)) * aside)
    return middle, start + distance * axis


def joints_of(pose: Pose, subject: Subject) -> np.ndarray:
    """Forward kinematics: the joints ``(T, 20, 3)`` of ``subject`` in ``pose``, metres in the actor frame.

    A left-handed subject gets the mirror image of the pose.
    """
    bones, bend, lean, heading = subject.bones, pose.bend, pose.lean, pose.heading
    shoulders = heading + pose.twist
    flat = np.arcsin(0.6 * subject.ankle_height / bones["foot"])
    at = {"hip_center": pose.root}

    def grow(child: str, parent: str, direction: np.ndarray, facing: np.ndarray, bone: str) -> None:
        """Put ``child`` one bone away from ``parent`` along ``direction (T, 3)``, turned to ``facing``."""
        at[child] = at[parent] + bones[bone] * turn(direction, facing)

    grow("spine", "hip_center", _tilt(UP, 0.6 * bend, 0.6 * lean), heading, "spine")
    grow("shoulder_center", "spine", _tilt(UP, bend, lean), heading, "shoulder_center")
    grow("head", "shoulder_center", _tilt(UP, pose.nod, 0.5 * lean), heading + pose.gaze, "head")
    for side, (name, sign) in enumerate((("left", 1.0), ("right", -1.0))):
        collar = np.array([sign * 0.83, -0.55, -0.08])
        collar = _tilt(collar / np.linalg.norm(collar), bend, lean)
        grow(f"{name}_shoulder", "shoulder_center", collar, shoulders, "shoulder")
        pelvis = np.array([sign * np.sqrt(1 - _HIP_DROP**2), -_HIP_DROP, 0.0])
        grow(f"{name}_hip", "hip_center", _tilt(pelvis, 0.4 * bend, 0.3 * lean), heading, "hip")

        outward, shoulder = np.array([sign, 1.0, 1.0]), at[f"{name}_shoulder"]
        target = shoulder + subject.arm * turn(pose.wrists[:, side] * outward, shoulders)
        pole = turn(pose.elbows[:, side] * outward, shoulders)
        elbow, wrist = two_bones(shoulder, target, pole, bones["elbow"], bones["wrist"])
        hand = wrist + (wrist - elbow) / bones["wrist"] * bones["hand"]  # it goes on along the forearm

        ahead = turn(_AHEAD, pose.toes[:, side])  # the knee bends above the toes
        slope = flat + pose.heel[:, side]
        rise = bones["foot"] * np.maximum(np.sin(slope) - np.sin(flat), 0.0)  # it turns about the toes
        target = pose.ankles[:, side] + rise[:, None] * UP
        knee, ankle = two_bones(at[f"{name}_hip"], target, ahead, bones["knee"], bones["ankle"])
        foot = ankle + bones["foot"] * (np.cos(slope)[:, None] * ahead - np.sin(slope)[:, None] * UP)
        at |= {f"{name}_elbow": elbow, f"{name}_wrist": wrist, f"{name}_hand": hand}
        at |= {f"{name}_knee": knee, f"{name}_ankle": ankle, f"{name}_foot": foot}
    joints = np.stack([at[name] for name in KINECT20.joints], 1)
    if subject.handedness == "left":
        joints = joints[:, KINECT20.mirrored] * np.array([-1.0, 1.0, 1.0])
    return joints


class Camera(NamedTuple):
    """A Kinect-like sensor's place in the room.

    Camera coordinates are Kinect v1's: metres from the sensor, x to the *sensor's* left, y up, z away from it. A person
    who faces the sensor thus has the left shoulder at the smaller x. Kinect's pictures are mirror images: the point
    ``(x, y, z)`` lies in column ``cx + f * x / z`` and row ``cy - f * y / z``.
    """

    position: np.ndarray  # (3,) metres in the room
    rotation: np.ndarray  # (3, 3); its rows are the camera's axes in the room

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Room coordinates ``(..., 3)`` to camera coordinates ``(..., 3)``."""
        return (points - self.position) @ self.rotation.T


def _camera(yaw: float, distance: float, height: float, pitch: float) -> Camera:
    """A sensor so many metres from the room's middle and the floor, at ``yaw`` from +z towards +x; it looks down."""
    level = np.array([-np.sin(yaw), 0.0, -np.cos(yaw)])
    axis_z = np.cos(pitch) * level - np.sin(pitch) * UP
    axis_y = np.sin(pitch) * level + np.cos(pitch) * UP
    return Camera(height * UP - distance * level, np.stack([np.cross(axis_y, axis_z), axis_y, axis_z]))


CAMERAS: dict[int, Camera] = {
    1: _camera(yaw=0.0, distance=3.00, height=0.95, pitch=0.02),
    2: _camera(yaw=-np.pi / 4, distance=3.10, height=1.10, pitch=0.06),
    3: _camera(yaw=np.pi / 4, distance=2.90, height=0.85, pitch=0.00),
}
