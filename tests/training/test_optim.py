from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta
from short_run import SMALL_MODEL
from torch import nn

from hhmnet.config import OptimConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig, HeterogeneousNetwork
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import KINECT20
from hhmnet.training.optim import learning_rate, make_optimizer, mix_clips, set_rate


def build(**changed: object) -> STST:
    return STST(STSTConfig(**(SMALL_MODEL | changed)), KINECT20, 3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rates(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name; every parameter is in one group at the most."""
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
    return {name: found[id(p)] for name, p in network.named_parameters() if id(p) in found}


@pytest.mark.parametrize(
    "layer", [nn.Linear(3, 4), nn.Conv1d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv3d(3, 4, 1)]
)
def test_only_matrices_decay(layer):
    network = nn.Sequential(build(), layer)
    found = rates(make_optimizer(network, OptimConfig(weight_decay=0.07)), network)
    assert found.keys() == dict(network.named_parameters()).keys()
    free = ("norm", "bias", "graph", "gate", "joint_embedding", "scale", "thresh")
    for name, (_, decay) in found.items():
        assert decay == (0.0 if any(word in name for word in free) else 0.07), name


def test_encoders_and_backbones_learn_at_their_share():
    config = OptimConfig(optimizer="sgd", momentum=0.8, backbone_lr=0.25, encoder_lr=0.5)
    encoder = build()
    video = HeterogeneousNetwork(build(), HeterogeneousConfig(backbone="small", projection=8), KINECT20, 3)
    for network in (encoder, video):
        optimizer = make_optimizer(network, config)
        set_rate(optimizer, 0.2)
        assert (optimizer.param_groups[0]["momentum"], optimizer.param_groups[0]["nesterov"]) == (0.8, True)
        for name, (rate, _) in rates(optimizer, network).items():
            share = 0.5 if network is encoder and not name.startswith("classifier.") else 1.0
            share = 0.25 if name.startswith("video.backbone.") else share
            assert rate == pytest.approx(0.2 * share), name
    assert not any(name.startswith("skeleton.") for name in rates(optimizer, video))  # which is frozen


def test_learning_rate_rises_then_follows_half_a_cosine():
    config = OptimConfig(lr=0.1, min_lr=0.01, warmup_epochs=2)
    found = [learning_rate(step, 100, 5, config) for step in range(100)]
    assert found[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    for step in range(10, 100):
        assert found[step] == pytest.approx(0.01 + 0.09 * math.cos(math.pi / 2 * (step - 10) / 90) ** 2)


def test_mixup_mixes_clips_masks_and_targets_alike():
    """Each clip has a class of its own, so that targets tell who was mixed with whom."""
    x, targets = torch.randn(16, 3, 4, 5, 2, generator=seeded(1)), torch.eye(16)
    mask = torch.rand(16, 4, 2, generator=seeded(2)) < 0.5
    mixed, either, shares = mix_clips(x, mask, targets, 0.8, np.random.default_rng(0))
    torch.testing.assert_close(shares.sum(1), torch.ones(16))
    partners = []
    for n in range(16):
        others = [c for c in shares[n].nonzero().flatten().tolist() if c != n]
        partner = others[0] if others else n
        partners.append(partner)
        assert len(others) <= 1
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
