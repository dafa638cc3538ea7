"""``hhmnet live``: what the person before a camera does, while it happens, as lines, on a terminal or in a window."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hhmnet.commands.flags import UNKNOWN_HELP
from hhmnet.commands.terminal import Parser, UsageError, console, duration, whole
from hhmnet.confidence import RATE, UNKNOWN
from hhmnet.drawing import draw_skeleton
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.predict.capture import Capture, Frame, is_live, shown
from hhmnet.predict.engines import choose_device
from hhmnet.predict.live import StreamingConfig, StreamingRecognizer
from hhmnet.predict.motion import STILL
from hhmnet.predict.prediction import LivePrediction
from hhmnet.sample import MODALITIES

DETECT_EVERY = 6
"""Persons are looked for in every n-th frame: half as often as in files, so that two cores keep up with a camera."""
_RECENT = 3.0
LARGEST = 960
"""Larger pictures are shown at a half, a third and so on, so that the longer side has at most so many pixels."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    if options.as_fast_as_possible and is_live(options.source):
        raise UsageError("--as-fast-as-possible is for files; a camera or a stream has its own rate")
    if options.loop and is_live(options.source):
        raise UsageError("--loop is for files; a camera or a stream doesn't begin again")
    log, chosen = console(), options.view or ("none" if options.json else "terminal")
    pose = PoseConfig(every=options.detect_every, mirrored=options.mirrored)
    # All is loaded before the first frame is taken, or the first ones would be dropped.
    with log.status("loading"):
        model = from_pretrained(options.run, choose_device(options.device))
        networks = VideoPoseEstimator(pose)
    with Capture(options.source, not options.as_fast_as_possible, options.loop) as capture:
        config = StreamingConfig(options.window, options.every, options.smoothing, rate=capture.rate)
        config.persons, config.modalities = options.persons, tuple(options.modality or ())
        config.unknown, config.still = options.unknown, options.still
        recognizer = StreamingRecognizer(model, config, networks)
        meter = Meter(capture)
        log.print(_begun(recognizer), soft_wrap=True)
        view: LineView | TerminalView | WindowView
        if chosen == "window":
            view = WindowView(shown(options.source), recognizer)
        elif chosen == "terminal" and log.is_terminal:
            view = TerminalView(log, recognizer, options.top)
        else:
            view = LineView(recognizer, quiet=chosen == "none")
        try:
            for answer in _answers(capture, recognizer, meter, view, options.limit):
                if options.json:
                    line = answer.to_dict(recognizer.class_names, options.top) | meter.figures()
                    print(json.dumps(line, ensure_ascii=False, allow_nan=False), flush=True)
        except KeyboardInterrupt:  # the usual way to end a camera
            pass
        finally:
            view.close()
        if capture.broken:
            log.print(f"{shown(options.source)} broke off: {capture.broken}", soft_wrap=True)
    log.print(meter.summary(), soft_wrap=True)
    return 0


def _begun(recognizer: StreamingRecognizer) -> str:
    """What the answers will rest on."""
    config = recognizer.config
    seconds = config.frames / config.rate
    by = " and ".join(recognizer.modalities)
    text = f"answers by {by}, over the last {seconds:.2g} s ({config.frames} frames)"
    if recognizer.model.spec.roi is not None and "video" not in recognizer.modalities:
        text += "; the model could look at the video too"
    return text


