"""One training step: forward, loss, gradients, clipping, update, moving average; on a GPU perhaps as a CUDA graph."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hhmnet.config import OptimConfig, TrainConfig
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.homogeneous import stream_parts
from hhmnet.models.pretrained import Network
from hhmnet.models.stst import STST
from hhmnet.training.distributed import ProcessGroup, synchronise_norms
from hhmnet.training.phases import Phase

Update = Callable[..., tuple[Tensor, Tensor]]
_DECAYING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def make_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW or SGD; only the weights of linear layers and convolutions decay.

    A video backbone and, at another rate, skeleton encoders have parameter groups of their own; ``share`` says what
    part of the learning rate each group has. Frozen weights are left out.
    """
    shares: dict[nn.Parameter, float] = {}
    if isinstance(network, HeterogeneousNetwork):
        shares = dict.fromkeys(network.video.backbone.parameters(), config.backbone_lr)
    for module in network.modules():
        if isinstance(module, STST):
            shares |= dict.fromkeys(module.encoder_parameters(), config.encoder_lr)
    parts: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            decays = name == "weight" and isinstance(module, _DECAYING)
            if parameter.requires_grad:
                parts.setdefault((shares.get(parameter, 1.0), not decays), []).append(parameter)
    cuda = next(network.parameters()).is_cuda
    groups: list[dict[str, Any]] = []
    for (share, free), parameters in sorted(parts.items(), key=lambda part: (-part[0][0], part[0][1])):
        decay = 0.0 if free else config.weight_decay
        # A CUDA graph reads the learning rate from a tensor; a plain number would be recorded as it was at that step.
        lr = torch.tensor(config.lr, device="cuda") if cuda else config.lr
        groups.append({"params": parameters, "weight_decay": decay, "share": share, "lr": lr})
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, momentum=config.momentum, nesterov=nesterov, fused=cuda)
    return torch.optim.AdamW(groups, betas=(config.momentum, 0.999), fused=True, capturable=cuda)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group, each by its share."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["share"])
        else:
            group["lr"] = rate * group["share"]


def learning_rate(step: int, total: int, per_epoch: int, config: OptimConfig) -> float:
    """Learning rate of a step: linear warm-up from 0, then a cosine down to ``min_lr``."""
    warmup = min(config.warmup_epochs * per_epoch, total - 1)
    if step < warmup:
        return config.lr * min((step + 1) / warmup, 1.0)
    along = (step - warmup) / max(total - warmup, 1)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + math.cos(math.pi * along))


class MovingAverage:
    """Exponential moving average of a network's weights and batch-norm statistics.

    The decay rises with the steps as min(decay, (1 + n) / (10 + n)), so that a short run isn't ruled by its first
    weights. ``torch.optim.swa_utils.AveragedModel`` branches on a tensor in every step, which a CUDA graph can't hold.

    Args:
        network: the network that trains.
        decay: the largest decay.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.module = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        source, target = network.state_dict(keep_vars=True), self.module.state_dict(keep_vars=True)
        floating = [name for name, value in source.items() if value.is_floating_point()]
        self._from = [source[name].detach() for name in floating]
        self._to = [target[name].detach() for name in floating]
        self._counts = [(source[n], target[n]) for n in source if not source[n].is_floating_point()]
        self._share = torch.zeros((), device=self._to[0].device)

    def set_step(self, step: int) -> None:
        """Set the decay of the next update, the one of optimiser step ``step`` (from 0)."""
        self._share.fill_(1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's weights; no branch, so a CUDA graph can record it."""
        difference = torch._foreach_sub(self._from, self._to)
        torch._foreach_mul_(difference, self._share)
        torch._foreach_add_(self._to, difference)
        for source, target in self._counts:
            target.copy_(source)


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
        loss, logits = self._phase.loss(output, classes)
        return loss, logits.detach()


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
