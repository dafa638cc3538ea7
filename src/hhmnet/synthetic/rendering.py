"""Colour pictures of the sample set: a performance as a camera sees it, dressed, in a room, with its object.

Everything but the object is drawn from the subject, the motion and the view: the members of a pair differ in the pixels
of the object alone. Clothes, light and room are new in every clip, so that none tells another's action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hhmnet.synthetic.body import CAMERAS, JOINT, Camera
from hhmnet.synthetic.motion import Performance
from hhmnet.synthetic.scene import Canvas, add_grain, animate, any_colour, colour, room

_SUBJECT_STREAM, _CLOTHES_STREAM, _OBJECT_STREAM, _ROOM_STREAM = 4, 5, 6, 7  # others use 1 to 3
_AVERAGE = 1.70  # body height in metres to which the sizes below apply
_UP = np.array([0.0, 1.0, 0.0])
_SHOWN = np.array([0.0, 0.35, 0.95])  # where flat objects turn their face: to the cameras


def dress(acted: Performance, view: int) -> tuple[dict[str, np.ndarray], float, np.ndarray]:
    """How the subject looks in a clip: skin, hair, build and favourite colour are the person's, the rest the clip's.

    Returns:
        Colours ``(n, 3)`` along skin, hair, shirt, shoulders, sleeves, trousers, legs and shoes; how thick the limbs
        are, 1 is average; the direction towards the light ``(3,)`` in the sensor's coordinates.
    """
    person = np.random.default_rng([acted.seed, _SUBJECT_STREAM, acted.subject.number])
    skin = colour(person.uniform(0.04, 0.09), person.uniform(0.3, 0.6), person.uniform(0.4, 0.95))[None]
    hair = colour(person.uniform(0.03, 0.13), person.uniform(0.2, 0.7), person.uniform(0.08, 0.6))[None]
    favourite, build = person.random(), float(np.clip(person.normal(1.0, 0.1), 0.85, 1.2))
    rng = acted.random(_CLOTHES_STREAM, view)
    hue = favourite + rng.normal(0, 0.08) if rng.random() < 0.5 else rng.random()
    shirt = _fabric(colour(hue, rng.uniform(0.1, 0.9), rng.uniform(0.25, 0.95)), rng)
    trousers = _fabric(colour(rng.random(), rng.uniform(0.05, 0.6), rng.uniform(0.15, 0.8)), rng)
    strips = {"skin": skin, "hair": hair, "shirt": shirt, "shoulders": shirt[:1], "trousers": trousers}
    strips["sleeves"] = shirt if rng.random() < 0.5 else skin  # forearms are bare if the sleeves are short
    strips["legs"] = trousers if rng.random() < 0.75 else skin
    strips["shoes"] = any_colour(rng)[None]
    light = np.array([rng.uniform(-1, 1), rng.uniform(0.3, 1.2), rng.uniform(-1.2, -0.4)])
    return strips, build, light


def _fabric(base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cloth of this colour, plain or with stripes of another."""
    if rng.random() < 0.5:
        return base[None]
    return np.stack([base, any_colour(rng)] * int(rng.integers(2, 6)))


