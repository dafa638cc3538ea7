"""One training step: forward, loss, gradients, clipping, update, moving average; on a GPU perhaps as a CUDA graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hhmnet.config import TrainConfig
from hhmnet.models.homogeneous import stream_parts
from hhmnet.models.pretrained import Network
from hhmnet.models.stst import STST
from hhmnet.training.distributed import ProcessGroup, synchronise_norms
from hhmnet.training.optim import MovingAverage, make_optimizer
from hhmnet.training.phases import Phase

Update = Callable[..., tuple[Tensor, Tensor]]


class Learner:
    """A network with its optimiser, and what one step does to both.

    Attributes:
        network: the phase's network, on the device.
        average: its moving average; None without.
        result: the moving average's network where there is one, else the network.
        modules: what a checkpoint holds.
        update: maps what the network takes, then class shares ``(N, K)``, to the loss and the logits ``(N, K)``.
    """

    def __init__(self, config: TrainConfig, phase: Phase, device: torch.device, group: ProcessGroup) -> None:
        self.config = config
        self.network: Network = phase.model.network.to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if group.size > 1 and not config.looks_at_video:
            synchronise_norms(self.network)
        self.average = MovingAverage(self.network, config.optim.ema) if config.optim.ema else None
        self.result: Network = self.network if self.average is None else self.average.module
        self.modules: dict[str, nn.Module] = {"network": self.network}
        if self.average is not None:
            self.modules["ema"] = self.average.module
        self.optimizer = make_optimizer(self.network, config.optim)
        self._loss: nn.Module = _Loss(self.network, phase, config, device)
        if group.size > 1:
            self._loss = DistributedDataParallel(self._loss, find_unused_parameters=phase.partial)
        graphed = config.run.graph and device.type == "cuda" and group.size == 1
        if graphed:
            for module in self.network.modules():
                if isinstance(module, STST):
                    module.static_shapes = True
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

    def __init__(self, network: nn.Module, phase: Phase, config: TrainConfig, device: torch.device) -> None:
        super().__init__()
        self.network, self._phase = network, phase
        self._call = torch.compile(network) if config.run.compile else network
        self._autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=config.run.precision == "bfloat16"
        )

    def forward(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        *given, classes = inputs
        with self._autocast:
            output = self._call(*given)
        return self._phase.loss(output, classes), self._phase.logits(output).detach()


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
        self._replays: dict[tuple[torch.Size | None, ...], Update] = {}

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        """The update of one batch."""
        shapes = tuple(None if given is None else given.shape for given in inputs)
        self._calls[shapes] += 1
        if self._calls[shapes] <= self._warmup:
            return self._aside(inputs)
        if shapes not in self._replays:
            self._replays[shapes] = self._record(inputs)
        return self._replays[shapes](*inputs)

    def _aside(self, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor]:
        """An eager update on the stream that will record: memory and libraries are set up per stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = self._update(*inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _record(self, inputs: tuple[Tensor | None, ...]) -> Update:
        own = tuple(None if given is None else given.clone() for given in inputs)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=self._stream):
            loss, logits = self._update(*own)

        def replay(*given: Tensor | None) -> tuple[Tensor, Tensor]:
            for place, value in zip(own, given, strict=True):
                if place is not None and value is not None:
                    place.copy_(value)
            graph.replay()
            return loss.clone(), logits.clone()

        return replay
