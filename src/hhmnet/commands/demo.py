"""``hhmnet demo``: data → store → model → figures and pictures, by the same functions as the commands."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hhmnet.commands.configuration import read_config
from hhmnet.commands.evaluate import CONFUSION_FILE, evaluate_run, metrics_table
from hhmnet.commands.inspect import sample_strip
from hhmnet.commands.prepare import prepare_store, show_rejected, splits_table
from hhmnet.commands.terminal import Parser, console, counting, duration
from hhmnet.commands.train import FINISHED, WEIGHTS_FILE, train
from hhmnet.config import TrainConfig
from hhmnet.evaluation.figures import FigureError, draw_curves, draw_strips
from hhmnet.files import replacing
from hhmnet.readers import get_reader
from hhmnet.store import SAMPLES_FILE, Store
from hhmnet.synthetic import SKELETON_CEILING, generate
from hhmnet.training.logs import LOG_FILE, read_log

CLIPS = 600
READER = "nw_ucla"  # the sample is written in NW-UCLA's format
MARK_FILE = "demo.json"
FORMAT = "hhmnet-demo"
RECIPE = Path(__file__).parents[3] / "configs" / "nw_ucla" / "skeleton.yaml"


class DemoError(ValueError):
    """A demo that can't run in this place."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    log = console()
    out = options.out or Path("runs/demo" if options.data is None else "runs/demo-nw_ucla")
    config = read_config(options.config or (_sample_recipe() if options.data is None else _recipe()))
    _claim(out)
    source = options.data or _sample(out, options.clips, log)
    log.print(f"\nPreparing the store {out / 'store'}", soft_wrap=True)
    report = prepare_store(get_reader(READER, source), out / "store", log=log)
    store = Store(out / "store")
    log.print(splits_table(store, f"{report.accepted} clips of {len(store.class_names)} actions"))
    show_rejected(log, report.rejected, out / "store")
    _draw_clips(store, out / "clips.png", log)
    _forget_other_run(out, config, store)
    log.print(f"\nTraining in {out / 'run'}", soft_wrap=True)
    code = train(config, store, out / "run", resume=True, time_limit=options.time_limit, log=log)
    if code != FINISHED or not (out / "run" / WEIGHTS_FILE).exists():
        log.print("run the demo again to go on from here")
        return code
    _show_results(out, store, is_sample=options.data is None, log=log)
    return FINISHED


def _parser() -> Parser:
    parser = Parser(
        "hhmnet demo",
        "Make sample data, prepare it, train a model, measure it and draw pictures. A demo that was stopped "
        "goes on where it was. With --data the same happens to a folder of NW-UCLA's JSON files.",
    )
    add = parser.add_argument
    add("--out", type=Path, metavar="DIR", help="folder (default: runs/demo; runs/demo-nw_ucla with --data)")
    add("--data", type=Path, metavar="DIR", help="folder of NW-UCLA's files, instead of sample data")
    add("--config", type=Path, metavar="FILE", help="another recipe than the demo's own")
    add("--clips", type=int, default=CLIPS, metavar="N", help=f"clips of the sample (default: {CLIPS})")
    add("--time-limit", type=duration, metavar="TIME", help="stop training after 90s, 9m, 1.5h")
    return parser


def _sample_recipe() -> Path:
    return Path(str(resources.files("hhmnet.synthetic") / "demo.yaml"))


def _recipe() -> Path:
    if not RECIPE.exists():
        raise DemoError("the recipe for NW-UCLA is only in a checkout of the project; name one with --config")
    return RECIPE


def _claim(out: Path) -> None:
    """Mark the folder as a demo's, so that a later demo may throw away what it finds there."""
    if _read_mark(out) is not None:
        return
    if out.exists() and any(out.iterdir()):
        raise DemoError(f"{out}: holds something else than a demo; name a new or empty folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    _mark(out, {})


def _read_mark(out: Path) -> dict[str, Any] | None:
    """What the demo in this folder was made of; None if there is no demo."""
    try:
        content = json.loads((out / MARK_FILE).read_text(encoding="utf-8"))
        return content["made_of"] if content["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mark(out: Path, made_of: dict[str, Any]) -> None:
    with replacing(out / MARK_FILE) as handle:
        handle.write((json.dumps({"format": FORMAT, "made_of": made_of}) + "\n").encode())


def _sample(out: Path, clips: int, log: Console) -> Path:
    log.print(f"Making {clips} sample clips in {out / 'raw'}", soft_wrap=True)
    shutil.rmtree(out / "raw", ignore_errors=True)  # a demo that was killed may have left anything there
    try:
        with counting(log, "writing", "clips") as progress:
            generate(out / "raw", clips=clips, progress=progress)
    except ValueError as error:
        raise DemoError(str(error)) from None
    return out / "raw"


def _forget_other_run(out: Path, config: TrainConfig, store: Store) -> None:
    """Remove a run of other data or another recipe: going on with it would mix the two."""
    digest = hashlib.sha256((store.path / SAMPLES_FILE).read_bytes()).hexdigest()
    made_of = json.loads(json.dumps({"samples": digest, "config": dataclasses.asdict(config)}))
    if _read_mark(out) != made_of:
        shutil.rmtree(out / "run", ignore_errors=True)
        _mark(out, made_of)


def _draw_clips(store: Store, file: Path, log: Console) -> None:
    """One clip of every class."""
    first = [int(np.flatnonzero(store.labels == label)[0]) for label in np.unique(store.labels) if label >= 0]
    try:
        draw_strips([sample_strip(store.sample(i), store) for i in first], store.layout, file)
        log.print(f"{file} shows one clip of every action", soft_wrap=True)
    except FigureError as error:
        log.print(f"{file.name} is left out: {error}", soft_wrap=True)


def _show_results(out: Path, store: Store, *, is_sample: bool, log: Console) -> None:
    run = out / "run"
    metrics, folder = evaluate_run(run, store, log=log)
    view = metrics_table(metrics, f"{run}: {metrics['n']} test clips of {metrics['protocol']}")
    if is_sample:
        view.add_row("highest possible", "", f"{100 * SKELETON_CEILING:.2f}")
    console(stderr=False).print("", view)
    if is_sample:
        log.print(
            "Two pairs of actions differ only in the object in the hand, which no skeleton shows: skeletons "
            f"alone can't pass {100 * SKELETON_CEILING:.0f} % here. The sample shows that everything works; "
            "it says nothing about real people.",
            soft_wrap=True,
        )
    try:
        draw_curves(read_log(run / LOG_FILE), out / "curves.png")
        shutil.copyfile(folder / CONFUSION_FILE, out / CONFUSION_FILE)
        log.print(f"pictures: {', '.join(str(path) for path in sorted(out.glob('*.png')))}", soft_wrap=True)
    except FigureError:
        log.print("the pictures are left out, since they need matplotlib: pip install 'hhmnet[plot]'")
