"""One training step's parts: which weights decay, how fast each learns, and a step as a CUDA graph without a GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from short_run import SMALL_MODEL
from torch import Tensor, nn

from hhmnet.config import OptimConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig, HeterogeneousNetwork
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import KINECT20
from hhmnet.training.learner import GraphedUpdate, learning_rate, make_optimizer, set_rate


def build() -> STST:
    return STST(STSTConfig(**SMALL_MODEL), KINECT20, 3)


def rates(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name; every parameter is in one group at the most."""
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
    return {name: found[id(p)] for name, p in network.named_parameters() if id(p) in found}


def test_only_matrices_decay():
    network = nn.Sequential(build(), nn.Linear(3, 4), nn.Conv1d(3, 4, 1), nn.Conv3d(3, 4, 1))
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


def test_batches_with_a_mask_and_without_are_recorded_and_replayed(monkeypatch):
    """With stand-ins for what a recording needs of torch.cuda: a replay does on its own tensors what was recorded."""
    calls: list[tuple[Any, Any]] = []
    replayed, recorded = [], []

    def update(x: Tensor, mask: Tensor | None, classes: Tensor) -> tuple[Tensor, Tensor]:
        there = x if mask is None else x * mask
        calls.append(((x, mask, classes), (there.sum(), there[:, None] + classes)))
        return calls[-1][1]

    @contextmanager
    def graph(graph: Any, stream: Any) -> Iterator[None]:
        yield
        inputs, outputs = calls[-1]
        recorded.append(graph)

        def replay() -> None:
            replayed.append(graph)
            for place, value in zip(outputs, update(*inputs), strict=True):
                place.copy_(value)

        graph.replay = replay

    waiting = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "Stream": lambda: waiting,
        "current_stream": lambda: waiting,
        "stream": lambda stream: nullcontext(),
        "synchronize": lambda: None,
        "CUDAGraph": lambda: SimpleNamespace(),
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    graphed = GraphedUpdate(update, warmup=2)
    random = torch.Generator().manual_seed(0)
    for number in range(12):
        x, classes = torch.rand(4, generator=random), torch.rand(4, 3, generator=random)
        mask = None if number % 3 == 0 else torch.rand(4, generator=random) < 0.5
        found = graphed(x, mask, classes)
        for ours, theirs in zip(found, update(x, mask, classes), strict=True):
            assert torch.equal(ours, theirs), number
    assert (len(recorded), len(replayed)) == (2, 2 + 6)
