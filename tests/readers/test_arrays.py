"""The door for arrays: what their numbers mean is told by values, names and settings."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from hhmnet.readers import ReadError
from hhmnet.readers.arrays import ArrayConfig, clip_fields, survey, understand
from hhmnet.readers.clip_files import RawClip, to_clip
from hhmnet.skeleton import COCO17, KINECT20, LAYOUTS, SkeletonLayout
from made_bodies import standing

RNG = np.random.default_rng(0)
COCO = standing(RNG, COCO17)
KINECT = standing(RNG, KINECT20, persons=2)
KINECT[1, ..., 0] += 1
ORDER = [0, 9, 2, 3, 5, 16, 13, 1, 12, 4, 17, 8, 6, 11, 14, 15, 7, 10, 18, 19]


def scored(joints: np.ndarray, low: float = 0.7, high: float = 0.95) -> np.ndarray:
    return np.concatenate([joints, RNG.uniform(low, high, (*joints.shape[:-1], 1))], axis=-1)


def clip(joints: np.ndarray, **fields: Any) -> RawClip:
    return to_clip({"joints": joints}, **fields)


def form(joints: np.ndarray, wanted: SkeletonLayout | None = None, **said: str) -> str:
    return str(understand([clip(joints)], ArrayConfig(**said), wanted))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_found_by_its_own_bodies(layout: SkeletonLayout) -> None:
    joints = standing(RNG, layout)
    units = "m, third number z" if layout.dims == 3 else "pixels"
    assert form(joints).startswith(f"{layout.num_joints} joints {layout.name}, {units}")
    fields = clip_fields(clip(joints), understand([clip(joints)], ArrayConfig()), notes := Counter())
    np.testing.assert_array_equal(fields["joints"][0], joints.astype(np.float32))
    assert not notes


@pytest.mark.parametrize(
    ("joints", "said", "found"),
    [
        (scored(COCO), {}, "17 joints coco17, pixels, third number confidence, up is minus_y"),
        (scored(COCO / [640, 480]), {}, "17 joints coco17, fractions, third number confidence"),
        (scored(COCO, 0.9, 1.06), {}, "third number confidence"),
        (KINECT * 1000, {}, "20 joints kinect20, mm, third number z, up is y"),
        (KINECT * 100, {}, "kinect20, cm"),
        (KINECT * 100, {"units": "m"}, "kinect20, m"),
        (KINECT * [1, 1, 0.25], {"third": "z"}, "kinect20, m, third number z"),
        (KINECT * [1, 1, 0.25], {"layout": "kinect20"}, "kinect20, m, third number z"),
    ],
)
def test_what_the_numbers_are(joints: np.ndarray, said: dict[str, str], found: str) -> None:
    assert found in form(joints, **said)


def test_two_readings_are_both_said_with_their_flags() -> None:
    joints = KINECT * [1, 1, 0.25]
    reason = r"x, y, z.* or .*x, y and confidence.*--third z or --third confidence"
    with pytest.raises(ReadError, match=reason):
        form(np.concatenate([joints, joints[:, :, :5]], axis=2))
    with pytest.raises(ReadError, match="22 joints of 3 numbers, which fits no known layout as x, y, z"):
        form(KINECT[:, :, :11].repeat(2, 2))


def test_fractions_of_a_picture_become_pixels_where_its_size_is_known() -> None:
    joints, notes = scored(COCO / [640, 480]), Counter[str]()
    found = understand([clip(joints)], ArrayConfig())
    fields = clip_fields(clip(joints, size=(640, 480)), found, notes)
    np.testing.assert_allclose(fields["pixels"][0], COCO, rtol=1e-5)
    assert not notes
    assert clip_fields(clip(joints), found, notes)["pixels"] is None
    assert "width and height may be stretched" in " ".join(notes)


@pytest.mark.parametrize("up", ["minus_y", "z", "minus_z"])
def test_a_flag_turns_what_points_up(up: str) -> None:
    x, y, z = np.moveaxis(KINECT[0], -1, 0)
    joints = np.stack({"minus_y": (x, -y, z), "z": (x, -z, y), "minus_z": (x, z, -y)}[up], axis=-1)
    found = understand([clip(joints)], ArrayConfig(up=up))
    fields = clip_fields(clip(joints), found, notes := Counter())
    np.testing.assert_array_equal(fields["joints"][0], KINECT[0].astype(np.float32))
    assert not any(note.startswith("doubt") for note in notes)


@pytest.mark.parametrize(
    ("joints", "doubt"),
    [
        (KINECT * 0.1, "body not 0.3 to 3 m tall"),
        (KINECT * [1, -1, 1], "head below the feet: if y points the other way, --up minus_y turns it"),
        (COCO * [1, -1] + [0, 480], "head below the feet: if y points the other way, --up y turns it"),
        (KINECT[:, :, ORDER], "joints not where kinect20 has them: is it their order?"),
        (KINECT, ""),
        (COCO, ""),
    ],
)
def test_what_looks_wrong_is_told_before_the_work_starts(joints: np.ndarray, doubt: str) -> None:
    clips = {"a": joints, "b": joints}
    found, lines = survey(list(clips), lambda item: clip(clips[item]), ArrayConfig(), "here")
    assert lines[0] == f"skeleton: {found}"
    assert (f"warning: in 2 of 2 clips {doubt}" in "\n".join(lines)) == bool(doubt)
    assert len(lines) == 1 + bool(doubt)
