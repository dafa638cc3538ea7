"""The sample set's pictures: a body where the joints are, and nothing but an object that tells."""

from __future__ import annotations

import numpy as np
import pytest

from hhmnet.conversion import project
from hhmnet.synthetic import CAMERAS, performance, render
from hhmnet.synthetic.body import JOINT
from hhmnet.synthetic.scene import HEIGHT, LENS, WIDTH

COLUMNS, ROWS = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
PAIRS = [("bottle", 7, 8), ("racket", 9, 10)]
SEED = 11


def test_pictures_are_those_that_figures_were_measured_on() -> None:
    for numbers, view, mean in (
        ((1, 2, 3), 1, (128.62, 138.38, 140.59)),
        ((7, 1, 0), 3, (61.14, 110.16, 90.96)),
    ):
        found = render(performance(*numbers, 4), view, [0, 9]).pictures
        np.testing.assert_allclose(found.mean((0, 1, 2)), mean, atol=0.05)


@pytest.mark.parametrize(("name", "first", "second"), PAIRS)
def test_the_members_of_a_pair_differ_in_the_object_alone(name: str, first: int, second: int) -> None:
    reach = {"bottle": 0.3, "racket": 0.75}[name]
    sizes = []
    for subject in (1, 2):
        for view in CAMERAS:
            one, other = performance(first, subject, 0, SEED), performance(second, subject, 0, SEED)
            np.testing.assert_array_equal(one.joints, other.joints)
            frames = np.arange(0, len(one.joints), 20)
            differ = (render(one, view, frames).pictures != render(other, view, frames).pictures).any(-1)
            held = JOINT[f"{one.subject.handedness}_hand"]
            hand = CAMERAS[view].to_camera(one.joints[frames])[:, held]
            pixels = np.stack([COLUMNS, ROWS], -1)
            farthest = reach * LENS.fx / (hand[:, 2] - reach)
            way = np.linalg.norm(pixels - project(hand, LENS)[:, None, None], axis=-1)
            assert not differ[way >= farthest[:, None, None]].any()
            sizes += differ.sum((1, 2)).tolist()
    assert np.median(sizes) > 100
    assert np.mean(np.array(sizes) < 25) < 0.1  # the body seldom hides the object
