from __future__ import annotations

import dataclasses

import pytest
import torch

from hhmnet.data.augment import AugmentConfig
from hhmnet.data.transform import (
    STREAMS,
    DataConfig,
    prepare,
    stream,
)
from hhmnet.skeleton import COCO17, KINECT20, NTU25, SkeletonLayout
from made_ragged import FORMS, OFF, make, moved, one

# The whole.


@pytest.mark.parametrize(("center", "facing", "scale"), FORMS)
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_a_clip_does_not_depend_on_its_neighbours(center: str, facing: str, scale: str, gaps: float) -> None:
    clips = make(gaps=gaps)
    config = DataConfig(frames=8, persons=2, center=center, facing=facing, scale=scale, stream="bone_motion")
    together, mask = prepare(clips, KINECT20, config)
    again, _ = prepare(clips, KINECT20, config)
    assert torch.equal(together, again)
    for n in range(4):
        alone, own_mask = prepare(one(clips, n), KINECT20, config)
        torch.testing.assert_close(alone[0], together[n])
        assert (own_mask is None) == (mask is None)
        assert mask is None or own_mask is None or torch.equal(own_mask[0], mask[n])


@pytest.mark.parametrize(("center", "facing", "scale"), FORMS)
@pytest.mark.parametrize("name", STREAMS)
def test_absent_bodies_are_zero_and_all_is_finite(center: str, facing: str, scale: str, name: str) -> None:
    clips = make((5, 1, 12, 3, 4), gaps=0.4)
    assert clips.present is not None
    clips.present[-4:] = False
    clips = moved(clips, clips.joints)
    config = DataConfig(frames=8, persons=2, center=center, facing=facing, scale=scale, stream=name)
    noisy = AugmentConfig(mirror=0.5)
    for augmentation, generator in ((None, None), (noisy, torch.Generator().manual_seed(0))):
        x, mask = prepare(clips, KINECT20, config, augmentation, generator)
        assert mask is not None
        assert x.isfinite().all()
        assert not mask[-1].any()
        assert not x.permute(0, 2, 4, 1, 3)[~mask].any()


@pytest.mark.parametrize(("center", "facing", "scale"), FORMS)
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_augmentation_switched_off_is_evaluation(center: str, facing: str, scale: str, gaps: float) -> None:
    clips = make(gaps=gaps)
    config = DataConfig(frames=8, persons=2, center=center, facing=facing, scale=scale)
    expected, mask = prepare(clips, KINECT20, config)
    found, found_mask = prepare(clips, KINECT20, config, OFF, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, expected)
    assert (mask is None) == (found_mask is None)
    assert mask is None or found_mask is None or torch.equal(found_mask, mask)


@pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
@pytest.mark.parametrize("frames", [1, 6, 40])
def test_shapes(layout: SkeletonLayout, frames: int) -> None:
    for gaps in (0.0, 0.4):
        x, mask = prepare(make(layout=layout, gaps=gaps), layout, DataConfig(frames=frames, persons=2))
        assert x.shape == (4, layout.dims, frames, layout.num_joints, 2)
        assert x.dtype == torch.float32
        assert mask is None or (mask.shape == (4, frames, 2) and mask.dtype == torch.bool)


@pytest.mark.parametrize("name", STREAMS)
def test_streams_come_from_the_prepared_joints(name: str) -> None:
    clips = make(gaps=0.3)
    config = DataConfig(frames=8, persons=2, facing="mean", scale="trunk")
    joints, mask = prepare(clips, KINECT20, config)
    expected = stream(name, joints.permute(0, 2, 4, 3, 1), KINECT20, mask)
    found, _ = prepare(clips, KINECT20, dataclasses.replace(config, stream=name))
    torch.testing.assert_close(found.permute(0, 2, 4, 3, 1), expected)


def test_all_four_streams_show_one_augmented_body() -> None:
    """Bones taken from the augmented joint stream are the augmented bone stream of the same seed."""
    clips = make()
    config = DataConfig(frames=8, persons=2)
    joints, mask = prepare(clips, KINECT20, config, AugmentConfig(), torch.Generator().manual_seed(5))
    for name in STREAMS:
        x, _ = prepare(
            clips,
            KINECT20,
            dataclasses.replace(config, stream=name),
            AugmentConfig(),
            torch.Generator().manual_seed(5),
        )
        expected = stream(name, joints.permute(0, 2, 4, 3, 1), KINECT20, mask)
        torch.testing.assert_close(x.permute(0, 2, 4, 3, 1), expected)


def test_augmentation_depends_on_the_generator_alone() -> None:
    clips, config = make(gaps=0.3), DataConfig(frames=8, persons=2)
    first, again, other = (
        prepare(clips, KINECT20, config, AugmentConfig(), torch.Generator().manual_seed(s))[0]
        for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.05


def test_clips_stay_as_they_were() -> None:
    clips = make(gaps=0.3)
    prepare(clips, KINECT20, DataConfig(frames=8, persons=2, scale="box"), AugmentConfig(), torch.Generator())
    for a, b in zip(clips, make(gaps=0.3), strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", "colour"),
        ("center", "last"),
        ("facing", "away"),
        ("scale", "half"),
        ("frames", 0),
        ("views", 0),
    ],
)
def test_impossible_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{field}'"):
        DataConfig(**{field: value})  # type: ignore[arg-type]
