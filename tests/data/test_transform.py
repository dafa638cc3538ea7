"""The four streams, and the whole way from joints to network input."""

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
@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_streams_are_bones_and_motion(layout: SkeletonLayout, frames: int, masked: bool) -> None:
    x, mask = joints(layout, frames), patchy(frames) if masked else None
    expected = {
        "joint": x,
        "bone": plain_bones(x, layout),
        "joint_motion": plain_motion(x, mask),
        "bone_motion": plain_motion(plain_bones(x, layout), mask),
    }
    assert set(STREAMS) == set(expected)
    for name, wanted in expected.items():
        torch.testing.assert_close(stream(name, x, layout, mask), wanted, msg=name)


# The whole.


@pytest.mark.parametrize(("center", "facing", "scale"), FORMS)
def test_a_clip_alone_among_others_and_with_augmentation_switched_off(
    center: str, facing: str, scale: str
) -> None:
    """It comes out the same, and finite; absent bodies are zero, whatever is varied."""
    clips = make((5, 1, 12, 3, 4), gaps=0.4)
    assert clips.present is not None
    clips.present[-4:] = False
    clips = moved(clips, clips.joints)
    form = {"center": center, "facing": facing, "scale": scale}
    config = DataConfig(frames=8, persons=2, stream="+".join(STREAMS), **form)  # type: ignore[arg-type]
    together, mask = prepare(clips, KINECT20, config)
    for n in range(5):
        alone, own_mask = prepare(one(clips, n), KINECT20, config)
        torch.testing.assert_close(alone[0], together[n])
        assert own_mask is not None
        assert torch.equal(own_mask[0], mask[n])
    found, found_mask = prepare(clips, KINECT20, config, OFF, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, together)
    assert torch.equal(found_mask, mask)
    assert not mask[-1].any()
    noisy, noisy_mask = prepare(
        clips, KINECT20, config, AugmentConfig(mirror=0.5), torch.Generator().manual_seed(0)
    )
    for x, there in ((together, mask), (noisy, noisy_mask)):
        assert x.isfinite().all()
        assert not x.permute(0, 2, 4, 1, 3)[~there].any()


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
