"""Progress of a training: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hhmnet.commands.terminal import PLAIN_SECONDS
from hhmnet.training.logs import EpochLog


class TrainingProgress:
    """Shows epochs, steps, loss, accuracy, speed and the time that is left.

    Args:
        log: console on standard error.
        epochs: epochs of the whole run.
        step: steps done before.
        total: steps of the whole run.

    Attributes:
        bar: what moves on a terminal; it is to be entered while the run trains.
    """

    def __init__(self, log: Console, epochs: int, step: int, total: int) -> None:
        self.log, self.epochs, self.total = log, epochs, total
        self._first, self._began = step, time.monotonic()
        self._step, self._shown = step, float("-inf")
        columns = (
            TextColumn("epoch {task.fields[epoch]} step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=log, disable=not log.is_terminal)
        self._task = self.bar.add_task("", total=total, completed=step, figures="", epoch=self._epoch())

    def _epoch(self) -> str:
        return f"{min(self._step * self.epochs // self.total + 1, self.epochs)}/{self.epochs}"

    def on_step(self, step: int, total: int) -> None:
        """Take note of a finished step."""
        self._step = step
        self.bar.update(self._task, completed=step, epoch=self._epoch())

    def on_epoch(self, figures: EpochLog) -> None:
        """Show an epoch's figures; without a terminal only every few seconds, and those of the last epoch."""
        text = f"loss {figures.loss:.3f} accuracy {figures.accuracy:.1f} % {figures.samples_per_second:.0f} clips/s"
        if figures.val_top1 is not None:
            text += f" validation {figures.val_top1:.2f} %"
        self.bar.update(self._task, figures=text)
        now = time.monotonic()
        if self.log.is_terminal or (figures.epoch < self.epochs and now - self._shown < PLAIN_SECONDS):
            return
        self._shown = now
        seconds = (now - self._began) / max(self._step - self._first, 1) * (self.total - self._step)
        left = f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
        epoch, step = f"epoch {figures.epoch}/{self.epochs}", f"step {self._step}/{self.total}"
        self.log.print(f"{epoch} {step} {text} {left} left", soft_wrap=True)
