"""Training on several processes that ``torchrun`` starts: what they share out, and what they tell each other.

Each process takes its rows of the very batch that one process would take, and computes for them what one would:
augmentation draws the whole batch's numbers, skeleton encoders' batch norms take its statistics, contrasts compare all
of it, and DistributedDataParallel averages the gradients.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hhmnet.evaluation.scores import Scores, score_streams
from hhmnet.losses import gathered
from hhmnet.models.layers import keep_statistics
from hhmnet.models.pretrained import ActionModel
from hhmnet.sample import MODALITIES
from hhmnet.store import Store

_PATIENCE = timedelta(days=7)
"""How long processes wait for one that cuts crops or writes a checkpoint; one that ends wakes them at once."""
_FAILED, _CALLERS_MISTAKE = 1, 2


class ProcessGroupError(ValueError):
    """Processes that can't train together."""


class ProcessLost(RuntimeError):
    """Another process of the run has ended before its end."""

    exit_code = 1


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one model; a group of one does nothing and costs nothing.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine.
        control: torch's group for what the processes themselves agree on; tensors in it lie on the CPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    control: distributed.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def check_shares(self, count: int) -> None:
        """Raise ProcessGroupError unless the processes can share a batch of ``count`` clips evenly."""
        if count % self.size:
            raise ProcessGroupError(
                f"field 'optim.batch_size': a batch of {count} clips can't be shared evenly by {self.size} processes; "
                f"make it a multiple of {self.size}, or start another number of them"
            )

    def rows(self, count: int) -> slice:
        """This process's rows of a batch of ``count`` clips; ``count`` is a multiple of the group's size."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over the processes, of the same shape and without a gradient."""
        if self.size == 1:
            return x
        total = x.detach().clone()
        distributed.all_reduce(total)
        return total / self.size

    def mean_count(self, count: Tensor) -> Tensor:
        """What a sum over this process's rows is divided by, so that the mean over processes is one over all rows.

        Where nothing counts, it is 1 in all.
        """
        return self.mean(count.float()).clamp_min(1 / self.size)

    def everyone(self, value: Any) -> list[Any]:
        """What each process gives, in their order; all must call."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with naming_the_lost(self):
            distributed.all_gather_object(values, value, self.control)
        return values

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process; all must ask."""
        if self.size == 1:
            return flag
        numbers = torch.tensor(int(flag))
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, self.control)
        return bool(numbers)

    def check_same(self, what: str, value: int) -> None:
        """Raise ProcessGroupError in every process unless all have the same value."""
        values = self.everyone(value)
        if len(set(values)) > 1:
            raise ProcessGroupError(
                f"{what} is {min(values)} for one process and {max(values)} for another; all machines must see the "
                "same folders"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block from which all processes go on, or none: what one raises ends all, and is said once."""
        error = None
        try:
            yield
        except Exception as raised:
            if self.size == 1 or isinstance(raised, ProcessLost):
                raise
            error = raised
        messages = self.everyone("" if error is None else f"{type(error).__name__}: {error}")
        first = next((message for message in messages if message), None)
        if error is not None and (messages.index(first) == self.rank or messages[self.rank] != first):
            raise error
        if first is not None:
            raise SystemExit(_FAILED if first.startswith("RuntimeError") else _CALLERS_MISTAKE)

    def leave(self) -> None:
        """Say good-bye to the other processes, when all is done."""
        global _joined
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
            _joined = None


_joined: ProcessGroup | None = None


def join(cpu: bool) -> ProcessGroup:
    """The group that ``torchrun`` has started this process for; of one without it.

    Args:
        cpu: whether all stay on the CPU although there may be GPUs.

    Raises:
        ProcessGroupError: there is no GPU for this process.
    """
    global _joined
    started = {"RANK", "MASTER_ADDR"} <= os.environ.keys()
    if not started or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ProcessGroup()
    if _joined is None:
        local_rank, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if not cpu and 0 < gpus <= local_rank:
            raise ProcessGroupError(
                f"process {local_rank + 1} of this machine has no GPU; start {gpus}, one for each"
            )
        if not cpu and gpus:
            torch.cuda.set_device(local_rank)
        distributed.init_process_group("gloo" if cpu or not gpus else "nccl", timeout=_PATIENCE)
        control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        _joined = ProcessGroup(distributed.get_rank(), distributed.get_world_size(), local_rank, control)
    return _joined


@contextmanager
def naming_the_lost(group: ProcessGroup) -> Iterator[None]:
    """Turn what torch says when another process is gone into ProcessLost, in one line."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, distributed.DistError) or "gloo" in str(error)
        if group.size == 1 or not lost:
            raise
        raise ProcessLost(
            f"process {group.rank + 1} of {group.size} stops: another one has ended, and said why if it could; "
            "--resume goes on from the last checkpoint"
        ) from None


def score_together(
    group: ProcessGroup,
    model: ActionModel,
    store: Store,
    indices: np.ndarray,
    device: torch.device,
    videos: Path | None = None,
    modalities: Sequence[str] = MODALITIES,
) -> dict[str, Scores]:
    """What :func:`~hhmnet.evaluation.scores.score_streams` gives, in every process; each clip is scored by one.

    All processes must call, with the same model; the number of clips need not be a multiple of theirs.
    """
    mine = indices[group.rank :: group.size]
    each = score_streams(model, store, mine, device=device, videos=videos, modalities=modalities)
    if group.size == 1:
        return each
    parts = group.everyone({name: part.logits for name, part in each.items()})
    turns = np.arange(len(indices)) % group.size
    places = np.argsort(np.argsort(turns, kind="stable"))  # of each clip among all parts, one after the other
    whole = {name: np.concatenate([part[name] for part in parts])[places] for name in each}
    ids, labels = store.sample_ids[indices], store.labels[indices]
    return {
        name: replace(scores, sample_ids=ids, labels=labels, logits=whole[name])
        for name, scores in each.items()
    }


def synchronise_norms(network: nn.Module) -> None:
    """Let batch norms take the statistics of all processes' rows, in place; weights keep their names.

    On a GPU by torch's SyncBatchNorm, which knows no CPU; there by :class:`SynchronisedNorm`.
    """
    if next(network.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = SynchronisedNorm


class SynchronisedNorm(_BatchNorm):
    """Batch normalisation (Ioffe & Szegedy 2015) over the rows of all processes, of which each may have other many."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes will do."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x (N, D, ...)`` over all axes but D; in eval mode a plain batch norm."""
        if not self.training:
            return super().forward(x)
        axes, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        own = exact.new_tensor([x.numel() // x.shape[1]])
        totals = gathered(torch.cat([exact.sum(axes), own])[None]).sum(0)
        count = totals[-1].detach().clamp_min(1)
        mean = totals[:-1] / count
        away = exact - mean.view(shape)
        var = gathered(away.square().sum(axes)[None]).sum(0) / count
        y = away * (var + self.eps).rsqrt().view(shape)
        keep_statistics(self, mean, var * count / (count - 1).clamp_min(1))
        return (y * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)
