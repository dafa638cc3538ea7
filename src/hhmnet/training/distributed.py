"""Training on several processes: what they share out, and what they tell each other.

Each process takes its rows of the very batch that one process would take, and what it computes is what one process
would compute for these rows: random numbers are drawn for the whole batch, batch norms take the whole batch's
statistics, contrasts compare the whole batch, gradients are averaged before they are clipped.

This is not ``DistributedDataParallel``, which expects the same graph in every process: here a process may have no
absent body, or not one clip with a video, where another has, and then waits for gradients that never come.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.overrides import TorchFunctionMode

_PATIENCE = timedelta(days=7)
"""How long processes wait for one that cuts crops or writes a checkpoint; one that ends wakes them at once."""
_MESSAGE = 1000
_FAILED, _CALLERS_MISTAKE = 1, 2


class TeamError(ValueError):
    """Processes that can't train together."""


class ProcessLost(RuntimeError):
    """Another process of the run has ended before its end."""


class Team:
    """The processes that train one model; a team of one does nothing and costs nothing.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine.
        control: group for what the processes themselves agree on; tensors in it lie on the CPU.

    Attributes:
        norms_together: whether batch norms take the statistics of the whole batch, or go by what they know already. It
            is set for every step, to the same in all processes.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        local_rank: int = 0,
        control: distributed.ProcessGroup | None = None,
    ) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self.norms_together = True
        self._control = control

    def __deepcopy__(self, memo: dict[int, Any]) -> Team:
        return self  # a copied network has the same processes around it

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def check_shares(self, count: int) -> None:
        """Raise TeamError unless the team can share a batch of ``count`` clips evenly."""
        if count % self.size:
            raise TeamError(
                f"field 'optim.batch_size': a batch of {count} clips can't be shared evenly by {self.size} processes; "
                f"make it a multiple of {self.size}, or start another number of them"
            )

    def rows(self, count: int) -> slice:
        """This process's rows of a batch of ``count`` clips; ``count`` is a multiple of the team's size."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over the processes, of the same shape and without a gradient."""
        return x if self.size == 1 else self._sum(x) / self.size

    def mean_count(self, count: Tensor) -> Tensor:
        """What a sum over this process's rows is divided by, so that the mean over processes is one over all rows.

        Where nothing counts, it is 1 in all.
        """
        return count.clamp_min(1) if self.size == 1 else self._sum(count).clamp_min(1) / self.size

    def _sum(self, x: Tensor) -> Tensor:
        total = x.detach().clone()
        distributed.all_reduce(total)
        return total

    def gather(self, x: Tensor) -> Tensor:
        """Rows of all processes in order, without a gradient; each process has equally many."""
        if self.size == 1:
            return x
        rows = x.detach().contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process; all must ask."""
        return flag if self.size == 1 else bool(self._agree(torch.tensor([int(flag)])).item())

    def all(self, flag: bool) -> bool:
        """Whether ``flag`` is set in every process; all must ask."""
        return not self.any(not flag)

    def _agree(self, numbers: Tensor) -> Tensor:
        """The largest of every process's ``numbers``, which lie on the CPU."""
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, self._control)
        return numbers

    def union(self, positions: set[int], count: int) -> set[int]:
        """The positions, from 0 to ``count - 1``, that any process has."""
        if self.size == 1:
            return positions
        flags = torch.zeros(count, dtype=torch.uint8)
        flags[sorted(positions)] = 1
        return set(self._agree(flags).nonzero()[:, 0].tolist())

    def check_same(self, what: str, value: int) -> None:
        """Raise TeamError in every process unless all have the same value."""
        if self.size == 1:
            return
        high, low = self._agree(torch.tensor([value, -value])).tolist()
        if high != -low:
            raise TeamError(
                f"{what} is {-low} for one process and {high} for another; all machines must see the same folders"
            )

    def join_rows(self, mine: np.ndarray, count: int) -> np.ndarray:
        """Rows of all processes in one array ``(count, ...)``, each where it belongs.

        Args:
            mine: rows ``rank``, ``rank + size``, ``rank + 2 · size``, … of it.
            count: rows in all; it need not be a multiple of the team's size.
        """
        if self.size == 1:
            return mine
        longest = -(-count // self.size)
        padded = torch.zeros(longest, *mine.shape[1:], dtype=torch.from_numpy(mine).dtype)
        padded[: len(mine)] = torch.from_numpy(mine)
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded, self._control)
        return torch.stack(parts, 1).flatten(0, 1)[:count].numpy()

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
        if self.size == 1:
            return
        messages = self._tell("" if error is None else f"{type(error).__name__}: {error}")
        first = next((rank for rank, message in enumerate(messages) if message), None)
        if error is not None and (first == self.rank or messages[self.rank] != messages[first or 0]):
            raise error
        if first is not None:
            mistake = not messages[first].startswith("RuntimeError")
            raise SystemExit(_CALLERS_MISTAKE if mistake else _FAILED)

    def _tell(self, message: str) -> list[str]:
        """The messages of all processes."""
        text = message.encode()[:_MESSAGE]
        mine = torch.zeros(_MESSAGE, dtype=torch.uint8)
        mine[: len(text)] = torch.tensor(list(text), dtype=torch.uint8)
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        with naming_the_lost(self):
            distributed.all_gather(everyone, mine, self._control)
        return [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in everyone]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take the mean of every process's gradients.

        A parameter that no process has a gradient of keeps none, as in one process: the optimiser passes it over.
        """
        if self.size == 1:
            return
        everyone = [parameter for parameter in parameters if parameter.requires_grad]
        there = self._agree(torch.tensor([parameter.grad is not None for parameter in everyone]).byte())
        used = [parameter for parameter, flag in zip(everyone, there.tolist(), strict=True) if flag]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in used if parameter.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def drawing_for_all(self, count: int) -> AbstractContextManager[object]:
        """A block that draws random numbers for ``count`` rows, and gets those of the whole batch for them.

        Numbers come from a generator that is seeded alike in all processes. Every draw's first axis must be clips, or
        clips times something.
        """
        return nullcontext() if self.size == 1 else _DrawsForAll(self, count)

    def leave(self) -> None:
        """Say good-bye to the other processes, when all is done."""
        global _joined
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
            _joined = None


_joined: Team | None = None


def join(cpu: bool) -> Team:
    """The team that ``torchrun`` or ``accelerate launch`` has started this process for; of one without them.

    Args:
        cpu: whether all stay on the CPU although there may be GPUs.

    Raises:
        TeamError: there is no GPU for this process.
    """
    global _joined
    started = {"RANK", "MASTER_ADDR"} <= os.environ.keys()
    if not started or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Team()
    if _joined is None:
        from accelerate import PartialState

        cpu = cpu or not torch.cuda.is_available()  # accelerate would let each process train alone
        local_rank, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if not cpu and 0 < gpus <= local_rank:
            raise TeamError(
                f"process {local_rank + 1} of this machine has no GPU; start {gpus}, one for each"
            )
        state = PartialState(cpu=cpu)
        control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        _joined = Team(state.process_index, state.num_processes, state.local_process_index, control)
    return _joined


@contextmanager
def naming_the_lost(team: Team) -> Iterator[None]:
    """Turn what torch says when another process is gone into ProcessLost, in one line."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, distributed.DistError) or "gloo" in str(error)
        if team.size == 1 or not lost:
            raise
        raise ProcessLost(
            f"process {team.rank + 1} of {team.size} stops: another one has ended, and said why if it could; "
            "--resume goes on from the last checkpoint"
        ) from None


class _DrawsForAll(TorchFunctionMode):
    """See :meth:`Team.drawing_for_all`."""

    def __init__(self, team: Team, count: int) -> None:
        super().__init__()
        self.team, self.count = team, count

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is None:
            return func(*args, **kwargs)
        assert func in (torch.rand, torch.randn, torch.randint), f"{func} draws, and isn't shared out"
        given = isinstance(args[-1], (tuple, list))
        limits, size = (args[:-1], args[-1]) if given else ((), args)
        rows, rest = size[0], tuple(size[1:])
        assert rows % self.count == 0, f"a draw of {rows} rows for {self.count} clips"
        whole = func(*limits, (rows * self.team.size, *rest), **kwargs)
        return whole[rows * self.team.rank : rows * (self.team.rank + 1)]
