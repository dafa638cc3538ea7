from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from hhmnet.data.transform import STREAMS, bones, motion, stream
from hhmnet.skeleton import COCO17, KINECT20, NTU25, SkeletonLayout


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


def test_motion_does_not_run_from_one_person_or_clip_to_another() -> None:
    x = joints()
    changed = x.clone()
    changed[1, :, 1] += torch.arange(5.0)[:, None, None] ** 2
    same = motion(x) == motion(changed)
    assert same[[0, 2]].all()
    assert same[1, :, 0].all()
    assert not same[1, :-1, 1].any()


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


def test_inputs_stay_as_they_were() -> None:
    x, mask = joints(), patchy()
    for name in STREAMS:
        stream(name, x, KINECT20, mask)
    assert torch.equal(x, joints())
    assert torch.equal(mask, patchy())


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(
        ValueError, match="unknown stream 'colour'; known: joint, bone, joint_motion, bone_motion"
    ):
        stream("colour", joints(), KINECT20)
