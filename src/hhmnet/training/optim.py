"""Optimiser, learning-rate schedule, moving average and mixup of a run."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hhmnet.config import OptimConfig
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.stst import STST

Network = TypeVar("Network", bound=nn.Module)
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


class MovingAverage(Generic[Network]):
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


def smooth(classes: Tensor, smoothing: float) -> Tensor:
    """Label-smoothed targets of class shares ``(N, K)`` (Szegedy et al. 2016, section 7)."""
    return classes * (1 - smoothing) + smoothing / classes.shape[1]


def cross_entropy(logits: Tensor, classes: Tensor, smoothing: float, heads: Sequence[int]) -> Tensor:
    """Label-smoothed cross-entropy, the mean over clips; of several heads each clip's loss is that of its own.

    Args:
        logits: ``(N, K)``, the heads' one behind the other.
        classes: class shares ``(N, K)``; a clip that mixup mixed from two sets has shares, and a loss, in two heads.
        smoothing: share of the target that is spread over all classes of its head.
        heads: how many of the K classes are each head's.
    """
    if len(heads) == 1:
        return functional.cross_entropy(logits.float(), smooth(classes, smoothing))
    losses = [
        functional.cross_entropy(
            part, own.sum(1, keepdim=True) * smoothing / own.shape[1] + own * (1 - smoothing)
        )
        for part, own in zip(logits.float().split(heads, 1), classes.split(heads, 1), strict=True)
    ]
    return torch.stack(losses).sum()


def mix_clips(
    x: Tensor, mask: Tensor | None, classes: Tensor, alpha: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Mixup (Zhang et al. 2018) of every clip with another of the batch, with one share per clip.

    Args:
        x: ``(N, C, T, V, M)``.
        mask: ``(N, T, M)`` or None; a mixed clip has a body wherever either has one.
        classes: class shares ``(N, K)``.
        alpha: of the Beta distribution that shares are drawn from, above 0.
        generator: source of randomness on the host, since torch's Beta takes none.
    """
    count = x.shape[0]
    share = torch.from_numpy(generator.beta(alpha, alpha, count)).to(x)
    partner = torch.from_numpy(generator.permutation(count)).to(x.device)
    wide = share.view(-1, 1, 1, 1, 1)
    mixed = wide * x + (1 - wide) * x[partner]
    classes = share[:, None] * classes + (1 - share[:, None]) * classes[partner]
    return mixed, None if mask is None else mask | mask[partner], classes
