"""Shapes with depth, against slow references written from their definitions."""

import numpy as np
import pytest

from hhmnet.conversion import project
from hhmnet.synthetic import CAMERAS
from hhmnet.synthetic.scene import HEIGHT, LENS, WIDTH, Canvas, add_grain, animate, colour, room

LIGHT = np.array([0.3, 0.8, -0.6])
WHITE = np.ones((1, 3), np.float32)
COLUMNS, ROWS = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
RAYS = np.stack([(COLUMNS - LENS.cx) / LENS.fx, (LENS.cy - ROWS) / LENS.fy, np.ones_like(ROWS)], -1)


def empty(frames: int = 1) -> Canvas:
    return Canvas(np.zeros((frames, HEIGHT, WIDTH, 3), np.uint8), LIGHT)


def sphere_depth(middle: np.ndarray, radius: float) -> np.ndarray:
    """Where the ray of every pixel enters a sphere, ``(H, W)`` metres along z; infinite where it misses."""
    a, b, c = (RAYS**2).sum(-1), RAYS @ middle, middle @ middle - radius**2
    inside = b**2 - a * c
    return np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)


def inner(mask: np.ndarray) -> np.ndarray:
    """A mask without its outermost pixels."""
    small = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            small &= np.roll(mask, step, axis)
    return small


@pytest.mark.parametrize(
    ("start", "end", "radii"),
    [
        ((-0.3, 0.2, 2.5), (0.4, -0.5, 2.8), (0.10, 0.05)),
        ((0.1, 0.6, 3.0), (0.1, -0.1, 2.6), (0.04, 0.09)),
        ((0.2, 0.1, 2.0), (0.2, 0.1, 2.0), (0.15, 0.15)),
        ((-1.2, 0.2, 2.0), (-0.7, 0.3, 2.0), (0.10, 0.06)),  # reaches over the picture's edge
    ],
)
def test_a_limb_is_the_union_of_spheres_along_it(start, end, radii) -> None:
    start, end = np.array(start), np.array(end)
    shares = np.linspace(0, 1, 80)
    spheres = [sphere_depth(start + t * (end - start), radii[0] + t * (radii[1] - radii[0])) for t in shares]
    expected = np.min(spheres, 0)
    canvas = empty()
    canvas.limb(start[None], end[None], radii, WHITE)
    depth = canvas.depth[0]
    drawn, wanted = np.isfinite(depth), np.isfinite(expected)
    assert wanted.sum() > 300
    assert (drawn ^ wanted).sum() < 0.06 * wanted.sum()  # perspective bends the outline a little
    both = inner(inner(drawn & wanted))
    assert np.abs(depth[both] - expected[both]).max() < 0.04
    np.testing.assert_array_equal(canvas.pictures[0].any(-1), drawn)


@pytest.mark.parametrize(
    ("middle", "right", "down"),
    [
        ((0.1, 0.2, 2.5), (0.12, 0.02, 0.0), (0.0, -0.16, 0.02)),
        ((-0.4, 0.2, 3.0), (0.08, 0.0, 0.07), (0.03, -0.2, 0.0)),
        ((0.3, -0.4, 2.2), (-0.1, 0.05, 0.05), (0.02, 0.1, -0.08)),
    ],
)
def test_a_plate_shows_its_texture_where_rays_meet_its_plane(middle, right, down) -> None:
    middle, right, down = np.array(middle), np.array(right), np.array(down)
    normal = np.cross(right, down)
    depth = (middle @ normal) / (RAYS @ normal)
    points = RAYS * depth[..., None] - middle
    gram = np.array([[right @ right, right @ down], [right @ down, down @ down]])
    i, j = np.moveaxis(
        np.linalg.solve(gram, np.stack([points @ right, points @ down], -1)[..., None])[..., 0], -1, 0
    )
    wanted = (np.abs(i) < 1) & (np.abs(j) < 1)

    texture = np.ones((2, 2, 4), np.float32)
    texture[0, 0, :3], texture[0, 1, :3] = (1, 0, 0), (0, 1, 0)
    texture[1, 0, :3], texture[1, 1, 3] = (0, 0, 1), 0
    canvas = empty()
    canvas.plate(middle[None], right[None], down[None], texture)
    picture = canvas.pictures[0]
    quarters = {(-1, -1): 0, (1, -1): 1, (-1, 1): 2}
    for (side, end), channel in quarters.items():
        part = inner(wanted & (i * side > 0.1) & (j * end > 0.1))
        assert part.sum() > 20
        shown = picture[part]
        assert (shown[:, channel] > 50).mean() > 0.97
        assert (np.delete(shown, channel, 1) == 0).mean() > 0.97
        assert np.abs(canvas.depth[0][part] - depth[part]).max() < 0.02
    clear = wanted & (i > 0.1) & (j > 0.1)
    assert (picture[clear] == 0).mean() > 0.97
    assert np.isinf(canvas.depth[0][~wanted]).mean() > 0.99


