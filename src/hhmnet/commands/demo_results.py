"""What ``hhmnet demo`` shows: its pictures, and the table of all that it has trained."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hhmnet.commands.evaluate import (
    CONFUSION_FILE,
    SCORES_FILE,
    evaluate_run,
    metrics_table,
    stream_scores_file,
)
from hhmnet.commands.inspect import sample_strip
from hhmnet.commands.terminal import console, table
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.figures import draw_curves, draw_strips
from hhmnet.evaluation.metrics import bootstrap_interval
from hhmnet.evaluation.model_pictures import draw_guidance, guidance_of
from hhmnet.evaluation.scores import Scores
from hhmnet.files import replacing
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store
from hhmnet.synthetic import ACTIONS, SKELETON_CEILING
from hhmnet.training.logs import LOG_FILE, read_log

RESULTS_FILE = "results.json"
EVALUATION = "eval-test"


def paired_actions() -> tuple[str, ...]:
    """Names of the sample's actions that another one equals but for the object in the hand."""
    motions = Counter(action.motion for action in ACTIONS)
    return tuple(action.name for action in ACTIONS if motions[action.motion] > 1)


def compared(out: Path) -> list[dict[str, Any]]:
    """A row for each model that the demo has measured: ``model``, ``n``, ``top1``, ``top1_interval``, ``pairs``.

    All figures are in percent of the test clips; ``pairs`` is the accuracy on :func:`paired_actions` alone, None
    where there is no such clip.

    Args:
        out: folder of a finished demo.

    Raises:
        ScoresError: a score file is missing.
    """
    return [_row(name, Scores.load(file)) for name, file in _score_files(out)]


def _score_files(out: Path) -> Iterator[tuple[str, Path]]:
    streams = out / "skeletons" / EVALUATION
    names = json.loads((streams / "metrics.json").read_text(encoding="utf-8")).get("streams", {})
    for name in names:
        yield name.replace("_", " "), streams / stream_scores_file(name)
    yield {0: "skeletons", 4: "four streams"}.get(len(names), f"{len(names)} streams"), streams / SCORES_FILE
    for run, name in (("video", "video"), ("guided", "video + guidance"), ("hhmnet", "+ multi-part")):
        yield name, out / run / EVALUATION / stream_scores_file("video")
    yield "HHMNet", out / "hhmnet" / EVALUATION / SCORES_FILE


def _row(name: str, scores: Scores) -> dict[str, Any]:
    right = scores.logits.argmax(1) == scores.labels
    paired = np.isin(np.array(scores.class_names)[scores.labels], paired_actions())
    count = len(right)
    return {
        "model": name,
        "n": count,
        "top1": 100 * float(right.mean()),
        "top1_interval": list(bootstrap_interval(int(right.sum()), count)),
        "pairs": 100 * float(right[paired].mean()) if paired.any() else None,
    }


def comparison_table(rows: list[dict[str, Any]]) -> Table:
    """The rows of :func:`compared` for the terminal, and what skeletons can reach."""
    view = table(
        f"{rows[0]['n']} test clips, seen by a camera that no training clip is from",
        "model",
        ">top-1 %",
        ">95 % interval",
        ">object pairs %",
    )
    for row in rows:
        low, high = row["top1_interval"]
        pairs = "-" if row["pairs"] is None else f"{row['pairs']:.2f}"
        style = "bold" if row is rows[-1] else None
        view.add_row(row["model"], f"{row['top1']:.2f}", f"{low:.2f} to {high:.2f}", pairs, style=style)
    view.add_section()
    view.add_row("highest possible with skeletons", f"{100 * SKELETON_CEILING:.2f}", "", "50.00")
    return view


def show_sample(out: Path, store: Store, log: Console) -> None:
    """Print the comparison, write it to ``results.json``, and gather the pictures of a demo on sample data."""
    rows = compared(out)
    with replacing(out / RESULTS_FILE) as handle:
        handle.write((json.dumps({"store": store.path.name, "models": rows}, indent=1) + "\n").encode())
    console(stderr=False).print("", comparison_table(rows))
    log.print(
        f"Two pairs of actions ({', '.join(paired_actions())}) differ only in the object in the hand, which no "
        f"skeleton shows: skeletons alone can't pass {100 * SKELETON_CEILING:.0f} % here. The videos show the "
        "objects. The sample shows that everything works; it says nothing about real people.",
        soft_wrap=True,
    )
    _gather(out, {"skeletons": "curves.png", "hhmnet": "curves-video.png"}, out / "hhmnet", store, log)


def show_run(out: Path, run: Path, store: Store, log: Console) -> None:
    """Measure the one run of a demo on a user's data, print its table and gather its pictures."""
    metrics, _ = evaluate_run(run, store, log=log)
    view = metrics_table(metrics, f"{run}: {metrics['n']} test clips of {metrics['protocol']}")
    console(stderr=False).print("", view)
    _gather(out, {run.name: "curves.png"}, run, store, log)


def _gather(out: Path, curves: dict[str, str], best: Path, store: Store, log: Console) -> None:
    for run, name in curves.items():
        draw_curves(read_log(out / run / LOG_FILE), out / name)
    shutil.copyfile(best / EVALUATION / CONFUSION_FILE, out / CONFUSION_FILE)
    if store.video_folder is not None:
        draw_seen(best, store, out / "rois.png", log)
    log.print(f"pictures: {', '.join(str(path) for path in sorted(out.glob('*.png')))}", soft_wrap=True)


def draw_clips(store: Store, file: Path, log: Console) -> None:
    """Draw the skeleton of one clip of every class."""
    first = [int(np.flatnonzero(store.labels == label)[0]) for label in np.unique(store.labels) if label >= 0]
    draw_strips([sample_strip(store.sample(i), store) for i in first], store.layout, file)
    log.print(f"{file} shows one clip of every action", soft_wrap=True)


def draw_seen(run: Path, store: Store, file: Path, log: Console) -> None:
    """Draw what a model of phase 2 sees of the first test clip of a paired action, its weights and its answers."""
    rows = get_protocol(store.protocol).indices(store, "test")
    paired = [store.class_names.index(name) for name in paired_actions()]
    row = int(next(row for row in rows if store.labels[row] in paired))
    found = guidance_of(from_pretrained(run), store, row, store.find_videos())
    label = store.class_names[store.labels[row]]
    draw_guidance(found, f"{store.sample_ids[row]}  {label}", label, file)
    log.print(f"{file} shows what HHMNet sees of a clip, and how much it counts", soft_wrap=True)
