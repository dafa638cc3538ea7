"""A trainer's own steps on the clock: as fast as they go, part by part, and in floating-point operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from hhmnet.benchmarks.measuring import wait
from hhmnet.benchmarks.operators import Recorder
from hhmnet.training.engine import Interrupted, Trainer

WARM_UP = {"cuda": 7, "cpu": 2}
"""Steps before the clock starts, on a GPU enough for a CUDA graph to be recorded."""

PARTS = ("data", "preparation", "forward", "backward", "optimiser", "rest")
"""Parts of a training step: waiting for the loader; copying to the device, sampling and augmentation; the network and
the loss; gradients; clipping, update and moving average; counting. Where a CUDA graph replays the three in the middle,
``forward`` holds them all."""


class _EnoughError(Exception):
    """Enough steps are timed."""


class Stepper:
    """Lets a trainer take some of its steps at a time; each call goes on where the last one stopped.

    Args:
        trainer: not trained yet, with more epochs than will be asked for.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.device = trainer, trainer.device

    def run(
        self,
        steps: int = 1,
        seconds: float = 0.0,
        warm_up: int | None = None,
        apart: bool = False,
        ended: Callable[[], None] = lambda: None,
    ) -> list[float]:
        """Seconds of each of the next steps.

        Args:
            steps: how many at least.
            seconds: how long at least, all together.
            warm_up: steps before, which aren't counted; :data:`WARM_UP` by default.
            apart: wait for the device after every step and not only at both ends, so that each figure is that
                step's own.
            ended: is called at the end of every step, also of those before.
        """
        before = WARM_UP[self.device.type] if warm_up is None else warm_up
        ends = [] if before else [perf_counter()]
        made = 0

        def on_step(step: int, total: int) -> None:
            nonlocal made
            made += 1
            ended()
            if made < before:
                return
            now = perf_counter()
            enough = bool(ends) and len(ends) >= steps and now - ends[0] >= seconds
            if apart or enough or not ends:
                wait(self.device)
                now = perf_counter()
            ends.append(now)
            if enough:
                raise _EnoughError

        self.trainer.hooks.on_step = on_step
        try:
            self.trainer.train()
        except _EnoughError:
            pass
        except Interrupted:  # Ctrl-C or SIGTERM; there is nothing to go on with
            raise KeyboardInterrupt from None
        return np.diff(ends).tolist()

    def clips_per_second(self, seconds: float, warm_up: int = 1) -> float:
        """Speed over about so many seconds, after a step in which the loader starts."""
        taken = self.run(seconds=seconds, warm_up=warm_up)
        return len(taken) * self.trainer.config.optim.batch_size / sum(taken)

    def parts(self, seconds: float = 0.0, steps: int = 2) -> dict[str, float]:
        """Milliseconds of a step by :data:`PARTS`, the mean over at least so many steps and so long."""
        marks: list[tuple[str, float]] = []

        def mark(name: str) -> None:
            wait(self.device)
            marks.append((name, perf_counter()))

        with _marked(self.trainer, mark):
            taken = self.run(steps, seconds, warm_up=2, apart=True, ended=lambda: mark("rest"))
        ends = [number for number, (name, _) in enumerate(marks) if name == "rest"][-len(taken) - 1 :]
        total = dict.fromkeys(PARTS, 0.0)
        for number in range(ends[0] + 1, ends[-1] + 1):
            total[marks[number][0]] += marks[number][1] - marks[number - 1][1]
        return {name: 1000 * value / len(taken) for name, value in total.items()}

    def kinds(self, steps: int) -> dict[str, float]:
        """Share of so many steps' time by :data:`~hhmnet.benchmarks.operators.KINDS`."""
        recorder, made = Recorder(self.device), 0

        def ended() -> None:
            nonlocal made
            made += 1
            if made == 1:  # the loader has started
                recorder.start()
            elif made == steps + 1:
                recorder.stop()

        self.run(steps, warm_up=1, ended=ended)
        return recorder.shares()

    def flops(self) -> int:
        """Floating-point operations of one step's matrix products and convolutions, forward and backward."""
        trainer = self.trainer
        # A compiled network and a recorded step hide what they compute.
        with (
            _replaced(trainer, "update", trainer._update),
            _replaced(trainer, "forward", trainer.network),
        ):
            return count_flops(lambda: self.run(warm_up=0))


def count_flops(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@contextmanager
def _marked(trainer: Trainer, mark: Callable[[str], None]) -> Iterator[None]:
    """Let every part of a step say when it ends."""
    phase, graphed = trainer.phase, trainer.update != trainer._update

    def ending(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def marked(*words: Any, **more: Any) -> Any:
            result = call(*words, **more)
            mark(name)
            return result

        return marked

    ends: list[tuple[Any, str, str]] = [(phase, "note", "data"), (phase, "inputs", "preparation")]
    if graphed:  # nobody may wait for the device while a graph is recorded
        ends += [(trainer, "update", "forward")]
    else:
        ends += [(phase, "loss", "forward"), (trainer.accelerator, "backward", "backward")]
        ends += [(trainer, "update", "optimiser")]
    with ExitStack() as stack:
        for owner, method, part in ends:
            stack.enter_context(_replaced(owner, method, ending(getattr(owner, method), part)))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another attribute for a while."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
