"""Joints become network input: sampling, normalisation, streams, and the whole of it."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from hhmnet.data.augment import AugmentConfig
from hhmnet.data.transform import (
    STREAMS,
    DataConfig,
    bones,
    motion,
    prepare,
    stream,
)
from hhmnet.skeleton import COCO17, KINECT20, NTU25, SkeletonLayout
from made_ragged import FORMS, OFF, make, moved, one


def joints(layout: SkeletonLayout = KINECT20, frames: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, frames, 2, layout.num_joints, layout.dims, generator=generator)


def patchy(frames: int = 5) -> Tensor:
    mask = torch.rand(3, frames, 2, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[0], mask[1, :, 0] = True, False
    return mask


def plain_bones(x: Tensor, layout: SkeletonLayout) -> Tensor:
    out = torch.zeros_like(x)
    for child, parent in layout.edges:
        for n, t, m in itertools.product(*map(range, x.shape[:3])):
            out[n, t, m, child] = x[n, t, m, child] - x[n, t, m, parent]
    return out


def plain_motion(x: Tensor, mask: Tensor | None) -> Tensor:
    out = torch.zeros_like(x)
    for n, t, m in itertools.product(range(x.shape[0]), range(x.shape[1] - 1), range(x.shape[2])):
        if mask is None or (mask[n, t, m] and mask[n, t + 1, m]):
            out[n, t, m] = x[n, t + 1, m] - x[n, t, m]
    return out


@pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
def test_bones_match_a_loop_over_the_edges(layout: SkeletonLayout) -> None:
    x = joints(layout)
    torch.testing.assert_close(bones(x, layout), plain_bones(x, layout))
    assert not bones(x, layout)[..., layout.root, :].any()


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_motion_matches_a_loop_over_frames(frames: int, masked: bool) -> None:
    x, mask = joints(frames=frames), patchy(frames) if masked else None
    torch.testing.assert_close(motion(x, mask), plain_motion(x, mask))


@pytest.mark.parametrize("masked", [False, True])
def test_streams_are_made_of_bones_and_motion(masked: bool) -> None:
    x, mask = joints(), patchy() if masked else None
    expected = {
        "joint": x,
        "bone": plain_bones(x, KINECT20),
        "joint_motion": plain_motion(x, mask),
        "bone_motion": plain_motion(plain_bones(x, KINECT20), mask),
    }
    assert set(STREAMS) == set(expected)
    for name, wanted in expected.items():
        torch.testing.assert_close(stream(name, x, KINECT20, mask), wanted, msg=name)


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
