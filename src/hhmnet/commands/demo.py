"""``hhmnet demo``: data → store → models → figures and pictures, by the same functions as the commands."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

import hhmnet.synthetic
from hhmnet.commands.configuration import read_config
from hhmnet.commands.demo_results import draw_clips, show_run, show_sample
from hhmnet.commands.evaluate import evaluate_run
from hhmnet.commands.prepare import prepare_store, show_rejected, splits_table
from hhmnet.commands.terminal import Parser, console, counting, duration
from hhmnet.commands.train import FINISHED, WEIGHTS_FILE, train
from hhmnet.config import TrainConfig
from hhmnet.files import replacing
from hhmnet.models.rgb import build_backbone
from hhmnet.prepare.engine import cores
from hhmnet.readers import get_reader
from hhmnet.store import SAMPLES_FILE, Store
from hhmnet.synthetic import VIDEOS, generate

CLIPS = 540
READER = "nw_ucla"  # the sample is written in NW-UCLA's format
MARK_FILE = "demo.json"
FORMAT = "hhmnet-demo"
RECIPE = Path("nw_ucla/skeleton")
CLIPS_A_PROCESS = 60  # fewer are written before another process has started

SKELETONS = "skeletons"
STEPS = {
    "video": ("--heterogeneous.guidance=none", "--heterogeneous.distill=0"),
    "guided": ("--heterogeneous.distill=0",),
    "hhmnet": (),
}
"""Phase 2, one step after the other: the run's folder, and what it leaves out of the recipe."""


class DemoError(ValueError):
    """A demo that can't run in this place."""


class _Run(NamedTuple):
    """A training of the demo, in the folder of that name."""

    name: str
    title: str
    config: TrainConfig


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    log, is_sample = console(), options.data is None
    out = options.out or Path("runs/demo" if is_sample else "runs/demo-nw_ucla")
    first = options.config or (_packaged("demo.yaml") if is_sample else RECIPE)
    second = options.video_config or _packaged("demo_video.yaml")
    runs = list(_runs(out, first, second if is_sample else None))
    for run in runs:
        if run.config.looks_at_video:  # what is missing is said now, not after phase 1
            build_backbone(run.config.heterogeneous.backbone, run.config.heterogeneous.pretrained)
    _claim(out)
    store = _prepared(out, _sample(out, options.clips, log) if is_sample else options.data, is_sample, log)
    draw_clips(store, out / "clips.png", log)
    ends = None if options.time_limit is None else time.monotonic() + options.time_limit
    for run in runs:
        _forget_other_run(out, run, store)
        log.print(f"\nTraining {run.title} in {out / run.name}", soft_wrap=True)
        left = None if ends is None else max(ends - time.monotonic(), 1e-3)
        code = train(run.config, store, out / run.name, resume=True, time_limit=left, log=log)
        if code != FINISHED or not (out / run.name / WEIGHTS_FILE).exists():
            log.print("run the demo again to go on from here")
            return code
    if is_sample:
        for run in runs:
            evaluate_run(out / run.name, store, log=log)
        show_sample(out, store, log)
    else:
        show_run(out, out / SKELETONS, store, log)
    return FINISHED


def _parser() -> Parser:
    parser = Parser(
        "hhmnet demo",
        "Make sample data with videos, prepare it, train skeleton streams and then a video network beside them, "
        "measure all of them and draw pictures. A demo that was stopped goes on where it was. With --data, "
        "skeletons are trained on a folder of NW-UCLA's JSON files.",
    )
    add = parser.add_argument
    add("--out", type=Path, metavar="DIR", help="folder (default: runs/demo; runs/demo-nw_ucla with --data)")
    add("--data", type=Path, metavar="DIR", help="folder of NW-UCLA's files, instead of sample data")
    add("--config", type=Path, metavar="FILE", help="another recipe for the skeletons than the demo's own")
    add("--video-config", type=Path, metavar="FILE", help="another recipe for the video network")
    add("--clips", type=int, default=CLIPS, metavar="N", help=f"clips of the sample (default: {CLIPS})")
    add("--time-limit", type=duration, metavar="TIME", help="stop training after 90s, 9m, 1.5h")
    return parser


