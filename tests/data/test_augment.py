"""Augmentation: every part within its range, and about what it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import beta
from torch import Tensor

from hhmnet.data.augment import (
    AugmentConfig,
    augment,
    draw_mirrored,
    frame_positions,
    linear_map,
    mix_clips,
    rotation,
)
from hhmnet.skeleton import COCO17, KINECT20, SkeletonLayout
from made_ragged import OFF

PARTS = ["yaw", "tilt", "scale", "stretch", "shear", "mirror", "noise", "offset"]
LENGTHS = torch.tensor([1, 2, 5, 16, 90, 1])
LAYOUTS = pytest.mark.parametrize("layout", [KINECT20, COCO17], ids=lambda layout: layout.name)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def only(**parts: float) -> AugmentConfig:
    return dataclasses.replace(OFF, **parts)


def varied(x: Tensor, layout: SkeletonLayout, **parts: float) -> Tensor:
    """Clips augmented by some parts alone."""
    config, generator = only(**parts), seeded()
    return augment(x, layout, config, generator, draw_mirrored(len(x), config, generator))


def clips(layout: SkeletonLayout) -> Tensor:
    return torch.randn(6, 4, 2, layout.num_joints, layout.dims, generator=seeded(9))


# Where frames are taken.


@pytest.mark.parametrize("frames", [1, 40])
@pytest.mark.parametrize(("crop", "jitter"), [(0.1, 1.0), (1.0, 0.0)])
def test_positions_rise_and_stay_within_the_clip(frames, crop, jitter):
    """A frame reaches half a frame to each side of its index, so a clip spans -0.5 to length - 0.5."""
    for seed in range(10):
        positions = frame_positions(LENGTHS, frames, only(crop=crop, jitter=jitter), seeded(seed))
        assert positions.shape == (6, frames)
        assert (positions.diff(dim=1) >= -1e-4).all()
        assert (positions >= -0.5 - 1e-4).all()
        assert (positions <= LENGTHS[:, None] - 0.5 + 1e-4).all()


def test_crop_keeps_at_least_its_share_and_reaches_both_ends():
    positions = frame_positions(torch.full((4000,), 100), 100, only(crop=0.6), seeded())
    kept, start = (positions[:, -1] - positions[:, 0]) / 99, positions[:, 0]
    assert (kept.min(), kept.max()) == (pytest.approx(0.6, abs=0.01), pytest.approx(1.0, abs=0.01))
    assert start.min() < 1
    assert start.max() > 35


# Deformations.


def test_one_switch_leaves_poses_as_they_are():
    zeros = dict.fromkeys(("yaw", "tilt", "scale", "stretch", "shear", "noise", "offset"), 0.0)
    config, other = AugmentConfig(mirror=0.3, deform=False), AugmentConfig(mirror=0.3, **zeros)
    assert dataclasses.asdict(config) == dataclasses.asdict(other) | {"deform": False}


@LAYOUTS
@pytest.mark.parametrize("part", PARTS)
def test_every_part_does_something(layout, part):
    amount = 30.0 if part in ("yaw", "tilt") else 0.5
    change = (varied(clips(layout), layout, **{part: amount}) - clips(layout)).abs().max()
    # An image has no vertical axis to turn around.
    assert change == 0 if part == "yaw" and layout.dims == 2 else change > 1e-2


def test_rotation_is_about_x_then_y_then_z():
    angles = torch.tensor([[0.3, -0.7, 1.1], [2.0, 0.1, -0.4]])
    expected = Rotation.from_euler("xyz", angles.numpy()).as_matrix()
    np.testing.assert_allclose(rotation(angles), expected, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_size_and_shear_stay_within_their_ranges(dims):
    eye = torch.eye(dims).bool()
    same, apart, sheared = (
        linear_map(3000, dims, only(**{part: 0.2}), seeded()) for part in ("scale", "stretch", "shear")
    )
    for sizes in (same[:, eye], apart[:, eye], sheared[:, ~eye] + 1):
        assert (sizes.min(), sizes.max()) == (pytest.approx(0.8, abs=0.01), pytest.approx(1.2, abs=0.01))
    assert same[:, eye].std(1).max() < 1e-6
    assert apart[:, eye].std(1).max() > 0.1
    assert not same[:, ~eye].any()
    torch.testing.assert_close(sheared[:, eye], torch.ones(3000, dims))


@LAYOUTS
def test_mirror_swaps_left_and_right(layout):
    x = clips(layout)
    image = varied(x, layout, mirror=1.0)
    for here, name in enumerate(layout.joints):
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        there = x[..., layout.index(swapped), :]
        torch.testing.assert_close(image[..., here, 0], -there[..., 0])
        torch.testing.assert_close(image[..., here, 1:], there[..., 1:])


# Mixup.


def test_mixup_mixes_clips_masks_and_targets_alike():
    """Each clip has a class of its own, so that targets tell who was mixed with whom."""
    x, targets = torch.randn(16, 3, 4, 5, 2, generator=seeded(1)), torch.eye(16)
    mask = torch.rand(16, 4, 2, generator=seeded(2)) < 0.5
    mixed, either, shares = mix_clips(x, mask, targets, 0.8, np.random.default_rng(0))
    torch.testing.assert_close(shares.sum(1), torch.ones(16))
    partners = []
    for n in range(16):
        (partner,) = [c for c in shares[n].nonzero().flatten().tolist() if c != n] or [n]
        partners.append(partner)
        share = shares[n, n]
        torch.testing.assert_close(mixed[n], share * x[n] + (1 - share) * x[partner], atol=1e-5, rtol=1e-4)
        assert torch.equal(either[n], mask[n] | mask[partner])
    assert sorted(partners) == list(range(16))
    assert len({round(shares[n, n].item(), 4) for n in range(16)}) > 12
    again, whole, _ = mix_clips(x, None, targets, 0.8, np.random.default_rng(0))
    assert torch.equal(again, mixed)
    assert whole is None


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_shares_follow_the_beta_distribution(alpha):
    """Against the distribution function, also where small alphas pile up: near 0 and 1."""
    count = 20_000
    x, targets = torch.zeros(count, 1, 1, 1, 1), torch.eye(2)[torch.arange(count) % 2]
    shares = mix_clips(x, None, targets, alpha, np.random.default_rng(3))[2][:, 0].double().numpy()
    smaller = np.minimum(shares, 1 - shares)
    for edge in (1e-4, 0.01, 0.1, 0.3):
        # Half of the clips are mixed with one of their own class; of the others the smaller of two shares that add up
        # to 1 lies below an edge twice as often as either does.
        expected = 0.5 + 0.5 * 2 * beta.cdf(edge, alpha, alpha)
        assert (smaller < edge).mean() == pytest.approx(expected, abs=0.01), edge
