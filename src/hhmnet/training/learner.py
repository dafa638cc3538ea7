"""One training step: forward, loss, gradients, clipping, update, moving average; on a GPU perhaps as a CUDA graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hhmnet.config import TrainConfig
from hhmnet.models.homogeneous import stream_parts
from hhmnet.models.pretrained import Network
from hhmnet.training.distributed import ProcessGroup, synchronise_norms
from hhmnet.training.optim import MovingAverage, make_optimizer
from hhmnet.training.phases import Phase

Update = Callable[..., tuple[Tensor, Tensor]]


class Learner:
    """A network with its optimiser, and what one step does to both.

    Args:
        config: the run's configuration.
        phase: has the network, and its loss.
        device: where it trains.
        group: the processes that train.

    Attributes:
        network: the phase's network, on the device.
        average: its moving average; None without.
        forward: the network as it is called, compiled if the configuration says so.
        update: maps what the network takes, then class shares ``(N, K)``, to the loss and the logits ``(N, K)``.
    """

    def __init__(self, config: TrainConfig, phase: Phase, device: torch.device, group: ProcessGroup) -> None:
        self.config, self.phase, self.device = config, phase, device
        self.network: Network = phase.model.network.to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if group.size > 1 and not config.looks_at_video:
            synchronise_norms(self.network)
        self.average = MovingAverage(self.network, config.optim.ema) if config.optim.ema else None
        self.optimizer = make_optimizer(self.network, config.optim)
        self.forward = torch.compile(self.network) if config.run.compile else self.network
        self._loss: nn.Module = _Loss(self)
        if group.size > 1:
            self._loss = DistributedDataParallel(self._loss, find_unused_parameters=phase.partial)
        graphed = config.run.graph and device.type == "cuda" and group.size == 1
        self.update: Update = GraphedUpdate(self.plain_update) if graphed else self.plain_update

    def plain_update(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """What :attr:`update` does, without a CUDA graph."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, logits = self._loss(*inputs)
        loss.backward()
        if self.config.optim.clip_norm:
            for part in stream_parts(self.network):
                torch.nn.utils.clip_grad_norm_(part, self.config.optim.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return loss.detach(), logits


class _Loss(nn.Module):
    """The network and its loss as one: DistributedDataParallel has to see what the gradients come from."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.network, self._learner = learner.network, learner

    def forward(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        *given, classes = inputs
        learner, phase = self._learner, self._learner.phase
        half = learner.config.run.precision == "bfloat16"
        with torch.autocast(learner.device.type, torch.bfloat16, enabled=half):
            output = learner.forward(*given)
        return phase.loss(output, classes), phase.logits(output).detach()


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, Tensor]


class GraphedUpdate:
    """Runs an update eagerly a few times, then records it once and replays the recording.

    The inputs of every later call are copied into the recording's own. What has other shapes, or a mask where there was
    none, is recorded apart.

    Args:
        update: maps tensors or None to the loss and the logits and steps the optimiser; it may not wait for the GPU,
            and its shapes may not depend on values.
        warmup: eager calls before the recording, so that lazy initialisation and compilation are done.
    """

    def __init__(self, update: Update, warmup: int = 5) -> None:
        self._update, self._warmup = update, warmup
        self._stream = torch.cuda.Stream()
        self._calls = Counter[tuple[torch.Size | None, ...]]()
        self._recordings: dict[tuple[torch.Size | None, ...], _Recording] = {}

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        """The update of one batch."""
        shapes = tuple(None if given is None else given.shape for given in inputs)
        self._calls[shapes] += 1
        if self._calls[shapes] <= self._warmup:
            return self._aside(inputs)
        if shapes not in self._recordings:
            self._recordings[shapes] = self._record(inputs)
        graph, own, (loss, logits) = self._recordings[shapes]
        for place, given in zip(own, inputs, strict=True):
            if place is not None and given is not None:
                place.copy_(given)
        graph.replay()
        return loss.clone(), logits.clone()

    def _aside(self, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor]:
        """An eager update on the stream that will record: memory and libraries are set up per stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._update(*inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _record(self, inputs: tuple[Tensor | None, ...]) -> _Recording:
        own = tuple(None if given is None else given.clone() for given in inputs)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=self._stream):
            outputs = self._update(*own)
        return _Recording(graph, own, outputs)
