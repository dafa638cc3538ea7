from __future__ import annotations

import numpy as np
import pytest

from hhmnet.data.roi import GREY
from hhmnet.pose.tracking import Track
from hhmnet.predict.following import Following
from hhmnet.predict.patches import LEAST, SPARE, Patches
from hhmnet.video import VideoError
from made_people import BoxEstimator, box

SIZE = (1280, 720)


def follow(center: tuple[float, float, float, float]) -> tuple[Following, np.ndarray]:
    """Somebody who stands there, and the picture, in which every pixel is another."""
    track = Track(1, [0], [box(center).astype(np.float64)], [0.9])
    person, image = Following(BoxEstimator(), 1, track, 10), np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    image[...] = np.random.default_rng(0).integers(0, 256, image.shape)
    person.go_on(1, image, 0, 30)
    assert person.seen
    return person, image


@pytest.mark.parametrize("center", [(640, 360, 100, 250), (30, 700, 100, 250), (1270, 20, 40, 90)])
def test_a_patch_is_the_picture_around_the_person(center: tuple[float, float, float, float]) -> None:
    person, image = follow(center)
    patches = Patches(10, 1 << 30)
    patches.add(7, image, person, BoxEstimator().layout)
    shown = patches.frame(7)
    rows, columns = (np.flatnonzero((shown != GREY).any((2, axis))) for axis in (1, 0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(shown[part], image[part])
    left, top, right, bottom = person.boxes[0, -1]
    side = max(SPARE * max(right - left, bottom - top), LEAST)
    assert np.ptp(columns) + 1 >= min(side, SIZE[0]) - 1
    assert np.ptp(rows) + 1 >= min(side, SIZE[1]) - 1
    assert columns[0] <= left < right <= columns[-1] + 1
    assert rows[0] <= top < bottom <= rows[-1] + 1
    assert patches.nbytes < image.nbytes


def test_only_the_window_is_kept() -> None:
    person, image = follow((640, 360, 100, 250))
    patches = Patches(5, 1 << 30)
    for frame in (0, 1, 2, 3, 6, 7, 8):
        patches.add(frame, image, person, BoxEstimator().layout)
    np.testing.assert_array_equal(patches.shown(np.arange(2, 10)), [-1, -1, -1, -1, 6, 7, 8, -1])
    assert len(patches) == 9
    with pytest.raises(VideoError, match="is over"):
        patches.frame(3)


def test_large_patches_are_kept_of_fewer_frames() -> None:
    person, image = follow((640, 360, 300, 600))
    patches = Patches(20, 4 * image.nbytes)
    for frame in range(100):
        patches.add(frame, image, person, BoxEstimator().layout)
        assert patches.nbytes <= 4 * image.nbytes
    kept = patches.shown(np.arange(80, 100))
    assert 3 <= (kept >= 0).sum() <= 5


def test_whole_pictures_for_a_model_that_looks_at_the_surroundings() -> None:
    person, image = follow((640, 360, 50, 90))
    patches = Patches(5, 1 << 30, whole=True)
    patches.add(0, image, person, BoxEstimator().layout)
    np.testing.assert_array_equal(patches.frame(0), image)
