"""``hhmnet live``: what the person before a camera does, while it happens."""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hhmnet.commands.terminal import Parser, UsageError, console, duration
from hhmnet.inference.capture import Capture, Frame, is_live, shown
from hhmnet.inference.live_pose import LivePose
from hhmnet.inference.recognizer import choose_device
from hhmnet.inference.streaming import LiveAnswer, StreamingConfig, StreamingRecognizer
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose.clips import ClipConfig
from hhmnet.pose.estimate import DETECTORS, ESTIMATORS, VideoPoseEstimator

DETECT_EVERY = 6
"""Persons are looked for in every n-th frame: half as often as in files, so that two cores keep up with a camera."""

_VIEWS = ("terminal", "window", "none")
_RECENT = 3.0


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _options(words)
    log = console()
    pose = ClipConfig(
        estimator=options.estimator,
        detector=options.detector,
        every=options.detect_every,
        mirrored=options.mirrored,
    )
    # All is loaded before the first frame is taken, or the first ones would be dropped.
    with log.status("loading"):
        model = from_pretrained(options.run, choose_device(options.device))
        networks = VideoPoseEstimator(pose)
    with Capture(options.source, not options.as_fast_as_possible, options.loop) as capture:
        config = StreamingConfig(options.window, options.every, options.smoothing, rate=capture.rate)
        found = LivePose(pose, config.frames, config.rate, networks.detector, networks.estimator)
        recognizer = StreamingRecognizer(model, config, pose, found)
        meter = Meter(capture)
        view = _view(options, log, recognizer)
        try:
            _watch(options, capture, recognizer, meter, view)
        except KeyboardInterrupt:  # the usual way to end a camera
            pass
        finally:
            view.close()
        if capture.broken:
            log.print(f"{shown(options.source)} broke off: {capture.broken}", soft_wrap=True)
    log.print(meter.summary(), soft_wrap=True)
    return 0


def _options(words: list[str]) -> argparse.Namespace:
    """The command line; raises UsageError where its parts don't go together."""
    options = _parser().parse_args(words)
    if options.as_fast_as_possible and is_live(options.source):
        raise UsageError("--as-fast-as-possible is for files; a camera or a stream has its own rate")
    if options.loop and is_live(options.source):
        raise UsageError("--loop is for files; a camera or a stream doesn't begin again")
    if options.view is None:
        options.view = "none" if options.json else "terminal"
    if options.top < 1 or options.every < 1 or options.detect_every < 1:
        raise UsageError("--top, --every and --detect-every must be 1 or more")
    return options


def _parser() -> Parser:
    parser = Parser(
        "hhmnet live",
        "Recognise what the most important person before a camera does, while it happens. Ctrl-C ends it.",
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder with the model")
    add(
        "--source",
        required=True,
        metavar="0|FILE|URL",
        help="number of a camera, a video file, or a stream's address",
    )
    add("--view", choices=_VIEWS, help="where to show it (default: terminal, with --json none)")
    add("--every", type=int, default=15, metavar="N", help="frames from one answer to the next (15)")
    add("--window", type=duration, default=2.0, metavar="2s", help="how far an answer looks back (2s)")
    add(
        "--smoothing",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="time constant by which probabilities are smoothed; 0 for none (0.5)",
    )
    add("--top", type=int, default=5, metavar="N", help="classes to show (5)")
    add("--json", action="store_true", help="print a line of JSON for each answer on standard output")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--real-time", action="store_true", help="play a file at its own rate, dropping frames (the default)"
    )
    pace.add_argument("--as-fast-as-possible", action="store_true", help="take every frame of a file")
    add("--loop", action="store_true", help="play a file again and again")
    add("--for", type=duration, dest="limit", metavar="30s", help="end after so long")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where the model computes")
    add(
        "--detect-every",
        type=int,
        default=DETECT_EVERY,
        metavar="N",
        help=f"look for persons in every n-th frame ({DETECT_EVERY})",
    )
    add(
        "--estimator", default="blazepose", choices=tuple(ESTIMATORS), help="who finds the joints (blazepose)"
    )
    add("--detector", default="ssd", choices=tuple(DETECTORS), help="who finds the persons (ssd)")
    add("--mirrored", action="store_true", help="the pictures are mirror images")
    return parser


