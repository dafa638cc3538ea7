"""``hhmnet predict``: a trained model and files → what is done in them."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from hhmnet.commands.flags import Flags, names_in
from hhmnet.commands.terminal import Parser, UsageError, console, counting, print_json, table, whole
from hhmnet.predict.sources import Input, InputError, find_inputs
from hhmnet.prepare import ENGINES
from hhmnet.readers.arrays import ArrayConfig
from hhmnet.sample import MODALITIES

if TYPE_CHECKING:
    from hhmnet.predict.recognizer import Prediction, Recognizer
    from hhmnet.predict.timeline import Timeline

CALLERS_MISTAKE = 2
SHOWN_FAILED = 20


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(words)
    log = console()
    _check_single(options)
    gc.disable()  # all that is made here stays: looking through it takes a tenth of a second
    try:
        recognizer = _recognizer(options, rest, parser)
    finally:
        gc.enable()
    if options.timeline is not None:
        return _timeline(recognizer, options, log)
    if options.out is not None:
        return _archive(options, log)
    failed = False
    documents: list[Any] = []
    for name, item in _inputs(options.inputs, log):
        try:
            if isinstance(item, InputError):
                raise item
            with log.status(f"recognising {item.name}"):
                found = recognizer.predict(item, options.top, options.modality)
        except InputError as error:
            failed = True
            print(f"hhmnet predict: error: {' '.join(str(error).split())}", file=sys.stderr)
            documents.append({"input": name, "error": str(error)})
            continue
        documents.append(found.to_dict() | {"votes": found.votes(recognizer.class_names)})
        if not options.json:
            console(stderr=False).print(prediction_table(found, recognizer.class_names))
        for note in found.notes:
            log.print(f"{found.input}: {note}")
    if options.json:
        print_json(documents)
    if options.overlay is not None and not failed:  # when the answer is out, whatever becomes of the drawing
        _overlay(found, recognizer, options.overlay, log)
    return CALLERS_MISTAKE if failed else 0


def _parser() -> Parser:
    parser = Parser(
        "hhmnet predict",
        "Name the action in videos, skeleton files, folders of them or the clips of a store.",
        lambda: f"Find joints as they were found for the model's training data.\n\n{_flags().format_help()}",
        usage="hhmnet predict MODEL INPUT... [options] [--field value ...]",
    )
    parser.add_shared("model")
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="INPUT", help="video, skeleton file, folder or store")
    add("--top", type=whole, default=5, metavar="N", help="classes to name (default: 5)")
    parser.add_shared("json", "modality", "unknown", "videos", "device")
    add("--overlay", type=Path, metavar="OUT.mp4", help="write the video with skeleton and prediction on it")
    add("--timeline", type=Path, metavar="DIR", help="write what is done when in a long recording into DIR")
    many = "write the predictions of many clips into DIR; can be resumed"
    add("--out", type=Path, metavar="DIR", help=many)
    ray = "with --out, ray: on a Ray cluster that sees all files"
    add("--engine", choices=ENGINES, default="local", help=ray)
    add("--jobs", type=whole, metavar="N", help="with --engine ray: workers, at the most")
    return parser


def _flags(with_videos: bool = True) -> Flags:
    """Of arrays and timelines; of joints in videos, too, which PyTorch finds."""
    from hhmnet.predict.timeline import TimelineConfig

    sections: list[type] = [ArrayConfig, TimelineConfig]
    if with_videos:
        from hhmnet.pose.estimate import PoseConfig

        sections.append(PoseConfig)
    return Flags("hhmnet predict", *sections)


def _recognizer(options: argparse.Namespace, rest: list[str], parser: Parser) -> Recognizer:
    """The model, with what the other words say of joints; ``options`` gets the configurations and the modalities.

    For an exported model PyTorch isn't imported, unless they say something of joints in videos.
    """
    from hhmnet.predict.recognizer import Recognizer
    from hhmnet.predict.timeline import TimelineConfig

    is_exported = options.model.suffix == ".onnx"
    if is_exported and (options.timeline is not None or options.overlay is not None):
        raise UsageError(
            "--timeline and --overlay need the model's folder; an ONNX file answers on whole clips"
        )
    if is_exported and options.device == "cuda":
        raise UsageError("an ONNX file runs on the CPU; leave --device out, or give the model's folder")
    names = names_in(rest)
    without = _flags(with_videos=False)
    flags = without if is_exported and without.kinds.keys() >= set(names) else _flags()
    options.arrays, options.windows, *pose = flags.read(rest, parser.names)
    options.pose = pose[0] if pose else None
    stray = [field.name for field in dataclasses.fields(TimelineConfig) if field.name in names]
    if options.timeline is None and stray:
        raise UsageError(f"--{stray[0]} goes with --timeline DIR; see hhmnet predict --help")
    recognizer = Recognizer.from_pretrained(options.model, **_how(options))
    if options.pose is not None and "persons" not in names:
        options.pose.persons = recognizer.engine.persons
    if options.timeline is not None and "window" not in names:
        options.windows = options.windows.as_long_as(recognizer.clip_seconds)
    recognizer.sources.with_videos |= options.overlay is not None
    options.modality = options.modality or MODALITIES[: 1 + recognizer.looks_at_video]
    return recognizer


def _how(options: argparse.Namespace) -> dict[str, Any]:
    """What the recognizer is made with, beside the model."""
    return {name: getattr(options, name) for name in ("device", "pose", "videos", "arrays", "unknown")}


def _check_single(options: argparse.Namespace) -> None:
    """Raise UsageError unless what takes one input is given one."""
    for flag in ("overlay", "timeline"):
        if getattr(options, flag) is not None:
            count = max(len(options.inputs), len([*_inputs(options.inputs[:1], Console(quiet=True))]))
            if count > 1:
                raise UsageError(f"--{flag} takes one recording; {count:,} were given")
    if options.out is not None and (options.overlay is not None or options.timeline is not None):
        raise UsageError("--out takes many clips; --overlay and --timeline are of one, give them without it")
    if options.out is None and (options.engine != "local" or options.jobs is not None):
        raise UsageError("--engine and --jobs go with --out DIR; see hhmnet predict --help")
    if options.overlay is not None and options.timeline is not None:
        raise UsageError("--overlay shows one answer for the whole video; give it without --timeline")


def _inputs(paths: Sequence[Path], log: Console) -> Iterator[tuple[str, Input | InputError]]:
    """The clips that the paths stand for, by name, and an error in the place of a path that stands for none."""
    for path in paths:
        try:
            yield from [(item.name, item) for item in find_inputs([path], log.print)]
        except InputError as error:
            yield str(path), error


def _overlay(found: Prediction, recognizer: Recognizer, out: Path, log: Console) -> None:
    """Write the video with the prediction drawn on it."""
    from hhmnet.evaluation.figures import class_legend
    from hhmnet.predict.pictures import draw_overlay

    with log.status(f"drawing {out}"):
        draw_overlay(found, recognizer.engine.layout, out, recognizer.engine.spec.roi)
    log.print(f"{out} shows it; {class_legend(recognizer.class_names)}".removesuffix("; "))


def _archive(options: argparse.Namespace, log: Console) -> int:
    """Predictions of many clips, into a folder."""
    from hhmnet.models.hub import find_model
    from hhmnet.predict.archive import ArchiveJob, predict_archive

    model, modalities = find_model(options.model), tuple(options.modality)
    job = ArchiveJob(model, options.top, modalities, _how(options))
    with log.status("looking for clips"):
        inputs = find_inputs(options.inputs, log.print)
    shared = {"engine": options.engine, "jobs": options.jobs}
    with counting(log, "recognising", "clips") as progress:
        report = predict_archive(inputs, job, options.out, **shared, progress=progress)
    for name, error in list(report.failed.items())[:SHOWN_FAILED]:
        line = error if error.startswith(name) else f"{name}: {error}"
        print(f"hhmnet predict: error: {line}", file=sys.stderr)
    if len(report.failed) > SHOWN_FAILED:
        log.print(f"{len(report.failed):,} clips have no answer; the first {SHOWN_FAILED} are shown")
    if options.json:
        print_json({"out": str(options.out), **report._asdict()})
    counts = f"{report.answered:,} clips, {len(report.failed):,} without; {report.found:,} were there already"
    log.print(f"{options.out} holds the answers on {counts}")
    return CALLERS_MISTAKE if report.failed else 0


def _timeline(recognizer: Recognizer, options: argparse.Namespace, log: Console) -> int:
    """Say what is done when in one recording."""
    from hhmnet.evaluation.figures import class_legend
    from hhmnet.predict.pictures import write_timeline
    from hhmnet.predict.timeline import recognise_long

    (source,) = find_inputs(options.inputs, log.print)
    with counting(log, "recognising", "windows") as progress:
        found = recognise_long(recognizer, source, options.windows, options.modality, progress)
    files = write_timeline(found, options.timeline)
    if options.json:
        print_json(found.to_dict())
    else:
        console(stderr=False).print(segments_table(found))
    for note in found.notes:
        log.print(f"{found.input}: {note}")
    names = ", ".join(file.name for file in files)
    log.print(f"{options.timeline} holds {names}; {class_legend(found.class_names)}".removesuffix("; "))
    return 0


def segments_table(found: Timeline) -> Table:
    """The segments for the terminal."""
    about = f"{found.duration:.1f} s, {' and '.join(found.modalities)}, took {found.seconds:.1f} s"
    rows = [
        (str(one.person), f"{one.start:.2f}", f"{one.end:.2f}", one.label, f"{100 * one.probability:.0f}")
        for one in found.segments
    ]
    return table(f"{found.input}: {about}", ">person", ">from s", ">to s", "class", ">%", rows=rows)


def prediction_table(found: Prediction, class_names: Sequence[str]) -> Table:
    """The answer for the terminal: the top classes, what each member says of them, and its own vote."""
    modalities = " and ".join(found.modalities)
    title = f"{found.input}: {found.label} ({modalities}, {found.seconds:.2f} s)"
    view = table(title, "class", ">%", *(f">{name.replace('_', ' ')}" for name in found.members))
    for label, probability in found.top:
        place = class_names.index(label)
        shares = (f"{100 * part[place]:.1f}" for part in found.members.values())
        view.add_row(label, f"{100 * probability:.1f}", *shares)
    if found.members:
        view.add_section()
        view.add_row("vote", found.label, *found.votes(class_names).values())
    return view
