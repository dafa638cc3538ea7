"""``hhmnet live``: what the person before a camera does, while it happens, as lines or on a terminal."""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hhmnet.commands.terminal import Parser, UsageError, console, duration, whole
from hhmnet.confidence import UNKNOWN
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.predict.capture import Capture, Frame, is_live, shown
from hhmnet.predict.engines import choose_device
from hhmnet.predict.live import LivePrediction, StreamingConfig, StreamingRecognizer
from hhmnet.predict.recognizer import best
from hhmnet.predict.timeline import STILL

SHOWN = 5
"""Classes that are shown."""
NOBODY = LivePrediction(-1, 0.0, 0)
"""What is shown until there is an answer."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    for flag in ("as-fast-as-possible", "loop"):
        if getattr(options, flag.replace("-", "_")) and is_live(options.source):
            raise UsageError(f"--{flag} is for files; a camera or a stream has its own rate")
    log = console()
    # All is loaded before the first frame is taken, or the first ones would be dropped.
    with log.status("loading"):
        model = from_pretrained(options.model, choose_device(options.device))
        networks = VideoPoseEstimator(PoseConfig(mirrored=options.mirrored))
    with Capture(options.source, not options.as_fast_as_possible, options.loop) as capture:
        config = _config(options, capture.rate)
        recognizer = StreamingRecognizer(model, config, networks)
        meter = Meter(capture)
        frames, by = recognizer.config.frames, " and ".join(recognizer.modalities)
        log.print(f"answers by {by}, over the last {frames / recognizer.config.rate:.2g} s ({frames} frames)")
        with suppress(KeyboardInterrupt):  # the usual way to end a camera
            _watch(capture, recognizer, meter, options.limit or float("inf"), options.json, log)
        if capture.broken:
            log.print(f"{shown(options.source)} broke off: {capture.broken}")
    log.print(meter.summary())
    return 0


def _parser() -> Parser:
    parser = Parser(
        "hhmnet live",
        "Recognise what the most important person before a camera does, while it happens. Ctrl-C ends it.",
    )
    parser.add_shared("model")
    add = parser.add_argument
    source = "a camera's number, a video, a stream's address"
    add("--source", required=True, metavar="0|FILE|URL", help=source)
    add("--every", type=whole, default=15, metavar="N", help="frames from one answer to the next (15)")
    window = "how far an answer looks back (as the model's clips, or 2s)"
    add("--window", type=duration, metavar="2s", help=window)
    still = f"body lengths a second; who is slower for half a window does nothing ({STILL:g})"
    add("--still", type=float, default=STILL, metavar="SPEED", help=still)
    add("--as-fast-as-possible", action="store_true", help="take every frame of a file, without waiting")
    add("--loop", action="store_true", help="play a file again and again")
    add("--for", type=duration, dest="limit", metavar="30s", help="end after so long")
    add("--mirrored", action="store_true", help="the pictures are mirror images")
    parser.add_shared("modality", "unknown", "device")
    add("--json", action="store_true", help="print a line of JSON for each answer on standard output")
    return parser


def _config(options: argparse.Namespace, rate: float) -> StreamingConfig:
    """How a source of this rate becomes answers; raises UsageError for a value that can't be."""
    own = {name: getattr(options, name) for name in ("window", "every", "unknown", "still")}
    try:
        # A source of another rate has its frames on the nearest even grid that there is.
        return StreamingConfig(
            **own, rate=min(max(rate, 1.0), 240.0), modalities=tuple(options.modality or ())
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _watch(
    capture: Capture, recognizer: StreamingRecognizer, meter: Meter, limit: float, as_json: bool, log: Console
) -> None:
    """Tell answers until the source ends or ``limit`` seconds are over."""
    last, end, names = NOBODY, float("inf"), recognizer.class_names
    page = Live(console=log, refresh_per_second=8) if log.is_terminal and not as_json else None

    def tell(answer: LivePrediction) -> None:
        if as_json:
            line = answer.to_dict(names, SHOWN) | meter.figures()
            print(json.dumps(line, ensure_ascii=False, allow_nan=False), flush=True)
        elif page is None:
            print(f"{answer.time:8.2f} s  {headline(answer)}", flush=True)
        else:
            page.update(view(answer, names, meter))

    with page or nullcontext():
        for frame in capture:
            end = min(end, frame.captured + limit)
            if frame.captured > end:
                break
            answer = recognizer.push_frame(frame.image, frame.time)
            meter.note(frame, answer is not None)
            if answer is not None:
                last = answer
                tell(answer)
            elif page is not None:
                page.update(view(last, names, meter))
        if last.probabilities is None:  # what is over before an answer was due still gets one
            answer = recognizer.answer()
            if answer.frame >= 0:
                tell(answer)


class Meter:
    """Frames a second, and how long answers take, from the picture's capture to the answer; of the last ones each."""

    def __init__(self, capture: Capture) -> None:
        self._capture, self._begun, self._frames = capture, time.monotonic(), 0
        self._recent: deque[float] = deque(maxlen=100)
        self._latencies: deque[float] = deque(maxlen=1000)

    def note(self, frame: Frame, has_answer: bool) -> None:
        """Count a frame that was recognised."""
        self._frames += 1
        self._recent.append(time.monotonic())
        if has_answer:
            self._latencies.append(1000 * (self._recent[-1] - frame.captured))

    def figures(self) -> dict[str, Any]:
        """Frames a second lately, latency of the last answer in ms, dropped frames."""
        span = self._recent[-1] - self._recent[0] if self._recent else 0.0
        return {
            "frames_per_second": round((len(self._recent) - 1) / span, 1) if span else 0.0,
            "latency_ms": round(self._latencies[-1], 1) if self._latencies else None,
            "dropped": self._capture.dropped,
        }

    def summary(self) -> str:
        """All of it in a line."""
        seconds = time.monotonic() - self._begun
        text = f"{self._frames:,} frames in {seconds:.1f} s, {self._capture.dropped:,} dropped"
        if self._latencies:
            middle, high = np.percentile(self._latencies, [50, 95])
            text += f"; answers {middle:.0f} ms after the picture (median), {high:.0f} ms (95 %)"
        return text


def headline(answer: LivePrediction) -> str:
    """What the person does, in a line."""
    if not answer.person:
        text = "nobody is there"
    elif answer.probabilities is not None and answer.label not in (None, UNKNOWN):
        text = f"{answer.label}  {answer.probabilities.max():.0%}"
    else:
        state = "watching" if answer.probabilities is None else answer.label or "standing still"
        text = f"person {answer.person}: {state}"
    return text + (f"   ({answer.more} more in the picture)" if answer.more else "")


def view(answer: LivePrediction, class_names: tuple[str, ...], meter: Meter) -> Group:
    """The label, a bar for each of the most probable classes, and how fast it goes."""
    bars, chances = Table.grid(padding=(0, 1)), answer.probabilities
    for name, share in best(np.zeros(len(class_names)) if chances is None else chances, class_names, SHOWN):
        bars.add_row(Text(name), ProgressBar(100, 100 * share, width=40), f"{share:4.0%}")
    found = meter.figures()
    speed = f"{found['frames_per_second']} frames/s   answer after {found['latency_ms'] or '-'} ms"
    speed += f"   {found['dropped']:,} dropped"
    return Group(Text(headline(answer), style="bold"), bars, Text(speed, style="dim"))
