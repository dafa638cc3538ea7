"""What a picture of the sample set is made of: round and flat shapes with depth, and a cluttered room behind them.

All pictures of a clip are drawn at once: a shape is one call for all frames, with arrays ``(T, ...)``. Points are in
a sensor's coordinates (:class:`~hhmnet.synthetic.body.Camera`), metres; colours are red, green, blue from 0 to 1.
"""

from __future__ import annotations

import colorsys

import numpy as np

from hhmnet.conversion import Camera as Lens
from hhmnet.conversion import project
from hhmnet.synthetic.body import FPS, Camera, turn
from hhmnet.synthetic.motion import MAX_FRAMES

WIDTH, HEIGHT = 256, 192
LENS = Lens(560.0, 560.0, 319.5, 239.5, (640, 480)).resized(WIDTH, HEIGHT)
"""The lens that the NW-UCLA reader takes for granted, so that it finds the joints on the bodies."""

_GRAIN = 8  # levels of a sensor's noise
_BRIGHTEST = 255 - _GRAIN  # of all that is drawn, so that noise can be added without a carry
_SPARE = 48  # pixels by which the sheet of noise is larger than a picture, so that it can be shifted
_AMBIENT = 0.45
_EDGE = 0.6  # pixels of a plate that is seen from its edge, to either side


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
    to_floor = np.where(ways[..., 1] < 0, camera.height / np.maximum(-ways[..., 1], 1e-3), np.inf)
    spots = camera.position + np.minimum(to_floor, wall)[..., None] * ways
    turned = turn(spots.reshape(-1, 3), np.full(spots.size // 3, rng.uniform(0, np.pi))).reshape(spots.shape)
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
