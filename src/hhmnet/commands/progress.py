"""Progress of a training: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

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
    """

    def __init__(self, log: Console, epochs: int, step: int, total: int) -> None:
        self.log, self.epochs, self.total = log, epochs, total
        self._first, self._began = step, time.monotonic()
        self._step, self._spoke = step, float("-inf")
        self._bar: Progress | None = None
        if log.is_terminal:
            columns = (
                TextColumn("epoch {task.fields[epoch]} step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=log)
            epoch = f"{step * epochs // total + 1}/{epochs}"
            self._task = self._bar.add_task("", total=total, completed=step, figures="", epoch=epoch)

    def __enter__(self) -> TrainingProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_step(self, step: int, total: int) -> None:
        """Take note of a finished step."""
        self._step = step
        if self._bar is not None:
            epoch = min(step * self.epochs // total + 1, self.epochs)
            self._bar.update(self._task, completed=step, epoch=f"{epoch}/{self.epochs}")

    def on_epoch(self, figures: EpochLog) -> None:
        """Show an epoch's figures; without a terminal only every few seconds, and those of the last epoch."""
        if self._bar is not None:
            self._bar.update(self._task, figures=describe(figures))
        elif figures.epoch == self.epochs or time.monotonic() - self._spoke >= PLAIN_SECONDS:
            self._spoke = time.monotonic()
            self.log.print(
                f"epoch {figures.epoch}/{self.epochs} step {self._step}/{self.total} {describe(figures)} "
                f"{self._left()} left",
                soft_wrap=True,
            )

    def _left(self) -> str:
        pace = (time.monotonic() - self._began) / max(self._step - self._first, 1)
        minutes, seconds = divmod(round(pace * (self.total - self._step)), 60)
        return f"{minutes}:{seconds:02d}"


def describe(figures: EpochLog) -> str:
    """Loss, accuracy and speed in one short line."""
    text = (
        f"loss {figures.loss:.3f} accuracy {figures.accuracy:.1f} % {figures.samples_per_second:.0f} clips/s"
    )
    return text if figures.val_top1 is None else f"{text} validation {figures.val_top1:.2f} %"
