"""Colour pictures of the sample set: a performance as a camera sees it, dressed, in a room, with its object.

Everything but the object is drawn from the subject, the motion and the view: the members of a pair differ in the pixels
of the object alone. Clothes, light and room are new in every clip, so that none tells another's action.

All pictures of a clip are drawn at once: a shape is one call for all frames, with arrays ``(T, ...)``. Points are in
a sensor's coordinates (:class:`~hhmnet.synthetic.body.Camera`), metres; colours are red, green, blue from 0 to 1.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hhmnet.conversion import project
from hhmnet.readers.nw_ucla import CAMERA
from hhmnet.synthetic.body import CAMERAS, FPS, JOINT, UP, Camera, turn
from hhmnet.synthetic.motion import MAX_FRAMES, Performance

WIDTH, HEIGHT = 240, 208
LENS = CAMERA.resized(WIDTH, HEIGHT)  # the reader's, so that it finds the joints on the bodies

_GRAIN = 8  # levels of a sensor's noise
_BRIGHTEST = 255 - _GRAIN  # of all that is drawn, so that noise can be added without a carry
_SPARE = 48  # pixels by which the sheet of noise is larger than a picture, so that it can be shifted
_AMBIENT = 0.45
_EDGE = 0.6  # pixels of a plate that is seen from its edge, to either side
_SUBJECT_STREAM, _CLOTHES_STREAM, _OBJECT_STREAM, _ROOM_STREAM = 4, 5, 6, 7  # others use 1 to 3
_AVERAGE = 1.70  # body height in metres to which the sizes below apply
_SHOWN = np.array([0.0, 0.35, 0.95])  # where flat objects turn their face: to the cameras


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """A colour ``(3,)`` float32 by its hue (a full turn is 1), saturation and value."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def any_colour(rng: np.random.Generator) -> np.ndarray:
    """Any colour ``(3,)``, bright or dark, vivid or dull."""
    return colour(rng.random(), rng.uniform(0.05, 0.85), rng.uniform(0.2, 0.95))


