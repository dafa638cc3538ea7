"""``hhmnet evaluate``: a trained model and a store → metrics and scores."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hhmnet.commands.cache import cut_crops
from hhmnet.commands.configuration import CONFIG_FILE, read_config
from hhmnet.commands.terminal import Parser, console, print_json, table
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.protocols import PARTS, Protocol, get_protocol
from hhmnet.evaluation.figures import draw_confusion
from hhmnet.evaluation.metrics import brief, confusion, evaluate, fusion_changes, surest_mistakes
from hhmnet.evaluation.report import write_report
from hhmnet.evaluation.scores import Scores
from hhmnet.files import locked, made, remove_leftovers, replacing
from hhmnet.models.hub import find_model
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.sample import MODALITIES
from hhmnet.store import Store
from hhmnet.training.distributed import ProcessLost, join, naming_the_lost, score_together

METRICS_FILE, SCORES_FILE = "metrics.json", "scores.parquet"
CONFUSION_FILE, REPORT_FILE = "confusion.png", "report.html"


class EvaluationError(ValueError):
    """A model and a store that don't go together, or nothing to measure."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    try:
        group = join(options.device == "cpu")
        log = console() if group.is_main else Console(quiet=True)
        with group.together():
            store = Store(options.data)
        metrics, out = evaluate_run(
            options.run,
            store,
            split=options.split,
            fold=options.fold,
            out=options.out,
            device=options.device,
            videos=options.videos,
            log=log,
        )
    except ProcessLost as error:
        print(f"hhmnet evaluate: error: {error}", file=sys.stderr)
        return 1
    group.leave()
    if not group.is_main:
        return 0
    if options.json:
        print_json(metrics)
    else:
        title = f"{options.run} on {metrics['store']}, {options.split}"
        console(stderr=False).print(metrics_table(metrics, title))
    log.print(f"{out} holds {METRICS_FILE}, {SCORES_FILE} and {REPORT_FILE}", soft_wrap=True)
    return 0


def _parser() -> Parser:
    parser = Parser("hhmnet evaluate", "Measure a trained model on a store.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="run folder, or any folder with a trained model")
    add("--data", type=Path, required=True, metavar="STORE", help="store that `hhmnet prepare` made")
    add("--split", default="test", choices=PARTS, help="clips to measure (default: test)")
    add("--fold", type=int, metavar="K", help="fold that val and train go by (default: the model's own)")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the results (default: RUN/eval-SPLIT, of several heads RUN/eval-SPLIT-HEAD)",
    )
    videos = "folder of the store's videos, if they aren't where they were"
    add("--videos", type=Path, metavar="DIR", help=videos)
    add("--json", action="store_true", help="print the metrics as JSON on standard output")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: a GPU if there is one")
    return parser


