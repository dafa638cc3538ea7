"""A training step as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Update = Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]


class GraphedUpdate:
    """Runs an update eagerly a few times, then records it once and replays the recording.

    The inputs of every later call are copied into the recording's own; they must keep their shapes. Calls with a
    mask, or with another shape, run eagerly: absent persons are left out of the computation, so its shapes depend on
    the data.

    Args:
        update: maps ``(x, mask, targets)`` to ``(loss, logits)`` and steps the optimiser; it may not wait for the GPU.
        warmup: eager calls before the recording, so that lazy initialisation and compilation are done.
    """

    def __init__(self, update: Update, warmup: int = 5) -> None:
        self._update, self._left = update, warmup
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._outputs: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, mask: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The update of one batch."""
        fits = self._inputs is None or self._inputs[0].shape == x.shape
        if mask is not None or not fits:
            return self._update(x, mask, targets)
        if self._left > 0:
            self._left -= 1
            return self._aside(x, targets)
        if self._graph is None:
            self._record(x, targets)
        assert self._graph is not None
        assert self._inputs is not None
        assert self._outputs is not None
        self._inputs[0].copy_(x)
        self._inputs[1].copy_(targets)
        self._graph.replay()
        loss, logits = self._outputs
        return loss.clone(), logits.clone()

    def _aside(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """An eager update on the stream that will record: memory and libraries are set up per stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._update(x, None, targets)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _record(self, x: Tensor, targets: Tensor) -> None:
        self._inputs = (x.clone(), targets.clone())
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=self._stream):
            self._outputs = self._update(self._inputs[0], None, self._inputs[1])
        self._graph = graph