def render(acted: Performance, view: int, frames: Sequence[int] | np.ndarray | None = None) -> Canvas:
    """Colour pictures of a performance by camera 1 to 3, of WIDTH x HEIGHT, for each frame of its skeleton or some.

    They are mirrored, as Kinect v1's software delivers them. The body stands where the joints are, without the errors
    of :func:`~hhmnet.synthetic.observe`. The depth is finite on the body and the object.
    """
    camera, (strips, build, light) = CAMERAS[view], dress(acted, view)
    shown = np.arange(len(acted.joints)) if frames is None else np.asarray(frames, np.intp)
    rng = acted.random(_ROOM_STREAM, view)
    backdrop = room(camera, rng)
    # A few of the objects lie about the room, so that one somewhere in the picture says nothing of the action.
    lying = Canvas(backdrop[None], light)
    for kind in rng.choice(list(_OBJECTS), rng.integers(2, 6)):
        place = np.array([[rng.uniform(-2, 2), rng.uniform(-0.9, 1.2), rng.uniform(3.6, 4.3)]])
        turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        _OBJECTS[kind](lying, _Grip(place, _unit(rng.normal(size=(1, 3))), turned), rng)
    canvas = Canvas(animate(backdrop, shown, rng), light)
    joints = camera.to_camera(acted.joints[shown])
    _draw_shadow(canvas, acted.joints[shown], camera)
    _draw_body(canvas, joints, strips, acted.subject.height / _AVERAGE, build)
    if acted.action.object is not None:
        hand, elbow = (joints[:, JOINT[f"{acted.subject.handedness}_{name}"]] for name in ("hand", "elbow"))
        grip = _Grip(hand, _unit(hand - elbow), camera.rotation)
        _OBJECTS[acted.action.object](canvas, grip, acted.random(_OBJECT_STREAM, view))
    add_grain(canvas.pictures, shown, rng)
    return canvas


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def _draw_shadow(canvas: Canvas, joints: np.ndarray, camera: Camera) -> None:
    """Darken the floor under a person with these joints ``(T, 20, 3)`` in the room."""
    middle = joints[:, [JOINT["left_ankle"], JOINT["right_ankle"], JOINT["hip_center"]]].mean(1) * [1, 0, 1]
    texture = np.zeros((24, 24, 4), np.float32)
    texture[..., 3] = 0.5 * np.clip(1.3 * (1 - np.hypot(*np.mgrid[-1:1:24j, -1:1:24j])), 0, 1)
    right, down = (np.broadcast_to(0.42 * camera.rotation[:, axis], middle.shape) for axis in (0, 2))
    canvas.plate(camera.to_camera(middle), right, down, texture)


def _draw_body(
    canvas: Canvas, joints: np.ndarray, strips: dict[str, np.ndarray], size: float, build: float
) -> None:
    """Draw a person with these joints ``(T, 20, 3)`` in the sensor's coordinates; ``size`` 1 is an average adult."""
    place = {name: joints[:, index] for name, index in JOINT.items()}

    def limb(start: Any, end: Any, radii: tuple[float, float], strip: str, thick: float) -> None:
        canvas.limb(start, end, (radii[0] * thick, radii[1] * thick), strips[strip])

    full = size * build
    neck, head, hips = place["shoulder_center"], place["head"], place["hip_center"]
    up = size * _unit(head - neck)
    ahead = np.cross(_unit(place["left_shoulder"] - place["right_shoulder"]), up)
    limb(neck, head, (0.055, 0.05), "skin", full)
    limb(head - 0.03 * up, head + 0.05 * up, (0.08, 0.09), "skin", size)
    crown = head + 0.045 * up - 0.028 * ahead
    limb(crown, crown + 0.02 * up, (0.095, 0.09), "hair", size)
    limb(neck - 0.05 * up, hips, (0.10, 0.11), "shirt", full)
    limb(place["left_shoulder"], place["right_shoulder"], (0.07, 0.07), "shoulders", full)
    names = ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot")
    for side in ("left", "right"):
        shoulder, elbow, wrist, hand, hip, knee, ankle, foot = (place[f"{side}_{name}"] for name in names)
        limb(0.75 * shoulder + 0.25 * neck, 0.75 * hip + 0.25 * hips, (0.095, 0.095), "shirt", full)
        limb(shoulder, elbow, (0.055, 0.045), "shirt", full)
        limb(elbow, wrist, (0.043, 0.032), "sleeves", full)
        limb(wrist, hand, (0.035, 0.045), "skin", size)
        limb(hip, knee, (0.085, 0.06), "trousers", full)
        limb(knee, ankle, (0.058, 0.042), "legs", full)
        limb(ankle, foot + 0.6 * (foot - ankle), (0.045, 0.035), "shoes", size)


class _Grip(NamedTuple):
    """A hand ``(T, 3)``, the unit vectors along its forearm, and the room's rotation, in the sensor's coordinates."""

    hand: np.ndarray
    fore: np.ndarray
    rotation: np.ndarray

    def axis(self, follow: float, rise: float, rng: np.random.Generator) -> np.ndarray:
        """Long axis ``(T, 3)`` of what is held: partly along the forearm, partly upright."""
        return _unit(follow * self.fore + self.rotation @ (rise * _UP + rng.normal(0, 0.12, 3)))

    def face(self, rng: np.random.Generator) -> np.ndarray:
        """Where a flat object turns its face, ``(3,)``."""
        return np.asarray(self.rotation @ (_SHOWN + rng.normal(0, 0.2, 3)))


