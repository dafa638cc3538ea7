"""Joints become network input: where frames are taken, the origin, the front and the unit, the four streams."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from hhmnet.data.augment import AugmentConfig
from hhmnet.data.transform import (
    SCALES,
    STREAMS,
    DataConfig,
    center,
    choose_frames,
    in_trunks,
    prepare,
    sample_frames,
    stream,
)
from hhmnet.skeleton import COCO17, KINECT20, NTU25
from made_ragged import LENGTHS, OFF, make, moved, one


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_sampling_matches_a_loop(gaps):
    clips = make((6, 9, 1, 4), gaps=gaps)
    positions = torch.rand(4, 20, generator=seeded(3)) * 10 - 1
    positions[:, :4] = positions[:, :4].round()
    x, mask = sample_frames(clips, positions)
    assert (mask is None) == (not gaps)
    kinds = set()
    for n, t, m in itertools.product(range(4), range(20), range(2)):
        clip = one(clips, n)
        place = min(max(positions[n, t].item(), 0.0), len(clip.joints) - 1.0)
        before, share = math.floor(place), place - math.floor(place)
        sides = [(before, 1 - share), (before + 1, share)]
        there = [
            clip.present is None or bool(clip.present[min(frame, len(clip.joints) - 1), m])
            for frame, _ in sides
        ]
        seen = [side for side, known in zip(sides, there, strict=True) if side[1] > 0 and known]
        kinds.add((len(sides) - sum(weight == 0 for _, weight in sides), len(seen)))
        assert mask is None or mask[n, t, m] == bool(seen)
        expected = torch.zeros(20, 3)
        for frame, weight in seen:
            expected += clip.joints[frame, m] * weight / sum(w for _, w in seen)
        torch.testing.assert_close(x[n, t, m], expected, atol=1e-5, rtol=1e-4)
    assert kinds == ({(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)} if gaps else {(1, 1), (2, 2)})


def test_evaluation_takes_the_middle_of_equal_slots():
    places = torch.tensor([[(t + 0.5) / 4 * length - 0.5 for t in range(4)] for length in LENGTHS])
    torch.testing.assert_close(choose_frames(torch.tensor(LENGTHS), DataConfig(frames=4)).positions, places)


def test_the_origin_is_the_first_persons_root_or_the_next_ones():
    """Else the others would stand metres away, in the camera's coordinates."""
    x = make((6, 6), persons=3).joints.view(2, 6, 3, 20, 3)
    mask = torch.ones(2, 6, 3).bool()
    mask[0, :, 0] = mask[0, 2, 1] = mask[1, 3, 0] = False
    x = x * mask[..., None, None]
    root = KINECT20.root
    origin = torch.stack([x[0, 0, 1, root], x[1, 0, 0, root]])[:, None, None, None]
    torch.testing.assert_close(center(x, root, mask), (x - origin) * mask[..., None, None])
    whole = center(x, root, None)  # everybody is there
    torch.testing.assert_close(whole[:, 0, 0, root], torch.zeros(2, 3))
    torch.testing.assert_close(whole.diff(dim=3), x.diff(dim=3))


def test_without_the_first_person_the_next_one_is_measured():
    x = make((6,)).joints[None].clone()
    mask = torch.ones(1, 6, 2).bool()
    mask[0, :, 0] = mask[0, 0, 1] = False
    x = x * mask[..., None, None]
    alone, seen = x[:, :, 1:], mask[:, :, 1:]
    torch.testing.assert_close(in_trunks(x, KINECT20, mask)[:, :, 1:], in_trunks(alone, KINECT20, seen))


def test_trunk_is_the_mean_way_from_shoulders_to_hips():
    mask = torch.tensor([1, 0, 1, 1, 0, 1]).bool()[None, :, None].expand(1, 6, 2)
    x = make((6,)).joints[None] * mask[..., None, None]
    shoulders, hips = (
        x[0, [0, 2, 3, 5], 0][:, [KINECT20.index(f"{side}_{joint}") for side in ("left", "right")]]
        for joint in ("shoulder", "hip")
    )
    torch.testing.assert_close(in_trunks(x, KINECT20, mask), x / (shoulders - hips).norm(dim=-1).mean())


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_box_spans_minus_1_to_1_on_every_axis(gaps):
    x, mask = prepare(make((5, 12, 4), gaps=gaps), KINECT20, DataConfig(frames=8, persons=2, scale="box"))
    rows = x.permute(0, 2, 4, 3, 1)
    for n in range(3):
        seen = rows[n] if mask is None else rows[n][mask[n]]
        torch.testing.assert_close(seen.reshape(-1, 3).amin(0), -torch.ones(3))
        torch.testing.assert_close(seen.reshape(-1, 3).amax(0), torch.ones(3))


@pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_streams_are_bones_and_motion(layout, frames, masked):
    x = torch.randn(3, frames, 2, layout.num_joints, layout.dims, generator=seeded())
    mask = torch.rand(3, frames, 2, generator=seeded(1)) < 0.6
    bone = torch.zeros_like(x)
    for child, parent in layout.edges:
        bone[..., child, :] = x[..., child, :] - x[..., parent, :]
    for name, positions in (("joint", x), ("bone", bone)):
        torch.testing.assert_close(stream(name, x, layout, mask if masked else None), positions)
        motion = torch.zeros_like(x)
        for n, t, m in itertools.product(range(3), range(frames - 1), range(2)):
            if not masked or (mask[n, t, m] and mask[n, t + 1, m]):
                motion[n, t, m] = positions[n, t + 1, m] - positions[n, t, m]
        found = stream(f"{name}_motion", x, layout, mask if masked else None)
        torch.testing.assert_close(found, motion)


@pytest.mark.parametrize("scale", SCALES)
def test_a_clip_alone_among_others_and_with_augmentation_switched_off(scale):
    """It comes out the same, and finite; absent bodies are zero, whatever is varied."""
    clips = make((5, 1, 12, 3, 4), gaps=0.4)
    clips.present[-4:] = False
    clips = moved(clips, clips.joints)
    config = DataConfig("+".join(STREAMS), frames=8, persons=2, scale=scale)
    together, mask = prepare(clips, KINECT20, config)
    for n in range(5):
        alone, own_mask = prepare(one(clips, n), KINECT20, config)
        torch.testing.assert_close(alone[0], together[n])
        assert torch.equal(own_mask[0], mask[n])
    found, found_mask = prepare(clips, KINECT20, config, OFF, seeded())
    torch.testing.assert_close(found, together)
    assert torch.equal(found_mask, mask)
    assert not mask[-1].any()
    noisy, noisy_mask = prepare(clips, KINECT20, config, AugmentConfig(mirror=0.5), seeded())
    for x, there in ((together, mask), (noisy, noisy_mask)):
        assert x.isfinite().all()
        assert not x.permute(0, 2, 4, 1, 3)[~there].any()


def test_all_four_streams_show_one_augmented_body():
    config = DataConfig("+".join(STREAMS), frames=8, persons=2)
    x, mask = prepare(make(), KINECT20, config, AugmentConfig(), seeded(5))
    each = x.permute(0, 2, 4, 3, 1).chunk(4, -1)
    for name, found in zip(STREAMS, each, strict=True):
        torch.testing.assert_close(found, stream(name, each[0], KINECT20, mask))