def evaluate_run(
    run: Path,
    store: Store,
    *,
    split: str = "test",
    fold: int | None = None,
    out: Path | None = None,
    device: str = "auto",
    videos: Path | None = None,
    log: Console,
) -> tuple[dict[str, Any], Path]:
    """Measure a model on one split; write ``metrics.json``, ``scores.parquet``, a confusion matrix and a report.

    Of several processes that ``torchrun`` started, all call it and score a share of the clips; the first one writes,
    and the others get no metrics.

    Returns:
        The metrics, and the folder they are in.

    Raises:
        EvaluationError: the store has other joints or classes than the model, or no labelled clips.
        PretrainedError, ProtocolError: the model can't be read; the split or fold doesn't exist.
        LockedError: another process writes to ``out``.
    """
    group = join(device == "cpu")
    with group.together():
        place = _device(device)
        folder = find_model(run)
        model = from_pretrained(folder, place, store)
        check_same(model, run, store)
        protocol, fold, rows = clips_of(model, store, split, fold)
        labels = corrected_labels(folder, protocol, store)[rows]
    # Of a model that isn't here, the results are: a cache is no place for them.
    results = f"eval-{split}" + (f"-{model.head_name}" if model.head_name else "")
    out = out or (run if run.exists() else Path(run.name)) / results
    with ExitStack() as held:
        with group.together():
            if group.is_main:
                held.enter_context(made(out))
                held.enter_context(locked(out, "hhmnet evaluate"))
                remove_leftovers(out)
        with group.together():
            if model.spec.roi is not None:
                videos = store.find_videos(videos)
                if group.is_main:
                    cut_crops(CropCache(config=model.spec.roi), store, rows, videos, log)

        def scored(modalities: Sequence[str]) -> dict[str, Scores]:
            found = score_together(group, model, store, rows, place, videos, modalities)
            return {name: dataclasses.replace(scores, labels=labels) for name, scores in found.items()}

        with log.status(f"scoring {len(rows)} clips"), naming_the_lost(group):
            streams = scored(MODALITIES)
            each = () if model.spec.heterogeneous is None else MODALITIES
            alone = {name: scored((name,))[""] for name in each}
        if not group.is_main:
            return {}, out
        whole = streams.pop("")
        whole.save(out / SCORES_FILE)
        for name, scores in streams.items():
            scores.save(out / stream_scores_file(name))
        if not (labels >= 0).any():
            raise EvaluationError(
                f"{store.path}: no clip of split '{split}' has a label, so there is nothing to measure; "
                f"{out / SCORES_FILE} holds the scores"
            )
        metrics = evaluate(whole)
        metrics |= {"split": split, "protocol": protocol.name, "fold": fold}
        metrics |= {"store": store.path.resolve().name, "surest_mistakes": surest_mistakes(whole)}
        if streams:
            metrics["streams"] = {name: brief(scores) for name, scores in streams.items()}
        if alone:
            metrics["modalities"] = {name: brief(scores) for name, scores in alone.items()}
            metrics["fusion"] = fusion_changes(whole, alone)
        with replacing(out / METRICS_FILE) as handle:
            handle.write(
                (json.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
            )
        draw_confusion(confusion(whole), whole.class_names, out / CONFUSION_FILE)
        title = f"{run.name} on {metrics['store']}, {split}"
        write_report(metrics, title, out / REPORT_FILE, out / CONFUSION_FILE)
    return metrics, out


def corrected_labels(run: Path, protocol: Protocol, store: Store) -> np.ndarray:
    """The store's labels ``(N,)``, with what the run's configuration corrects among its training clips."""
    config = run / CONFIG_FILE
    return protocol.labels(store, read_config(config).relabel if config.exists() else {})


def stream_scores_file(stream: str) -> str:
    """Name of the score file of one stream of several."""
    return f"scores-{stream}.parquet"


def clips_of(
    model: ActionModel, store: Store, split: str, fold: int | None
) -> tuple[Protocol, int | None, np.ndarray]:
    """The protocol that a model goes by, its own fold unless another one is named, and the split's clips.

    Raises:
        EvaluationError: there are none.
        ProtocolError: the split or fold doesn't exist.
    """
    protocol = get_protocol(model.spec.protocol or store.protocol)
    fold = model.spec.fold if fold is None else fold
    rows = protocol.indices(store, split, fold)
    if len(rows) == 0:
        hint = "; val needs a fold, such as --fold 0" if split == "val" and fold is None else ""
        raise EvaluationError(f"{store.path}: split '{split}' of protocol {protocol.name} has no clips{hint}")
    return protocol, fold, rows


def check_same(model: ActionModel, run: Path, store: Store) -> None:
    """Raise EvaluationError, with the first difference, unless model and store share joints and classes."""
    ours, theirs = model.spec.layout.to_dict(), store.layout.to_dict()
    for field in ours:
        if ours[field] != theirs[field]:
            first = f"field '{field}': {_difference(ours[field], theirs[field])}"
            raise EvaluationError(
                f"{run} and {store.path} have different skeletons ({model.spec.layout.name} and "
                f"{store.layout.name}): {first}"
            )
    if model.spec.class_names != store.class_names:
        first = _difference(model.spec.class_names, store.class_names)
        raise EvaluationError(f"{run} and {store.path} have different classes: {first}")


def _difference(model: Any, store: Any) -> str:
    """The first place in which a value of the model's and one of the store's part ways."""
    if isinstance(model, (list, tuple)) and isinstance(store, (list, tuple)):
        for number, (one, other) in enumerate(zip(model, store, strict=False)):
            if one != other:
                return f"number {number} is '{one}' in the model and '{other}' in the store"
        return f"the model has {len(model)}, the store {len(store)}"
    return f"'{model}' in the model and '{store}' in the store"


def metrics_table(metrics: dict[str, Any], title: str) -> Table:
    """The metrics for the terminal: every class, then all of them."""
    view = table(title, "class", ">clips", ">top-1 %")
    for name, figures in metrics["per_class"].items():
        view.add_row(name, str(figures["n"]), f"{figures['top1']:.2f}" if figures["n"] else "-")
    view.add_section()
    for name, figures in metrics.get("streams", {}).items():
        view.add_row(f"stream {name}", str(metrics["n"]), f"{figures['top1']:.2f}")
    for name, figures in metrics.get("modalities", {}).items():
        view.add_row(f"{name} alone", str(metrics["n"]), f"{figures['top1']:.2f}")
    for name, changes in metrics.get("fusion", {}).items():
        counts = f"{changes['mended']['n']}, {changes['broken']['n']}"
        view.add_row(f"mended, broken beside {name} alone", counts, "")
    low, high = metrics["top1_interval"]
    view.add_row("all", str(metrics["n"]), f"{metrics['top1']:.2f}", style="bold")
    view.add_row("95 % interval of top-1", "", f"{low:.2f} to {high:.2f}")
    view.add_row("top-5", "", f"{metrics['top5']:.2f}")
    view.add_row("mean over classes", "", f"{metrics['mean_class']:.2f}")
    view.add_row("calibration error", "", f"{metrics['calibration_error']:.2f}")
    return view


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise EvaluationError("--device is cuda, but torch sees no GPU here; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
