"""A training step as a CUDA graph, as far as that can be told without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hhmnet.training.learner import GraphedUpdate


class StandIn:
    """Of torch.cuda what a recording needs: a replay does on its own tensors what was recorded."""

    def __init__(self, patch: pytest.MonkeyPatch, update: Any) -> None:
        self.update, self.recorded, self.replayed = update, 0, 0
        self._outputs: tuple[Tensor, ...] = ()
        waiting = SimpleNamespace(wait_stream=lambda other: None)
        for name, value in {
            "Stream": lambda: waiting,
            "current_stream": lambda: waiting,
            "stream": lambda stream: nullcontext(),
            "synchronize": lambda: None,
            "CUDAGraph": lambda: SimpleNamespace(),
            "graph": self.graph,
        }.items():
            patch.setattr(torch.cuda, name, value)

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        self._last, self._outputs = inputs, self.update(*inputs)
        return self._outputs

    @contextmanager
    def graph(self, graph: Any, stream: Any) -> Iterator[None]:
        yield
        inputs, outputs = self._last, self._outputs
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            for place, value in zip(outputs, self.update(*inputs), strict=True):
                place.copy_(value)

        graph.replay = replay


def test_batches_with_a_mask_and_without_are_recorded_and_replayed(monkeypatch):
    def update(x: Tensor, mask: Tensor | None, classes: Tensor) -> tuple[Tensor, Tensor]:
        there = x if mask is None else x * mask
        return there.sum(), there[:, None] + classes

    stand_in = StandIn(monkeypatch, update)
    graphed = GraphedUpdate(stand_in, warmup=2)
    random = torch.Generator().manual_seed(0)
    for number in range(12):
        x, classes = torch.rand(4, generator=random), torch.rand(4, 3, generator=random)
        mask = None if number % 3 == 0 else torch.rand(4, generator=random) < 0.5
        for ours, theirs in zip(graphed(x, mask, classes), update(x, mask, classes), strict=True):
            assert torch.equal(ours, theirs), number
    assert (stand_in.recorded, stand_in.replayed) == (2, 2 + 6)
