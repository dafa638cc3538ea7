"""``hhmnet live``: what the person before a camera does, while it happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from hhmnet.commands.live_views import LineView, Meter, TerminalView, WindowView
from hhmnet.commands.terminal import Parser, UsageError, console, duration, whole
from hhmnet.models.pretrained import from_pretrained
from hhmnet.pose.estimate import DETECTORS, ESTIMATORS, PoseConfig, VideoPoseEstimator
from hhmnet.predict.capture import Capture, Frame, is_live, shown
from hhmnet.predict.engines import choose_device
from hhmnet.predict.live import StreamingConfig, StreamingRecognizer
from hhmnet.predict.prediction import LivePrediction
from hhmnet.sample import MODALITIES

DETECT_EVERY = 6
"""Persons are looked for in every n-th frame: half as often as in files, so that two cores keep up with a camera."""
View = LineView | TerminalView | WindowView


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    if options.as_fast_as_possible and is_live(options.source):
        raise UsageError("--as-fast-as-possible is for files; a camera or a stream has its own rate")
    if options.loop and is_live(options.source):
        raise UsageError("--loop is for files; a camera or a stream doesn't begin again")
    log, chosen = console(), options.view or ("none" if options.json else "terminal")
    pose = PoseConfig(
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
        config.persons, config.modalities = options.persons, tuple(options.modality or ())
        recognizer = StreamingRecognizer(model, config, networks)
        meter = Meter(capture)
        log.print(_begun(recognizer), soft_wrap=True)
        view: View
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
    add("--json", action="store_true", help="print a line of JSON for each answer on standard output")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--real-time", action="store_true", help="play a file at its own rate (the default)")
    pace.add_argument("--as-fast-as-possible", action="store_true", help="take every frame of a file")
    add("--loop", action="store_true", help="play a file again and again")
    add("--for", type=duration, dest="limit", metavar="30s", help="end after so long")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where the model computes")
    add("--detect-every", type=whole, default=DETECT_EVERY, metavar="N", help="look for persons so often (6)")
    add("--estimator", default="blazepose", choices=tuple(ESTIMATORS), help="finds joints (blazepose)")
    add("--detector", default="ssd", choices=tuple(DETECTORS), help="finds persons (ssd)")
    add("--mirrored", action="store_true", help="the pictures are mirror images")
    return parser


def _answers(
    capture: Capture, recognizer: StreamingRecognizer, meter: Meter, view: View, limit: float | None
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
    if last is None or last.label is None:  # what is over before an answer was due still gets one
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