def _draw_bottle(canvas: Canvas, grip: _Grip, rng: np.random.Generator) -> None:
    """A bottle of green to blue glass with a label, held upright."""
    axis = grip.axis(0.3, 1.0, rng)
    glass = colour(rng.uniform(0.28, 0.55), rng.uniform(0.6, 1), rng.uniform(0.3, 0.8))
    label, length = colour(0.1, 0.1, 0.9), rng.uniform(0.17, 0.20)
    base = grip.hand + 0.03 * grip.fore - 0.10 * axis
    top = base + length * axis
    canvas.limb(base, top, (0.04, 0.04), np.stack([glass, glass, label, label, glass]))
    canvas.limb(top, top + 0.10 * axis, (0.022, 0.015), np.stack([glass, glass, any_colour(rng)]))


def _draw_book(canvas: Canvas, grip: _Grip, rng: np.random.Generator) -> None:
    """An open book, red outside, that turns its covers to the cameras and its pages to the reader."""
    spine, face = grip.axis(0.3, 1.0, rng), grip.face(rng)
    face = _unit(face - (spine @ face)[:, None] * spine)
    side = np.cross(spine, face)
    outside, inside = np.ones((2, 12, 9, 4), np.float32)
    paper = colour(0.12, 0.12, 0.95)
    outside[..., :3] = colour(rng.uniform(-0.12, 0.03), rng.uniform(0.6, 1), rng.uniform(0.4, 0.9))
    outside[2:4, 2:7, :3] = inside[..., :3] = paper
    inside[2:11:2, 1:8, :3] = 0.5 * paper
    middle = grip.hand + 0.02 * grip.fore + 0.07 * spine
    for sign in (-1, 1):
        out, normal = _unit(sign * side - 0.75 * face), _unit(0.75 * sign * side + face)
        for lift, texture in ((0.010, outside), (-0.010, inside)):
            canvas.plate(middle + 0.08 * out + lift * normal, 0.08 * out, -0.12 * spine, texture)


def _draw_racket(canvas: Canvas, grip: _Grip, rng: np.random.Generator) -> None:
    """A small racket with a blue or violet frame and light strings."""
    axis = grip.axis(1.0, 0.5, rng)
    side = _unit(np.cross(axis, grip.face(rng)))
    frame = colour(rng.uniform(0.58, 0.78), rng.uniform(0.6, 1), rng.uniform(0.5, 0.95))
    collar, throat = grip.hand + 0.10 * axis, grip.hand + 0.20 * axis
    canvas.limb(grip.hand - 0.07 * axis, collar, (0.02, 0.018), 0.2 * np.ones((1, 3), np.float32))
    canvas.limb(collar, throat, (0.014, 0.014), frame[None])
    distance = np.hypot(*np.mgrid[-1:1:29j, -1:1:23j])
    strings = np.where((np.arange(29)[:, None] % 3 == 0) | (np.arange(23) % 3 == 0), 0.9, 0.35)
    texture = np.empty((29, 23, 4), np.float32)
    texture[..., :3] = np.where((distance > 0.8)[..., None], frame, 0.95)
    texture[..., 3] = np.select([distance > 1, distance > 0.8], [0.0, 1.0], strings)
    canvas.plate(throat + 0.145 * axis, 0.125 * side, -0.155 * axis, texture)


def _draw_bat(canvas: Canvas, grip: _Grip, rng: np.random.Generator) -> None:
    """A thick bat of light or dark wood."""
    axis = grip.axis(1.0, 0.5, rng)
    wood = colour(rng.uniform(0.08, 0.14), rng.uniform(0.45, 0.8), rng.uniform(0.4, 0.95))[None]
    low, high = grip.hand + 0.08 * axis, grip.hand + 0.30 * axis
    canvas.limb(grip.hand - 0.08 * axis, low, (0.022, 0.018), 0.5 * any_colour(rng)[None])
    canvas.limb(low, high, (0.018, 0.034), wood)
    canvas.limb(high, grip.hand + 0.62 * axis, (0.034, 0.042), wood)


_OBJECTS: dict[str, Callable[[Canvas, _Grip, np.random.Generator], None]] = {
    "bottle": _draw_bottle,
    "book": _draw_book,
    "racket": _draw_racket,
    "bat": _draw_bat,
}
