"""What ``hhmnet live`` shows of its answers on a terminal, and how fast it is."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hhmnet.predict.capture import Capture, Frame
from hhmnet.predict.live import StreamingRecognizer
from hhmnet.predict.prediction import LivePrediction

_RECENT = 3.0


class Meter:
    """Frames a second, and how long answers take, from the picture's capture to the answer.

    Latencies are kept for the last 1,000 answers.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture, self._begun = capture, time.monotonic()
        self._recent: deque[float] = deque()
        self._latencies: deque[float] = deque(maxlen=1000)
        self._frames = 0

    def note(self, frame: Frame, is_answered: bool) -> None:
        """Count a frame that was looked at."""
        now = time.monotonic()
        self._frames += 1
        self._recent.append(now)
        while now - self._recent[0] > _RECENT:
            self._recent.popleft()
        if is_answered:
            self._latencies.append(now - frame.captured)

    def figures(self) -> dict[str, Any]:
        """Frames a second lately, latency of the last answer in ms, dropped frames."""
        span = self._recent[-1] - self._recent[0] if self._recent else 0.0
        return {
            "frames_per_second": round((len(self._recent) - 1) / span, 1) if span else 0.0,
            "latency_ms": round(1000 * self._latencies[-1], 1) if self._latencies else None,
            "dropped": self._capture.dropped,
        }

    def summary(self) -> str:
        """All of it in a line."""
        seconds = time.monotonic() - self._begun
        text = f"{self._frames:,} frames in {seconds:.1f} s, {self._capture.dropped:,} dropped"
        if self._latencies:
            middle, high = 1000 * np.percentile(self._latencies, [50, 95])
            text += f"; answers {middle:.0f} ms after the picture (median), {high:.0f} ms (95 %)"
        return text


class View(Protocol):
    """Shows what happens."""

    def show(self, frame: Frame | None, answer: LivePrediction | None, meter: Meter) -> bool:
        """Show a frame and the last answer; returns False if whoever looks has had enough."""
        ...

    def close(self) -> None:
        """Stop showing."""
        ...


def headline(answer: LivePrediction | None) -> str:
    """What one person does, in a few words; who it is is said where there are several."""
    if answer is None or not answer.person:
        return "nobody is there"
    if answer.label is None or answer.probabilities is None:
        return f"person {answer.person}: watching"
    return f"{answer.label}  {answer.probabilities.max():.0%}"


def headlines(answer: LivePrediction | None, persons: int) -> list[str]:
    """What each person does, a line each, and how many more there are.

    Args:
        answer: the newest.
        persons: how many are answered at the most.
    """
    everyone = () if answer is None else answer.everyone
    lines = [headline(one) for one in everyone] or [headline(None)]
    if persons > 1:
        lines = [
            line if not one.person or one.label is None else f"person {one.person}: {line}"
            for one, line in zip(everyone, lines, strict=False)
        ] or lines
    if answer is not None and answer.more:
        lines[-1] += f"   ({answer.more} more in the picture)"
    return lines


class LineView:
    """A line for every person of an answer that says something new."""

    def __init__(self, recognizer: StreamingRecognizer, quiet: bool) -> None:
        self._quiet, self._last, self._persons = quiet, -1, recognizer.config.persons

    def show(self, frame: Frame | None, answer: LivePrediction | None, meter: Meter) -> bool:
        """Print the answer if it is another one."""
        if not self._quiet and answer is not None and answer.frame != self._last:
            self._last = answer.frame
            for line in headlines(answer, self._persons):
                print(f"{answer.time:8.2f} s  {line}", flush=True)
        return True

    def close(self) -> None:
        """Nothing to stop."""


class TerminalView:
    """Each person's label, a bar for each of the most probable classes, and how fast it goes."""

    def __init__(self, log: Console, recognizer: StreamingRecognizer, top: int) -> None:
        self._recognizer, self._top = recognizer, min(top, len(recognizer.class_names))
        self._live = Live(console=log, refresh_per_second=8)
        self._live.start()

    def show(self, frame: Frame | None, answer: LivePrediction | None, meter: Meter) -> bool:
        """Bring the view up to date."""
        self._live.update(self.draw(answer, meter))
        return True

    def close(self) -> None:
        """Leave the last state standing."""
        self._live.stop()

    def draw(self, answer: LivePrediction | None, meter: Meter) -> Group:
        """The view as rich draws it."""
        lines = headlines(answer, self._recognizer.config.persons)
        everyone = (None,) if answer is None else answer.everyone
        parts: list[RenderableType] = []
        for line, one in zip(lines, everyone, strict=True):
            parts += [Text(line, style="bold"), self._bars(one)]
        found = meter.figures()
        latency = "-" if found["latency_ms"] is None else f"{found['latency_ms']:.0f} ms"
        speed = f"{found['frames_per_second']:.1f} frames/s   answer after {latency}   {found['dropped']:,} dropped"
        return Group(*parts, Text(speed, style="dim"))

    def _bars(self, answer: LivePrediction | None) -> Table:
        """The most probable classes of one person."""
        names, bars = self._recognizer.class_names, Table.grid(padding=(0, 1))
        chances = None if answer is None else answer.probabilities
        order = range(self._top) if chances is None else np.argsort(-chances, kind="stable")[: self._top]
        for place in order:
            share = 0.0 if chances is None else float(chances[place])
            bars.add_row(Text(names[place]), ProgressBar(100, 100 * share, width=40), f"{share:4.0%}")
        return bars