class Canvas:
    """Pictures on which shapes are drawn in any order; the nearer ones hide the farther ones.

    ``pictures (T, H, W, 3)`` uint8, contiguous, are what lies behind all shapes; they are drawn on. ``light (3,)`` is
    the direction towards the light. ``depth (T, H, W)`` float32 is metres, infinite where nothing was drawn.
    """

    def __init__(self, pictures: np.ndarray, light: np.ndarray) -> None:
        self.pictures = pictures
        self.depth: np.ndarray = np.full(pictures.shape[:3], np.inf, np.float32)
        self._light = (light / np.linalg.norm(light)).astype(np.float32)

    def limb(self, start: np.ndarray, end: np.ndarray, radii: tuple[float, float], strip: np.ndarray) -> None:
        """Draw a round limb that tapers, in front of the sensor, with colours ``strip (n, 3)`` along it.

        ``start`` and ``end (T, 3)`` are the middles of its round ends, of ``radii`` metres. Perspective is taken at
        these; between them the outline is straight, and the depth runs evenly.
        """
        a, b = project(start, LENS), project(end, LENS)
        thick_a, thick_b = (
            (LENS.fx * radius / points[:, 2:]).astype(np.float32)
            for radius, points in zip(radii, (start, end), strict=True)
        )
        row, column = self._patch(np.minimum(a - thick_a, b - thick_b), np.maximum(a + thick_a, b + thick_b))
        way = (b - a)[:, None, None]
        x, y = column - a[:, None, None, 0], row - a[:, None, None, 1]
        t = np.clip((x * way[..., 0] + y * way[..., 1]) / ((way**2).sum(-1) + 1e-6), 0, 1)
        x, y = x - t * way[..., 0], y - t * way[..., 1]
        reach = thick_a[:, None] + t * (thick_b - thick_a)[:, None]
        where = np.nonzero(x * x + y * y < reach * reach)
        t, reach = t[where], reach[where]
        x, y = x[where] / reach, y[where] / reach
        out = np.sqrt(np.maximum(1 - x * x - y * y, 0))  # how far the surface bulges towards the sensor
        z, slope = (depths.astype(np.float32)[where[0]] for depths in (start[:, 2], end[:, 2] - start[:, 2]))
        depth = z + t * slope - out * (radii[0] + t * (radii[1] - radii[0]))
        places, shown = self._nearest(where, row, column, depth)
        x, y, out = x[shown], y[shown], out[shown]
        lit = np.maximum(x * self._light[0] - y * self._light[1] - out * self._light[2], 0)
        shade = (_AMBIENT + (1 - _AMBIENT) * lit) * (0.7 + 0.3 * out)
        colours = strip[_step(t[shown], len(strip))] * _BRIGHTEST
        self.pictures.reshape(-1, 3)[places] = colours * shade[:, None]
        self.depth.reshape(-1)[places] = depth[shown]

    def plate(self, middle: np.ndarray, right: np.ndarray, down: np.ndarray, texture: np.ndarray) -> None:
        """Draw a flat shape in front of the sensor, so small that perspective doesn't bend it.

        ``right`` and ``down (T, 3)`` lead from its ``middle (T, 3)`` to its edges; ``texture (h, w, 4)`` float32 has
        colours and opacity.
        """
        c, u, v = (project(points, LENS) for points in (middle, middle + right, middle + down))
        u, v = u - c, v - c
        margin = np.abs(u) + np.abs(v) + 1
        row, column = self._patch(c - margin, c + margin)
        area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        least = _EDGE * np.maximum(np.hypot(*u.T), np.hypot(*v.T)) + 1e-6
        area = np.where(np.abs(area) < least, np.copysign(least, area), area)[:, None, None]
        x, y = column - c[:, None, None, 0], row - c[:, None, None, 1]
        i = (x * v[:, None, None, 1] - y * v[:, None, None, 0]) / area
        j = (y * u[:, None, None, 0] - x * u[:, None, None, 1]) / area
        where = np.nonzero((np.abs(i) < 1) & (np.abs(j) < 1))
        i, j = i[where], j[where]
        z, slope_i, slope_j = (part[:, 2].astype(np.float32)[where[0]] for part in (middle, right, down))
        depth = z + i * slope_i + j * slope_j
        places, shown = self._nearest(where, row, column, depth)
        texels = texture[_step(j[shown] / 2 + 0.5, len(texture)), _step(i[shown] / 2 + 0.5, texture.shape[1])]
        normal = np.cross(right, down)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        shade = (_AMBIENT + (1 - _AMBIENT) * np.abs(normal @ self._light)).astype(np.float32)[where[0][shown]]
        pixels, cover = self.pictures.reshape(-1, 3), texels[:, 3:]
        pixels[places] = cover * texels[:, :3] * (_BRIGHTEST * shade[:, None]) + (1 - cover) * pixels[places]
        solid = texels[:, 3] > 0.5
        self.depth.reshape(-1)[places[solid]] = depth[shown][solid]

    def _patch(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``(T, h, 1)`` and columns ``(T, 1, w)`` from ``low`` to ``high (T, 2)``, as far as they lie inside.

        The patches are of one size in all frames, the largest that any of them needs.
        """
        last = np.array([self.depth.shape[2] - 1, self.depth.shape[1] - 1], np.float32)
        low, high = np.clip(np.floor(low), 0, last), np.clip(np.ceil(high), 0, last)
        size = (high - low).max(0)
        low = np.minimum(low, last - size)
        column = low[:, None, :1] + np.arange(size[0] + 1, dtype=np.float32)
        row = low[:, 1:, None] + np.arange(size[1] + 1, dtype=np.float32)[:, None]
        return row, column

    def _nearest(
        self, where: tuple[np.ndarray, ...], row: np.ndarray, column: np.ndarray, depth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of a patch's pixels ``where``, those that nothing nearer covers: places in the flattened pictures; which."""
        frame, i, j = where
        _, height, width = self.depth.shape
        base = (np.arange(len(row))[:, None] * height + row[:, :, 0].astype(np.intp)) * width
        places = base[frame, i] + column.astype(np.intp)[frame, 0, j]
        shown = np.flatnonzero(depth < self.depth.reshape(-1)[places])
        return places[shown], shown


def _step(shares: np.ndarray, count: int) -> np.ndarray:
    """Which of ``count`` equal steps from 0 to 1 numbers fall in; 1, and what rounds to it, falls in the last."""
    return np.minimum((shares * count).astype(np.intp), count - 1)


def room(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """A room with a floor, a wall and things in front of it: one picture ``(H, W, 3)`` uint8."""
    column, row = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([(column - LENS.cx) / LENS.fx, (LENS.cy - row) / LENS.fy, np.ones_like(row)], -1)
    ways = rays @ camera.rotation
    wall = rng.uniform(4.3, 5.5)
    to_floor = np.where(ways[..., 1] < 0, camera.position[1] / np.maximum(-ways[..., 1], 1e-3), np.inf)
    spots = camera.position + np.minimum(to_floor, wall)[..., None] * ways
    turned = turn(spots, rng.uniform(0, np.pi))
    floor = _pattern(turned[..., 0], turned[..., 2], rng)
    behind = _pattern(wall * rays[..., 0], wall * rays[..., 1], rng)
    picture = np.where((to_floor < wall)[..., None], floor, behind)
    rows, columns = np.linspace(-1, 1, HEIGHT)[:, None], np.linspace(-1, 1, WIDTH)
    a, b, c, d = rng.normal(0, 0.12, 4)  # it is lit unevenly, the same on the whole
    picture = picture * (1 + a * rows + b * columns + c * rows * columns + d * (columns**2 - 0.3))[..., None]
    for _ in range(rng.integers(6, 12)):
        sides = rng.uniform(0.06, 0.4, 2) * HEIGHT
        _paste(picture, _thing(sides, rng), rng.uniform(0, WIDTH), rng.uniform(0, 0.8 * HEIGHT))
    return (np.clip(picture, 0, 1) * _BRIGHTEST).astype(np.uint8)


def animate(picture: np.ndarray, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture at the instants ``frames (T,)``, with things that drift and sway in it: ``(T, H, W, 3)`` uint8."""
    pictures = np.broadcast_to(picture, (len(frames), *picture.shape)).copy()
    for _ in range(rng.integers(3, 7)):
        thing = (_thing(rng.uniform(0.05, 0.3, 2) * HEIGHT, rng) * _BRIGHTEST).astype(np.uint8)
        middle, drift = rng.uniform(0.05, 0.95, 2) * (WIDTH, HEIGHT), rng.normal(0, (1.2, 0.3))
        sway, rates, phases = rng.uniform(0, 20, 2), rng.uniform(0.3, 2.5, 2), rng.uniform(0, 2 * np.pi, 2)
        swings = sway * np.sin(2 * np.pi * rates * frames[:, None] / FPS + phases)
        paths = middle + drift * (frames[:, None] - MAX_FRAMES / 4) + swings
        for shown, (x, y) in zip(pictures, paths, strict=True):
            _paste(shown, thing, x, y)
    return pictures


def add_grain(pictures: np.ndarray, frames: np.ndarray, rng: np.random.Generator) -> None:
    """Add a sensor's noise to pictures ``(T, H, W, 3)`` that show the instants ``frames (T,)``, in place."""
    sheet = rng.integers(0, _GRAIN, (HEIGHT + _SPARE, WIDTH + _SPARE, 3), np.uint8)
    shifts = rng.integers(0, _SPARE + 1, (MAX_FRAMES, 2))[frames]
    for picture, (down, right) in zip(pictures, shifts, strict=True):
        picture += sheet[down : down + HEIGHT, right : right + WIDTH]


def _pattern(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A surface at the places ``x``, ``y`` (metres), plain or with tiles, stripes or bricks: ``(..., 3)``."""
    base = any_colour(rng)
    other = np.clip(base * rng.uniform(0.6, 1.3) + rng.normal(0, 0.03, 3), 0, 1)
    size, shape = rng.uniform(0.15, 0.8), rng.integers(4)
    stripes, lines = np.floor(x / size), np.floor(y / size)
    bricks = ((x / size + 0.5 * lines) % 1 < 0.08) | (y / size % 1 < 0.1)
    choice = (np.zeros(x.shape, bool), (stripes + lines) % 2 > 0, stripes % 2 > 0, bricks)[shape]
    return np.where(choice[..., None], other, base)


def _thing(sides: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Something of this height and width in pixels, a box or a ball, striped or not: ``(h, w, 4)`` with opacity."""
    height, width = np.maximum(sides.astype(int), 3)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle, stripes = rng.uniform(0, np.pi), rng.choice([0.0, rng.uniform(2, 9)])
    pattern = np.sin(stripes * (np.cos(angle) * x + np.sin(angle) * y)) > 0
    colours = np.where(pattern[..., None], any_colour(rng), any_colour(rng))
    colours = colours * (1 - 0.2 * x - 0.2 * y)[..., None]
    solid = x**2 + y**2 < 1 if rng.random() < 0.4 else np.ones(x.shape, bool)
    return np.concatenate([np.clip(colours, 0, 1), solid[..., None]], -1, dtype=np.float32)


def _paste(picture: np.ndarray, thing: np.ndarray, x: float, y: float) -> None:
    """Put a thing's middle at column ``x`` and row ``y``; what lies outside of the picture is cut off."""
    top, left = round(y - len(thing) / 2), round(x - thing.shape[1] / 2)
    part = thing[max(-top, 0) : max(HEIGHT - top, 0), max(-left, 0) : max(WIDTH - left, 0)]
    place = picture[max(top, 0) :, max(left, 0) :][: part.shape[0], : part.shape[1]]
    np.copyto(place, part[..., :3], where=part[..., 3:] > 0)


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
        return _unit(follow * self.fore + self.rotation @ (rise * UP + rng.normal(0, 0.12, 3)))

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