def _parser() -> Parser:
    parser = Parser(
        "hhmnet live",
        "Recognise what the most important persons before a camera do, while it happens. Ctrl-C ends it.",
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder with the model")
    add(
        "--source", required=True, metavar="0|FILE|URL", help="a camera's number, a video, a stream's address"
    )
    add(
        "--view",
        choices=("terminal", "window", "none"),
        help="where to show it (default: terminal, with --json none)",
    )
    add("--every", type=whole, default=15, metavar="N", help="frames from one answer to the next (15)")
    add(
        "--window",
        type=duration,
        metavar="2s",
        help="how far an answer looks back (as the model's clips, or 2s)",
    )
    add("--persons", type=whole, default=1, metavar="N", help="answer on so many persons at the most (1)")
    add(
        "--modality", action="append", choices=MODALITIES, help="what to go by; twice for both (default: all)"
    )
    add("--smoothing", type=float, default=0.5, metavar="S", help="seconds to smooth over; 0 for none (0.5)")
    add("--top", type=whole, default=5, metavar="N", help="classes to show (5)")
    still = f"body lengths a second; who is slower for half a window does nothing ({STILL:g})"
    add("--still", type=float, default=STILL, metavar="SPEED", help=still)
    add("--unknown", type=float, default=RATE, metavar="RATE", help=UNKNOWN_HELP)
    add("--json", action="store_true", help="print a line of JSON for each answer on standard output")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--real-time", action="store_true", help="play a file at its own rate (the default)")
    pace.add_argument("--as-fast-as-possible", action="store_true", help="take every frame of a file")
    add("--loop", action="store_true", help="play a file again and again")
    add("--for", type=duration, dest="limit", metavar="30s", help="end after so long")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where the model computes")
    add("--detect-every", type=whole, default=DETECT_EVERY, metavar="N", help="look for persons so often (6)")
    add("--mirrored", action="store_true", help="the pictures are mirror images")
    return parser


def _answers(
    capture: Capture,
    recognizer: StreamingRecognizer,
    meter: Meter,
    view: LineView | TerminalView | WindowView,
    limit: float | None,
) -> Iterator[LivePrediction]:
    """Show frames and answers until the source ends, the time is over or the view is closed."""
    last: LivePrediction | None = None
    for frame in _until(capture, limit):
        answer = recognizer.push_frame(frame.image, frame.time)
        meter.note(frame, answer is not None)
        if answer is not None:
            last = answer
            yield answer
        if not view.show(frame, last, meter):
            return
    if last is None or last.probabilities is None:  # what is over before an answer was due still gets one
        answer = recognizer.answer()
        if answer.frame >= 0:
            yield answer
            view.show(None, answer, meter)


def _until(capture: Capture, limit: float | None) -> Iterator[Frame]:
    end = None
    for frame in capture:
        end = frame.captured + limit if end is None and limit else end
        if end is not None and frame.captured > end:
            return
        yield frame


class Meter:
    """Frames a second, and how long answers take, from the picture's capture to the answer.

    Latencies are kept for the last 1,000 answers.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture, self._begun = capture, time.monotonic()
        self._recent: deque[float] = deque()
        self._latencies: deque[float] = deque(maxlen=1000)
        self._frames = 0

    def note(self, frame: Frame, has_answer: bool) -> None:
        """Count a frame that was recognised."""
        now = time.monotonic()
        self._frames += 1
        self._recent.append(now)
        while now - self._recent[0] > _RECENT:
            self._recent.popleft()
        if has_answer:
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


def headlines(answer: LivePrediction | None, persons: int) -> list[str]:
    """What each person does, a line each, with numbers where up to several ``persons`` are recognised."""
    lines = []
    for one in () if answer is None else answer.everyone:
        if one.label is None or one.probabilities is None:
            doing = "standing still" if one.probabilities is not None else "watching"
            lines.append(f"person {one.person}: {doing}" if one.person else "nobody is there")
        elif one.label == UNKNOWN:
            lines.append(f"person {one.person}: unknown")
        else:
            number = f"person {one.person}: " if persons > 1 else ""
            lines.append(f"{number}{one.label}  {one.probabilities.max():.0%}")
    lines = lines or ["nobody is there"]
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


class WindowView:
    """A window of the system's.

    Args:
        title: what it is called.
        recognizer: knows where the joints are.

    Raises:
        UsageError: there is no screen, or Python was built without windows.
    """

    def __init__(self, title: str, recognizer: StreamingRecognizer) -> None:
        try:
            import tkinter
        except ImportError:
            raise UsageError(
                "--view window needs Python's tkinter (python3-tk); take --view terminal"
            ) from None
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UsageError(f"--view window: there is no screen ({error}); take --view terminal") from None
        self._recognizer, self._is_open = recognizer, True
        self._root.title(f"hhmnet live: {title}")
        self._root.protocol("WM_DELETE_WINDOW", self._shut)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda event: self._shut())
        self._image = tkinter.PhotoImage(master=self._root)
        self._picture = tkinter.Canvas(self._root, highlightthickness=0)
        self._picture.create_image(0, 0, image=self._image, anchor="nw")
        self._picture.pack()
        self._text = tkinter.Label(self._root, font=("", 18))
        self._text.pack()

    def show(self, frame: Frame | None, answer: LivePrediction | None, meter: Meter) -> bool:
        """Draw a frame; returns False once the window was closed."""
        if frame is not None:
            image, numbers = drawn(frame.image, self._recognizer)
            self._image.configure(data=as_ppm(image))
            self._picture.configure(width=image.shape[1], height=image.shape[0])
            self._picture.delete("number")
            for x, y, number in numbers:
                self._picture.create_text(
                    x, y, text=str(number), fill="yellow", font=("", 18, "bold"), tags="number"
                )
        speed = meter.figures()
        lines = headlines(answer, self._recognizer.config.persons)
        lines[-1] += f"     {speed['frames_per_second']:.0f} frames/s"
        self._text.configure(text="\n".join(lines))
        self._root.update()
        return self._is_open

    def close(self) -> None:
        """Take the window away."""
        self._root.destroy()

    def _shut(self) -> None:
        self._is_open = False


def drawn(
    image: np.ndarray, recognizer: StreamingRecognizer
) -> tuple[np.ndarray, list[tuple[float, float, int]]]:
    """A picture ``(H, W, 3)`` at the size in which it is shown, with the joints of the persons in it.

    With it where each person's number stands: x, y, number. It stands over the head, inside the picture; there is none
    where one person is recognised.
    """
    step, pose = -(-max(image.shape[:2]) // LARGEST), recognizer.pose
    image = np.ascontiguousarray(image[::step, ::step])
    numbers: list[tuple[float, float, int]] = []
    for person in () if pose is None else pose.followed:
        assert pose is not None
        if (newest := pose.newest(person)) is None:
            continue
        pixels, confidence = newest
        seen = np.where(confidence >= pose.config.min_confidence, confidence, 0)
        image = draw_skeleton(image, (pixels - 0.5) / step, pose.layout, seen)
        if recognizer.config.persons > 1:
            (left, top), right = pixels.min(0), pixels[:, 0].max()
            middle = float(left + right) / 2
            numbers.append((middle / step, max(float(top) / step - 14, 14.0), person.person))
    return image, numbers


def as_ppm(image: np.ndarray) -> bytes:
    """An image ``(H, W, 3)`` as a Portable Pixmap, which needs no encoder."""
    return b"P6 %d %d 255 " % (image.shape[1], image.shape[0]) + image.tobytes()
