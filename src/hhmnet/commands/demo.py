"""``hhmnet demo``: data → store → models → figures and pictures, by the same functions as the commands."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hhmnet import synthetic
from hhmnet.commands.configuration import read_config
from hhmnet.commands.crops import cut_crops
from hhmnet.commands.evaluate import CONFUSION_FILE, SCORES_FILE, evaluate_run, stream_scores_file
from hhmnet.commands.inspect import title_of
from hhmnet.commands.prepare import prepare_store, splits_table
from hhmnet.commands.terminal import Parser, UsageError, console, counting, duration, table
from hhmnet.commands.train import FINISHED, WEIGHTS_FILE, train
from hhmnet.config import TrainConfig
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.figures import draw_strips
from hhmnet.evaluation.metrics import evaluate
from hhmnet.evaluation.model_pictures import draw_guidance, guidance_of
from hhmnet.evaluation.report import accuracy
from hhmnet.evaluation.scores import Scores
from hhmnet.files import write_json
from hhmnet.models.backbones import build_backbone
from hhmnet.models.pretrained import from_pretrained
from hhmnet.prepare.workers import cores
from hhmnet.readers.nw_ucla import NWUCLA, NWUCLAConfig
from hhmnet.store import Store
from hhmnet.synthetic import ACTIONS, SKELETON_CEILING, VIDEOS, generate

CLIPS = 540
MARK_FILE, FORMAT = "demo.json", "hhmnet-demo"
RESULTS_FILE, EVALUATION = "results.json", "eval-test"
CLIPS_A_PROCESS = 60  # fewer are written before another process has started
VIDEO_RUNS = {
    "video": ("video alone", ("--heterogeneous.guidance=none", "--loss.part_contrast=0")),
    "guided": ("video + guidance", ("--loss.part_contrast=0",)),
    "hhmnet": ("video + guidance + multi-part contrast = HHMNet", ()),
}
"""Phase 2, one step after the other: the run's folder, its title, and what it leaves out of the recipe."""
SKELETONS, BEST = "skeletons", "hhmnet"
PAIRED = tuple(action.name for action in ACTIONS if action.object)
"""Names of the sample's actions that another one equals but for the object in the hand."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(
        "hhmnet demo",
        "Make sample data with videos, prepare it, train skeleton streams and then a video network beside them, "
        "measure all of them and draw pictures. A demo that was stopped goes on where it was.",
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="folder (default: runs/demo)")
    add("--config", type=Path, metavar="FILE", help="another recipe for the skeletons than the demo's own")
    add("--video-config", type=Path, metavar="FILE", help="another recipe for the video network")
    add("--clips", type=int, default=CLIPS, metavar="N", help=f"clips of the sample (default: {CLIPS})")
    add("--time-limit", type=duration, metavar="TIME", help="stop training after 90s, 9m, 1.5h")
    options, log = parser.parse_args(words), console()
    out: Path = options.out
    first = read_config(options.config or _packaged("demo.yaml"))
    streams = len(first.data.streams)
    runs = {SKELETONS: first}
    titles = {SKELETONS: f"{streams} skeleton streams" if streams > 1 else "one skeleton stream"}
    for name, (title, flags) in VIDEO_RUNS.items():
        titles[name] = title
        recipe = options.video_config or _packaged("demo_video.yaml")
        runs[name] = read_config(recipe, [*flags, f"--phase1={out / SKELETONS}"])
    video = runs[BEST].heterogeneous
    build_backbone(video.backbone, video.pretrained)  # what is missing is said now, not after phase 1
    _make_sample(out, options.clips, runs, log)
    log.print(f"\nPreparing the store {out / 'store'}")
    reader = NWUCLA(out / "raw", NWUCLAConfig(videos=out / "raw" / VIDEOS))
    report = prepare_store(reader, out / "store", log=log)
    store = Store(out / "store")
    log.print(splits_table(store, f"{report.accepted} clips of {len(store.class_names)} actions"))
    rows = [np.flatnonzero(store.labels == label)[0] for label in np.unique(store.labels) if label >= 0]
    clips = [store.sample(int(row)) for row in rows]
    draw_strips([(title_of(clip, store), clip) for clip in clips], store.layout, out / "clips.png")
    log.print(f"{out / 'clips.png'} shows one clip of every action")
    cut_crops(CropCache(config=runs[BEST].roi), store, np.arange(len(store)), store.find_videos(), log)
    ends = None if options.time_limit is None else time.monotonic() + options.time_limit
    for name, config in runs.items():
        log.print(f"\nTraining {titles[name]} in {out / name}")
        left = None if ends is None else max(ends - time.monotonic(), 1e-3)
        code = train(config, [store], out / name, resume=True, time_limit=left, log=log)
        if code != FINISHED or not (out / name / WEIGHTS_FILE).exists():
            log.print("run the demo again to go on from here")
            return code
    for name in runs:
        evaluate_run(out / name, store, log=log)
    _show_comparison(out, store, log)
    _draw_results(out, store, log)
    return FINISHED


def _packaged(name: str) -> Path:
    return Path(synthetic.__file__).parent / name


def _make_sample(out: Path, clips: int, runs: dict[str, TrainConfig], log: Console) -> None:
    """The sample's raw files, unless they are there; a demo of other settings, or by another generator, goes first."""
    raw, mark = out / "raw", out / MARK_FILE
    modules = [file.read_bytes() for file in sorted(_packaged("").glob("*.py"))]
    about = [clips, modules, {name: dataclasses.asdict(config) for name, config in runs.items()}]
    wanted = {"format": FORMAT, "made_of": hashlib.sha256(repr(about).encode()).hexdigest()}
    known = mark.read_text(encoding="utf-8", errors="replace") if mark.is_file() else ""
    if FORMAT not in known and out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: holds something else than a demo; name a new or empty folder with --out")
    if wanted["made_of"] in known:
        log.print(f"{raw} holds the {clips} sample clips already")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(mark, wanted | {"made_of": ""})  # what is there from now on isn't whole
    for name in ("raw", "store", *runs):
        shutil.rmtree(out / name, ignore_errors=True)
    log.print(f"Making {clips} sample clips with videos in {raw}")
    jobs = max(1, min(cores(), clips // CLIPS_A_PROCESS))
    try:
        with counting(log, "writing", "clips") as progress:
            generate(raw, clips=clips, videos=True, jobs=jobs, progress=progress)
    except ValueError as error:
        raise UsageError(str(error)) from None
    write_json(mark, wanted)


def _score_files(out: Path) -> Iterator[tuple[str, Path]]:
    streams = out / SKELETONS / EVALUATION
    names = json.loads((streams / "metrics.json").read_text(encoding="utf-8")).get("streams", {})
    for name in names:
        yield name.replace("_", " "), streams / stream_scores_file(name)
    yield {0: "skeletons", 4: "four streams"}.get(len(names), f"{len(names)} streams"), streams / SCORES_FILE
    for run, name in (("video", "video"), ("guided", "video + guidance"), ("hhmnet", "+ multi-part")):
        yield name, out / run / EVALUATION / stream_scores_file("video")
    yield "HHMNet", out / "hhmnet" / EVALUATION / SCORES_FILE


def _show_comparison(out: Path, store: Store, log: Console) -> None:
    """Print a table of all models, in percent of the test clips and of the PAIRED, and write it to ``results.json``."""
    rows: list[dict[str, Any]] = []
    for name, file in _score_files(out):
        scores = Scores.load(file)
        paired = scores.right[np.isin(np.array(scores.class_names)[scores.labels], PAIRED)]
        pairs, figures = 100 * float(paired.mean()) if len(paired) else None, evaluate(scores)
        shown = {key: figures[key] for key in ("n", "top1", "top1_interval")}
        rows.append({"model": name, **shown, "pairs": pairs})
    write_json(out / RESULTS_FILE, {"store": store.path.name, "models": rows})
    title = f"{rows[0]['n']} test clips, seen by a camera that no training clip is from"
    view = table(title, "model", ">top-1 %", ">95 % interval", ">object pairs %")
    for row in rows:
        share = "-" if row["pairs"] is None else f"{row['pairs']:.2f}"
        view.add_row(row["model"], *accuracy(row), share, style="bold" if row is rows[-1] else None)
    view.add_section()
    view.add_row("highest possible with skeletons", f"{100 * SKELETON_CEILING:.2f}", "", "50.00")
    console(stderr=False).print("", view)
    log.print(
        f"Two pairs of actions ({', '.join(PAIRED)}) differ only in the object in the hand, which no "
        f"skeleton shows: skeletons alone can't pass {100 * SKELETON_CEILING:.0f} % here. The videos show the "
        "objects. The sample shows that everything works; it says nothing about real people."
    )


def _draw_results(out: Path, store: Store, log: Console) -> None:
    """Draw the best model's mistakes, and what it sees of the first test clip of a paired action."""
    shutil.copyfile(out / BEST / EVALUATION / CONFUSION_FILE, out / CONFUSION_FILE)
    names = np.array(store.class_names)[store.labels]
    tested = get_protocol(store.protocol).indices(store, "test")
    row = int(tested[np.isin(names[tested], PAIRED)][0])
    found = guidance_of(from_pretrained(out / BEST), store, row, store.find_videos())
    draw_guidance(found, f"{store.sample_ids[row]}  {names[row]}", str(names[row]), out / "rois.png")
    log.print(f"{out / 'rois.png'} shows what HHMNet sees of a clip, and how much it counts")
    log.print(f"pictures: {', '.join(str(path) for path in sorted(out.glob('*.png')))}")
