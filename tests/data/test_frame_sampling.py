from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from hhmnet.data.augment import AugmentConfig, augment, draw_mirrored, frame_positions, mirror
from hhmnet.data.transform import (
    DataConfig,
    SampledFrames,
    SkeletonBatch,
    choose_frames,
    prepare,
    sample_frames,
)
from hhmnet.skeleton import KINECT20
from made_ragged import LENGTHS, OFF, make, one

# Sampling.


def test_sampling_matches_interp() -> None:
    clips = make()
    positions = torch.rand(4, 7, generator=torch.Generator().manual_seed(2)) * 14 - 1
    x, mask = sample_frames(clips, positions)
    assert mask is None
    assert x.shape == (4, 7, 2, 20, 3)
    for n in range(4):
        joints = one(clips, n).joints.numpy()
        for m, v, c in itertools.product(range(2), (0, 7, 19), range(3)):
            expected = np.interp(positions[n].numpy(), np.arange(len(joints)), joints[:, m, v, c])
            np.testing.assert_allclose(x[n, :, m, v, c].numpy(), expected, atol=1e-5)


def test_sampling_with_gaps_matches_a_loop() -> None:
    clips = make((6, 9, 1, 4), gaps=0.4)
    positions = torch.rand(4, 20, generator=torch.Generator().manual_seed(3)) * 10 - 1
    positions[:, :4] = positions[:, :4].round()
    x, mask = sample_frames(clips, positions)
    assert mask is not None
    kinds = set()
    for n, t, m in itertools.product(range(4), range(20), range(2)):
        clip = one(clips, n)
        assert clip.present is not None
        place = min(max(positions[n, t].item(), 0.0), len(clip.joints) - 1.0)
        before, share = math.floor(place), place - math.floor(place)
        sides = [(before, 1 - share), (before + 1, share)]
        seen = [(frame, weight) for frame, weight in sides if weight > 0 and clip.present[frame, m]]
        kinds.add((len(sides) - sum(weight == 0 for _, weight in sides), len(seen)))
        assert mask[n, t, m] == bool(seen)
        expected = torch.zeros(20, 3)
        for frame, weight in seen:
            expected += clip.joints[frame, m] * weight / sum(w for _, w in seen)
        torch.testing.assert_close(x[n, t, m], expected, atol=1e-5, rtol=1e-4)
    assert kinds == {(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}


def test_a_mask_without_gaps_changes_nothing() -> None:
    clips = make()
    positions = torch.rand(4, 7, generator=torch.Generator().manual_seed(2)) * 14 - 1
    whole = clips._replace(present=torch.ones(clips.joints.shape[:2]).bool())
    x, mask = sample_frames(whole, positions)
    assert mask is not None
    assert mask.all()
    torch.testing.assert_close(x, sample_frames(clips, positions)[0])


def test_evaluation_takes_the_middle_of_equal_slots() -> None:
    clips = make()
    plain = DataConfig(frames=4, persons=2, center="none")
    for phase in (0.5, 0.0, 0.25):
        x, _ = prepare(clips, KINECT20, plain, phase=phase)
        places = torch.tensor([[(t + phase) / 4 * length - 0.5 for t in range(4)] for length in LENGTHS])
        torch.testing.assert_close(x.permute(0, 2, 4, 3, 1), sample_frames(clips, places)[0])


# What skeleton and video have in common.

LIVELY = AugmentConfig(mirror=0.5, limb=0.3)


def test_a_view_chosen_beforehand_changes_nothing() -> None:
    clips, config = make(gaps=0.3), DataConfig(frames=8, persons=2, facing="first", scale="trunk")
    for phase in (0.25, 0.5):
        view = choose_frames(clips.lengths, config, phase=phase)
        assert view.mirrored is None
        expected, _ = prepare(clips, KINECT20, config, phase=phase)
        assert torch.equal(prepare(clips, KINECT20, config, sampled=view)[0], expected)
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    expected, _ = prepare(clips, KINECT20, config, LIVELY, first)
    view = choose_frames(clips.lengths, config, LIVELY, second)
    assert view.mirrored is not None
    found, _ = prepare(clips, KINECT20, config, LIVELY, second, sampled=view)
    assert torch.equal(found, expected)
    assert torch.equal(first.get_state(), second.get_state())


def test_the_order_in_which_numbers_are_drawn() -> None:
    """Positions, mirrors, the rest: runs that were recorded can be repeated as long as it is this one."""
    clips, config = make(), DataConfig(frames=8, persons=2, center="none")
    found, _ = prepare(clips, KINECT20, config, LIVELY, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    positions = frame_positions(clips.lengths, 8, LIVELY, generator)
    x, _ = sample_frames(clips, positions)
    x = augment(x, KINECT20, LIVELY, generator)
    assert torch.equal(found, x.permute(0, 4, 1, 3, 2))
    generator.manual_seed(3)
    view = choose_frames(clips.lengths, config, LIVELY, generator)
    generator.manual_seed(3)
    assert torch.equal(view.positions, frame_positions(clips.lengths, 8, LIVELY, generator))
    mirrored = draw_mirrored(len(clips.lengths), LIVELY, generator)
    assert view.mirrored is not None
    assert mirrored is not None
    assert torch.equal(view.mirrored, mirrored)


@pytest.mark.parametrize("augmentation", [None, OFF])
def test_a_view_mirrors_the_clips_it_names(augmentation: AugmentConfig | None) -> None:
    clips, config = make(), DataConfig(frames=8, persons=2)
    view = SampledFrames(
        choose_frames(clips.lengths, config).positions, torch.tensor([True, False, False, True])
    )
    generator = None if augmentation is None else torch.Generator().manual_seed(0)
    found, _ = prepare(clips, KINECT20, config, augmentation, generator, sampled=view)
    plain, _ = prepare(clips, KINECT20, config)
    expected = mirror(plain.permute(0, 2, 4, 3, 1), KINECT20, view.mirrored).permute(0, 4, 1, 3, 2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("augmentation", [None, AugmentConfig(offset=0.05, noise=0.05)])
def test_a_derived_trunk_is_the_same_whatever_was_stored(augmentation: AugmentConfig | None) -> None:
    config = DataConfig(frames=8, trunk="derived", scale="trunk")
    stored = torch.randn(30, 1, 20, 3, generator=torch.Generator().manual_seed(0))
    moved = stored.clone()
    trunk = [KINECT20.index(name) for name in ("hip_center", "spine", "shoulder_center")]
    moved[:, :, trunk] += 0.3
    lengths = torch.tensor([10, 20])
    x, y = (
        prepare(
            SkeletonBatch(joints, None, lengths),
            KINECT20,
            config,
            augmentation,
            torch.Generator().manual_seed(1),
        )[0]
        for joints in (stored, moved)
    )
    torch.testing.assert_close(x, y)
    hips = [KINECT20.index(f"{side}_hip") for side in ("left", "right")]
    shoulders = [KINECT20.index(f"{side}_shoulder") for side in ("left", "right")]
    wanted = (3 * x[..., hips, :].mean(-2) + x[..., shoulders, :].mean(-2)) / 4
    torch.testing.assert_close(x[..., KINECT20.index("spine"), :], wanted)
    first = wanted.new_zeros(2, 3)
    if augmentation is None:
        torch.testing.assert_close(x[:, :, 0, trunk[0], 0], first, atol=1e-5, rtol=0)
