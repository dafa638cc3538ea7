"""A training step as a CUDA graph, as far as that can be told without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from hhmnet.training.learner import GraphedUpdate


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
