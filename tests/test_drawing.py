from __future__ import annotations

import numpy as np
import pytest

from hhmnet.drawing import OUTLINE, SIDES, draw_box, draw_skeleton
from hhmnet.skeleton import KINECT20, LayoutError

GROUND = (77, 137, 7)
CANVAS = np.full((260, 160, 3), GROUND, np.uint8)
COLUMNS = {"left": 40, "right": 120}
BODY = np.array(
    [(COLUMNS.get(name.split("_")[0], 80), 10 + 12 * i) for i, name in enumerate(KINECT20.joints)]
)


def at(image: np.ndarray, place: np.ndarray) -> tuple[int, ...]:
    column, row = place.astype(int)
    return tuple(image[row, column].tolist())


def test_joints_and_bones_have_their_places_and_colours() -> None:
    image = draw_skeleton(CANVAS, BODY, KINECT20)
    for name, place in zip(KINECT20.joints, BODY, strict=True):
        assert at(image, place) == SIDES.get(name.split("_")[0], SIDES[""])
    for child, parent in KINECT20.edges:
        for share in np.linspace(0, 1, 9):
            assert at(image, BODY[child] * share + BODY[parent] * (1 - share)) != GROUND
    for part in (image[:, :30], image[:, 130:], image[:5], CANVAS):
        assert (part == GROUND).all()
    with pytest.raises(LayoutError, match="20 joints, the data has 19"):
        draw_skeleton(CANVAS, np.zeros((19, 2)), KINECT20)


def test_missing_joints_take_their_bones_along_and_inferred_ones_are_rings() -> None:
    trust = np.full(20, 0.5)
    trust[KINECT20.index("left_elbow")] = 0
    image = draw_skeleton(CANVAS, BODY, KINECT20, trust)
    shoulder, elbow = BODY[KINECT20.index("left_shoulder")], BODY[KINECT20.index("left_elbow")]
    assert at(image, (shoulder + elbow) / 2) == GROUND
    assert at(image, BODY[3]) == OUTLINE


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -5000.0])
def test_joints_outside_the_picture(value: float) -> None:
    body = BODY.astype(float)
    body[7] = value
    assert at(draw_skeleton(CANVAS, body, KINECT20), body[3]) == SIDES[""]
    if not np.isfinite(value):
        np.testing.assert_array_equal(draw_skeleton(CANVAS, np.full((20, 2), value), KINECT20), CANVAS)


def test_a_box_is_an_outline() -> None:
    image = draw_box(CANVAS, (20, 30, 60, 90), (255, 0, 0), thickness=3)
    assert {at(image, np.array(place)) for place in ((20, 30), (60, 90), (40, 30), (60, 60))} == {(255, 0, 0)}
    assert (image[35:85, 25:55] == GROUND).all()