def test_a_plate_seen_from_its_edge_is_a_thin_line() -> None:
    canvas = empty()
    canvas.plate(
        np.array([[0.0, 0.0, 2.5]]),
        np.array([[0.0, 0.0, 0.1]]),
        np.array([[0.0, -0.2, 0.0]]),
        np.ones((1, 1, 4)),
    )
    rows, columns = np.nonzero(canvas.pictures[0].any(-1))
    assert len(set(rows)) > 30
    assert 1 <= len(set(columns)) <= 4


def test_what_is_nearer_hides_what_is_farther_in_any_order() -> None:
    red, green = colour(0, 1, 1)[None], colour(1 / 3, 1, 1)[None]
    shapes = [
        (np.array([[-0.5, 0.0, 2.4]]), np.array([[0.5, 0.0, 2.8]]), red),
        (np.array([[0.0, 0.5, 2.5]]), np.array([[0.0, -0.5, 2.5]]), green),
    ]
    pictures = []
    for order in (shapes, shapes[::-1]):
        canvas = empty()
        for start, end, strip in order:
            canvas.limb(start, end, (0.08, 0.08), strip)
        pictures.append(canvas.pictures)
    np.testing.assert_array_equal(*pictures)
    column, row = project(np.array([0.0, 0.0, 2.5]), LENS).round().astype(int)
    assert pictures[0][0, row, column, 1] > 0
    assert pictures[0][0, row, column, 0] == 0


def test_what_is_half_clear_lets_through_what_is_behind_and_hides_nothing() -> None:
    canvas = Canvas(np.full((1, HEIGHT, WIDTH, 3), 200, np.uint8), np.array([0.0, 0.0, -1.0]))
    texture = np.zeros((1, 1, 4), np.float32)
    texture[..., 3] = 0.5
    near, right, down = np.array([[0.0, 0.0, 2.0]]), np.array([[0.2, 0.0, 0.0]]), np.array([[0.0, -0.2, 0.0]])
    canvas.plate(near, right, down, texture)
    assert set(np.unique(canvas.pictures)) == {100, 200}
    assert np.isinf(canvas.depth).all()


def test_frames_are_drawn_as_if_each_were_alone() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.normal(0, 0.5, (2, 9, 3)) + np.array([0, 0, 3])
    together = empty(9)
    together.limb(start, end, (0.1, 0.06), WHITE)
    for t in range(9):
        alone = empty()
        alone.limb(start[t : t + 1], end[t : t + 1], (0.1, 0.06), WHITE)
        np.testing.assert_array_equal(alone.pictures[0], together.pictures[t])
        np.testing.assert_array_equal(alone.depth[0], together.depth[t])


def test_what_lies_outside_of_the_picture_is_left_out() -> None:
    canvas = empty()
    canvas.limb(np.array([[9.0, 0.0, 2.0]]), np.array([[9.0, 1.0, 2.0]]), (0.1, 0.1), WHITE)
    assert not canvas.pictures.any()


def test_rooms_move_and_are_decided_by_their_numbers() -> None:
    frames = np.arange(0, 40, 5)
    rng, again, other = (np.random.default_rng(seed) for seed in (1, 1, 2))
    picture = room(CAMERAS[1], rng)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(picture, room(CAMERAS[1], again))
    assert (picture != room(CAMERAS[1], other)).any(-1).mean() > 0.5
    moving = animate(picture, frames, rng)
    np.testing.assert_array_equal(moving, animate(picture, frames, again))
    changes = (moving[1:] != moving[:-1]).any(-1).mean((1, 2))
    assert (changes > 0.001).all()
    assert np.std(picture.reshape(-1, 3), 0).min() > 5  # it isn't one colour


def test_noise_never_overflows() -> None:
    rng = np.random.default_rng(0)
    pictures = animate(room(CAMERAS[2], rng), np.arange(3), rng)
    before = pictures.copy()
    add_grain(pictures, np.arange(3), rng)
    assert (pictures >= before).all()
    assert (pictures != before).any()
