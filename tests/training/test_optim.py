from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import Tensor, nn

from hhmnet.config import OptimConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig, HeterogeneousNetwork
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import KINECT20
from hhmnet.training.optim import MovingAverage, learning_rate, make_optimizer, mix_clips, set_rate, smooth


def build(**changed: object) -> STST:
    torch.manual_seed(0)
    fields: dict[str, object] = {"widths": (16, 16), "strides": (1, 2), "head_width": 8}
    return STST(STSTConfig(**(fields | changed)), KINECT20, 3)  # type: ignore[arg-type]


def host(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The optimiser.


@pytest.mark.parametrize("variant", [{}, {"mask": "threshold", "norm": "layer"}], ids=str)
def test_every_parameter_once_and_only_matrices_decay(variant: dict[str, object]) -> None:
    network = build(**variant)
    optimizer = make_optimizer(network, OptimConfig(weight_decay=0.07))
    decays = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert id(parameter) not in decays
            decays[id(parameter)] = group["weight_decay"]
    names = {name: decays.pop(id(parameter)) for name, parameter in network.named_parameters()}
    assert not decays
    for name, decay in names.items():
        free = any(
            word in name for word in ("norm", "bias", "graph", "gate", "joint_embedding", "scale", "thresh")
        )
        assert decay == (0.0 if free else 0.07), name
    assert {0.0, 0.07} == set(names.values())


def test_optimiser_takes_its_numbers_from_the_config() -> None:
    adamw = make_optimizer(build(), OptimConfig(lr=0.02, momentum=0.8))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.param_groups[0]["betas"] == (0.8, 0.999)
    sgd = make_optimizer(build(), OptimConfig(optimizer="sgd", lr=0.02, momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD)
    for group in (*adamw.param_groups, *sgd.param_groups):
        assert group["lr"] == 0.02
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["nesterov"]) == (0.8, True)
    assert make_optimizer(build(), OptimConfig(optimizer="sgd", momentum=0)).param_groups[0]["momentum"] == 0


# The learning rate.


def test_learning_rate_rises_then_follows_half_a_cosine() -> None:
    config = OptimConfig(lr=0.1, min_lr=0.01, warmup_epochs=2)
    rates = [learning_rate(step, 100, 5, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    for step in range(10, 100):
        assert rates[step] == pytest.approx(0.01 + 0.09 * math.cos(math.pi / 2 * (step - 10) / 90) ** 2)
    assert rates[99] == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize("warmup", [0.0, 1.7, 99.0])
@pytest.mark.parametrize(("total", "per_epoch"), [(1, 1), (40, 7)])
def test_learning_rate_has_one_peak_and_stays_within_bounds(
    warmup: float, total: int, per_epoch: int
) -> None:
    config = OptimConfig(lr=0.1, min_lr=0.001, warmup_epochs=warmup)
    rates = [learning_rate(step, total, per_epoch, config) for step in range(total)]
    assert all(0.001 <= rate <= 0.1 + 1e-12 for rate in rates)
    peak = int(np.argmax(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(0.1, rel=0.3 if warmup < 99 else 0.51)


# The moving average.


def test_moving_average_matches_a_plain_loop() -> None:
    decay = 0.5
    network = build(mask="random")
    average = MovingAverage(network, decay)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(12):
        with torch.no_grad():
            for name, value in network.state_dict().items():
                if value.dtype == torch.float32:
                    value.add_(torch.randn(value.shape, generator=seeded(step)))
                elif name.endswith("num_batches_tracked"):
                    value.add_(1)
        average.set_step(step)
        average.update()
        share = min(decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                expected[name] = share * expected[name] + (1 - share) * value
            else:
                expected[name] = value.clone()
    assert dict(average.module.state_dict()).keys() == expected.keys()
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name, atol=1e-5, rtol=1e-4)


# Targets and mixup.


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_targets_are_those_of_label_smoothing(smoothing: float) -> None:
    labels, logits = torch.tensor([2, 0, 1, 2]), torch.randn(4, 3, generator=seeded())
    targets = smooth(nn.functional.one_hot(labels, 3).float(), smoothing)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert targets.argmax(1).tolist() == labels.tolist()
    found = nn.functional.cross_entropy(logits, targets)
    torch.testing.assert_close(found, nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing))


def batch(count: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of which each has a class of its own, so that targets tell who was mixed with whom."""
    x = torch.randn(count, 3, 4, 5, 2, generator=seeded(1))
    mask = torch.rand(count, 4, 2, generator=seeded(2)) < 0.5
    return x, mask, torch.eye(count)


def test_mixup_mixes_clips_masks_and_targets_alike() -> None:
    x, mask, targets = batch()
    mixed, either, shares = mix_clips(x, mask, targets, 0.8, host())
    assert either is not None
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
    again, whole, _ = mix_clips(x, None, targets, 0.8, host())
    assert torch.equal(again, mixed)
    assert whole is None
    assert mix_clips(x, mask, targets, 0.0, host())[0] is x


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    """Against the distribution function, also where small alphas pile up: near 0 and 1."""
    count = 20_000
    targets = torch.eye(2)[torch.arange(count) % 2]
    shares = (
        mix_clips(torch.zeros(count, 1, 1, 1, 1), None, targets, alpha, host(3))[2][:, 0].double().numpy()
    )
    smaller = np.minimum(shares, 1 - shares)
    for edge in (1e-4, 0.01, 0.1, 0.3):
        # Half of the clips are mixed with one of their own class; of the others the smaller of two shares that add up
        # to 1 lies below an edge twice as often as either does.
        expected = 0.5 + 0.5 * 2 * beta.cdf(edge, alpha, alpha)
        assert (smaller < edge).mean() == pytest.approx(expected, abs=0.01), edge


def test_convolutions_of_every_kind_decay_and_tables_do_not() -> None:
    layers = nn.Conv1d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv3d(2, 2, 3), nn.Linear(2, 2), nn.Embedding(2, 2)
    optimizer = make_optimizer(nn.Sequential(*layers), OptimConfig(weight_decay=0.07))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decays[id(layer.weight)] for layer in layers] == [0.07] * 4 + [0.0]
    assert {decays[id(layer.bias)] for layer in layers[:4]} == {0.0}  # type: ignore[union-attr]


# A video network beside a frozen one.


def beside(frozen: float = 0.0) -> HeterogeneousNetwork:
    config = HeterogeneousConfig(backbone="small", projection=8, frozen=frozen)
    return HeterogeneousNetwork(build(), config, KINECT20, 3)


def test_the_backbone_learns_at_its_share_and_the_frozen_not_at_all() -> None:
    network = beside()
    optimizer = make_optimizer(network, OptimConfig(backbone_lr=0.25, weight_decay=0.07))
    set_rate(optimizer, 0.2)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
    modules = dict(network.named_modules())
    for name, parameter in network.named_parameters():
        if name.startswith("skeleton."):
            assert id(parameter) not in found, name
            continue
        rate, decay = found.pop(id(parameter))
        owner, _, field = name.rpartition(".")
        matrix = field == "weight" and isinstance(modules[owner], (nn.Linear, nn.Conv2d))
        assert rate == pytest.approx(0.05 if name.startswith("video.backbone.") else 0.2), name
        assert decay == (0.07 if matrix else 0.0), name
    assert not found


def test_a_frozen_backbone_is_left_out() -> None:
    network = beside(frozen=1.0)
    optimizer = make_optimizer(network, OptimConfig())
    found = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    names = {name for name, parameter in network.named_parameters() if id(parameter) in found}
    assert names == {
        name
        for name, _ in network.named_parameters()
        if name.startswith(("video.part", "video.scene", "projections"))
    }