def _packaged(name: str) -> Path:
    return Path(str(resources.files("hhmnet.synthetic") / name))


def _runs(out: Path, first: Path, second: Path | None) -> Iterator[_Run]:
    """The trainings, in their order; of skeletons alone where there is no second recipe."""
    config = read_config(first)
    streams = len(config.data.streams)
    yield _Run(SKELETONS, f"{streams} skeleton streams" if streams > 1 else "one skeleton stream", config)
    titles = ("video alone", "video + guidance", "video + guidance + multi-part contrast = HHMNet")
    for (name, flags), title in zip(STEPS.items() if second else (), titles, strict=False):
        yield _Run(name, title, read_config(second, [*flags, f"--phase1={out / SKELETONS}"]))


def _claim(out: Path) -> None:
    """Mark the folder as a demo's, so that a later demo may throw away what it finds there."""
    if _read_mark(out) is not None:
        return
    if out.exists() and any(out.iterdir()):
        raise DemoError(f"{out}: holds something else than a demo; name a new or empty folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    _mark(out, {})


def _read_mark(out: Path) -> dict[str, Any] | None:
    """What every part of the demo in this folder was made of; None if there is no demo."""
    try:
        content = json.loads((out / MARK_FILE).read_text(encoding="utf-8"))
        return dict(content["made_of"]) if content["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mark(out: Path, made_of: dict[str, Any]) -> None:
    with replacing(out / MARK_FILE) as handle:
        handle.write((json.dumps({"format": FORMAT, "made_of": made_of}) + "\n").encode())


def _renew(out: Path, part: str, made_of: dict[str, Any], remove: Callable[[], None]) -> bool:
    """Remove a part that was made of something else than this, and note what it is made of now; whether it was so."""
    marks, made_of = _read_mark(out) or {}, json.loads(json.dumps(made_of))
    if marks.get(part) == made_of:
        return False
    remove()
    _mark(out, marks | {part: made_of})
    return True


def _sample(out: Path, clips: int, log: Console) -> Path:
    """The sample's raw files; they are made again if they are of other settings or another generator."""
    raw, code = out / "raw", hashlib.sha256()
    for file in sorted(Path(str(resources.files(hhmnet.synthetic))).glob("*.py")):
        code.update(file.read_bytes())

    def make() -> None:
        log.print(f"Making {clips} sample clips with videos in {raw}", soft_wrap=True)
        shutil.rmtree(raw, ignore_errors=True)  # a demo that was killed may have left anything there
        jobs = max(1, min(cores(), clips // CLIPS_A_PROCESS))
        try:
            with counting(log, "writing", "clips") as progress:
                generate(raw, clips=clips, videos=True, jobs=jobs, progress=progress)
        except ValueError as error:
            raise DemoError(str(error)) from None

    if not _renew(out, "raw", {"clips": clips, "generator": code.hexdigest()}, make):
        log.print(f"{raw} holds the {clips} sample clips already", soft_wrap=True)
    return raw


def _prepared(out: Path, source: Path, is_sample: bool, log: Console) -> Store:
    log.print(f"\nPreparing the store {out / 'store'}", soft_wrap=True)
    reader = get_reader(READER, source)
    if is_sample:
        reader = type(reader)(source, reader.config_class(videos=source / VIDEOS))  # type: ignore[call-arg]
    report = prepare_store(reader, out / "store", log=log)
    store = Store(out / "store")
    log.print(splits_table(store, f"{report.accepted} clips of {len(store.class_names)} actions"))
    show_rejected(log, report.rejected, out / "store")
    return store


def _forget_other_run(out: Path, run: _Run, store: Store) -> None:
    """Remove a run of other data or another recipe: going on with it would mix the two."""
    made_of = {
        "samples": hashlib.sha256((store.path / SAMPLES_FILE).read_bytes()).hexdigest(),
        "config": dataclasses.asdict(run.config),
        "skeletons": (_read_mark(out) or {}).get(SKELETONS) if run.name != SKELETONS else None,
    }
    _renew(out, run.name, made_of, lambda: shutil.rmtree(out / run.name, ignore_errors=True))
