from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from hhmnet.drawing import OUTLINE, SIDES, draw_box, draw_skeleton, save_png, sheet
from hhmnet.skeleton import KINECT20, LayoutError

GROUND = (77, 137, 7)


@pytest.fixture
def canvas() -> np.ndarray:
    return np.full((260, 160, 3), GROUND, np.uint8)


@pytest.fixture
def body() -> np.ndarray:
    """Joints of a body that stands in the picture: left at x 40, the middle at 80, right at 120."""
    columns = {"left": 40, "right": 120}
    pixels = [(columns.get(name.split("_")[0], 80), 10 + 12 * i) for i, name in enumerate(KINECT20.joints)]
    return np.array(pixels, np.float32)


def at(image: np.ndarray, place: np.ndarray) -> tuple[int, ...]:
    column, row = place.astype(int)
    return tuple(image[row, column].tolist())


def test_joints_have_the_colour_of_their_side(canvas: np.ndarray, body: np.ndarray) -> None:
    image = draw_skeleton(canvas, body, KINECT20, thickness=2)
    for name, place in zip(KINECT20.joints, body, strict=True):
        assert at(image, place) == SIDES.get(name.split("_")[0], SIDES[""])
    assert (canvas == GROUND).all()


def test_bones_join_their_joints(canvas: np.ndarray, body: np.ndarray) -> None:
    image = draw_skeleton(canvas, body, KINECT20, thickness=3)
    for child, parent in KINECT20.edges:
        for share in np.linspace(0, 1, 9):
            assert at(image, body[child] * share + body[parent] * (1 - share)) != GROUND


def test_nothing_far_from_the_body(canvas: np.ndarray, body: np.ndarray) -> None:
    image = draw_skeleton(canvas, body, KINECT20, thickness=2)
    assert (image[:, :30] == GROUND).all()
    assert (image[:, 130:] == GROUND).all()
    assert (image[:5] == GROUND).all()


def test_position_is_that_of_the_pixel(canvas: np.ndarray) -> None:
    """(0, 0) is the middle of the upper left pixel, so a dot at (20, 50) is even around that pixel."""
    pixels = np.full((20, 2), np.nan)
    pixels[3] = (20, 50)
    image = draw_skeleton(canvas, pixels, KINECT20, thickness=3)
    part = image[40:61, 10:31]
    np.testing.assert_array_equal(part, part[::-1])
    np.testing.assert_array_equal(part, part[:, ::-1])
    assert at(image, pixels[3]) == SIDES[""]


def test_missing_joints_take_their_bones_along(canvas: np.ndarray, body: np.ndarray) -> None:
    trust = np.ones(20)
    trust[KINECT20.index("left_elbow")] = 0
    image = draw_skeleton(canvas, body, KINECT20, trust, thickness=1.5)
    shoulder, elbow = body[KINECT20.index("left_shoulder")], body[KINECT20.index("left_elbow")]
    assert at(image, (shoulder + elbow) / 2) == GROUND


def test_inferred_joints_are_rings(canvas: np.ndarray, body: np.ndarray) -> None:
    trust = np.full(20, 0.5)
    image = draw_skeleton(canvas, body, KINECT20, trust, thickness=3)
    assert at(image, body[3]) == OUTLINE


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -5000.0])
def test_joints_outside_the_picture(canvas: np.ndarray, body: np.ndarray, value: float) -> None:
    body[7] = value
    image = draw_skeleton(canvas, body, KINECT20)
    assert image.shape == canvas.shape
    assert at(image, body[3]) == SIDES[""]


def test_no_joints_at_all(canvas: np.ndarray) -> None:
    image = draw_skeleton(canvas, np.full((20, 2), np.nan), KINECT20)
    np.testing.assert_array_equal(image, canvas)


def test_wrong_number_of_joints(canvas: np.ndarray) -> None:
    with pytest.raises(LayoutError, match="20 joints, the data has 19"):
        draw_skeleton(canvas, np.zeros((19, 2)), KINECT20)


def test_box(canvas: np.ndarray) -> None:
    image = draw_box(canvas, (20, 30, 60, 90), (255, 0, 0), thickness=3)
    for x, y in ((20, 30), (60, 30), (60, 90), (20, 90), (40, 30), (60, 60)):
        assert tuple(image[y, x]) == (255, 0, 0)
    assert (image[35:85, 25:55] == GROUND).all()


def test_sheet() -> None:
    images = [np.full((4, 6, 3), value, np.uint8) for value in (1, 2, 3, 4, 5)]
    page = sheet(images, columns=2, gap=1)
    assert page.shape == (3 * 5 - 1, 2 * 7 - 1, 3)
    assert (page[0:4, 7:13] == 2).all()
    assert (page[10:14, 0:6] == 5).all()
    assert (page[10:14, 7:13] == 255).all()
    assert (page[4] == 255).all()
    assert sheet(images[:1], columns=4).shape == (4, 6, 3)


@pytest.mark.parametrize(("count", "columns"), [(0, 2), (2, 0)])
def test_sheet_of_nothing(count: int, columns: int) -> None:
    with pytest.raises(ValueError, match="a sheet needs"):
        sheet([np.zeros((2, 2, 3), np.uint8)] * count, columns)


def test_png_is_exact(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    save_png(image, tmp_path / "a.png")
    with av.open(str(tmp_path / "a.png")) as container:
        (frame,) = container.decode(video=0)
        np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), image)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