def _watch(
    options: argparse.Namespace,
    capture: Capture,
    recognizer: StreamingRecognizer,
    meter: Meter,
    view: View,
) -> None:
    """Take frames until the source ends, the time is over or the view is closed."""
    last: LiveAnswer | None = None
    for frame in _until(capture, options.limit):
        answer = recognizer.push_frame(frame.image, frame.time)
        meter.note(frame, answer is not None)
        if answer is not None:
            last = answer
            _say(options, answer, recognizer, meter)
        if not view.show(frame, last, meter):
            return
    if last is None or last.label is None:  # what is over before an answer was due still gets one
        answer = recognizer.answer()
        if answer.frame >= 0:
            _say(options, answer, recognizer, meter)
            view.show(None, answer, meter)


def _until(capture: Capture, limit: float | None) -> Iterator[Frame]:
    end = time.monotonic() + limit if limit else None
    for frame in capture:
        if end is not None and time.monotonic() > end:
            return
        yield frame


def _say(
    options: argparse.Namespace, answer: LiveAnswer, recognizer: StreamingRecognizer, meter: Meter
) -> None:
    if options.json:
        line = answer.to_dict(recognizer.class_names, options.top) | meter.figures()
        print(json.dumps(line, ensure_ascii=False, allow_nan=False), flush=True)


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

    def show(self, frame: Frame | None, answer: LiveAnswer | None, meter: Meter) -> bool:
        """Show a frame and the last answer; returns False if whoever looks has had enough."""
        ...

    def close(self) -> None:
        """Stop showing."""
        ...


def _view(options: argparse.Namespace, log: Console, recognizer: StreamingRecognizer) -> View:
    if options.view == "window":
        from hhmnet.commands.live_window import WindowView

        return WindowView(shown(options.source), recognizer)
    if options.view == "terminal" and log.is_terminal:
        return TerminalView(log, recognizer, options.top)
    return LineView(recognizer.class_names, quiet=options.view == "none")


def headline(answer: LiveAnswer | None) -> str:
    """What is seen, in a few words."""
    if answer is None or not answer.person:
        return "nobody is there"
    if answer.label is None or answer.probabilities is None:
        return f"person {answer.person}: watching"
    return f"{answer.label}  {answer.probabilities.max():.0%}"


class LineView:
    """A line for every answer that says something new."""

    def __init__(self, class_names: tuple[str, ...], quiet: bool) -> None:
        self._quiet, self._last = quiet, -1

    def show(self, frame: Frame | None, answer: LiveAnswer | None, meter: Meter) -> bool:
        """Print the answer if it is another one."""
        if not self._quiet and answer is not None and answer.frame != self._last:
            self._last = answer.frame
            print(f"{answer.time:8.2f} s  {headline(answer)}", flush=True)
        return True

    def close(self) -> None:
        """Nothing to stop."""


class TerminalView:
    """Label, a bar for each of the most probable classes, and how fast it goes."""

    def __init__(self, log: Console, recognizer: StreamingRecognizer, top: int) -> None:
        self._recognizer, self._top = recognizer, min(top, len(recognizer.class_names))
        self._live = Live(console=log, refresh_per_second=8)
        self._live.start()

    def show(self, frame: Frame | None, answer: LiveAnswer | None, meter: Meter) -> bool:
        """Bring the view up to date."""
        self._live.update(self.draw(answer, meter))
        return True

    def close(self) -> None:
        """Leave the last state standing."""
        self._live.stop()

    def draw(self, answer: LiveAnswer | None, meter: Meter) -> Group:
        """The view as rich draws it."""
        names, bars = self._recognizer.class_names, Table.grid(padding=(0, 1))
        chances = None if answer is None else answer.probabilities
        order = range(self._top) if chances is None else np.argsort(-chances, kind="stable")[: self._top]
        for place in order:
            share = 0.0 if chances is None else float(chances[place])
            bars.add_row(Text(names[place]), ProgressBar(100, 100 * share, width=40), f"{share:4.0%}")
        found = meter.figures()
        latency = "-" if found["latency_ms"] is None else f"{found['latency_ms']:.0f} ms"
        speed = f"{found['frames_per_second']:.1f} frames/s   answer after {latency}   {found['dropped']:,} dropped"
        return Group(Text(headline(answer), style="bold"), bars, Text(speed, style="dim"))
