"""``hhmnet embedding``: where the streams of trained models put clips, as figures and a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hhmnet.commands.evaluate import check_same, clips_of
from hhmnet.commands.terminal import Parser, UsageError, console, print_json, table
from hhmnet.data.protocols import PARTS
from hhmnet.evaluation.embedding import collect, figures
from hhmnet.evaluation.embedding_picture import View, draw_embeddings
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store

UNTRAINED = (
    "was trained without contrast (fusion.contrast 0), so its projections are as they were at the start"
)


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    names = short_names(options.runs)
    store, log = Store(options.data), console()
    views: list[View] = []
    documents: list[dict[str, Any]] = []
    for run, name in zip(options.runs, names, strict=True):
        view, about = look(run, name, store, options.split, options.fold, log)
        if views and view.found.sample_ids.tolist() != views[0].found.sample_ids.tolist():
            raise UsageError(f"{names[0]} and {name} hold out other clips; name what to compare with --fold")
        views.append(view)
        documents.append(about | view.figures)
    if options.out:
        with log.status("drawing"):
            draw_embeddings(views, options.out)
    if options.json:
        print_json({"store": store.path.resolve().name, "split": options.split, "runs": documents})
    else:
        _show(views, options.split)
    for document in documents:
        if document["contrast"] == 0:
            log.print(f"{document['run']} {UNTRAINED}", soft_wrap=True)
    if options.out:
        log.print(f"picture: {options.out}", soft_wrap=True)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "hhmnet embedding",
        "Compare where the streams of a model put clips; of two models, such as one trained without contrast and "
        "one with it, both are shown.",
    )
    add = parser.add_argument
    add(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folders, or any folders with models of streams"
    )
    add("--data", type=Path, required=True, metavar="STORE", help="store that `hhmnet prepare` made")
    add("--split", default="test", choices=PARTS, help="clips to compare (default: test)")
    add("--fold", type=int, metavar="K", help="fold that val and train go by (default: the models' own)")
    add("--out", type=Path, metavar="FILE.png", help="draw the clips as every stream sees them")
    add("--json", action="store_true", help="print the figures as JSON on standard output")
    return parser


def short_names(runs: Sequence[Path]) -> list[str]:
    """The runs' paths, as short as tells them apart; raises UsageError where one is given twice."""
    paths = [run.absolute() for run in runs]
    if len(set(paths)) < len(paths):
        raise UsageError("a run is given twice; name each once")
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    shared = os.path.commonpath([path.parent for path in paths])
    return [os.path.relpath(path, shared) for path in paths]


def look(
    run: Path, name: str, store: Store, split: str, fold: int | None, log: Console
) -> tuple[View, dict[str, Any]]:
    """One run's embeddings of a split.

    Args:
        run: folder with the model.
        name: what the run is called in the picture.
        store: opened store.
        split: ``train``, ``val``, ``test`` or ``all``.
        fold: fold that ``train`` and ``val`` go by; the model's own by default.
        log: where progress goes.

    Returns:
        The picture's row, and what the run is.

    Raises:
        EvaluationError: the store has other joints or classes than the model, or no clips in the split.
        EmbeddingError, PretrainedError, ProtocolError: see what is called here.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = from_pretrained(run, device)
    check_same(model, run, store)
    protocol, fold, rows = clips_of(model, store, split, fold)
    with log.status(f"{name}: {len(rows)} clips"):
        found = collect(model, store, rows, device=device)
        view = View(name, found, figures(found))
    fusion = model.spec.fusion
    about = {
        "run": name,
        "contrast": fusion.contrast,
        "positives": fusion.positives,
        "protocol": protocol.name,
        "fold": fold,
    }
    return view, about


def _show(views: Sequence[View], split: str) -> None:
    out = console(stderr=False)
    for view in views:
        found = view.figures
        title = f"{view.title}: {found['clips']} clips of {split}"
        grid = table(title, "projections", ">same class, %", ">same clip, %", ">median place")
        for name, pair in {**found["retrieval"], "chance": found["chance"]}.items():
            if name == "mean":
                grid.add_section()
            shares = f"{pair['same_class']:.1f}", f"{pair['same_clip']:.1f}"
            grid.add_row(name, *shares, f"{pair['rank']:.1f}", style="bold" if name == "mean" else None)
        out.print(grid)
    grid = table("Figures of the embeddings", "figure", *(f">{view.title}" for view in views))
    for label, cells in _lines(views):
        grid.add_row(label, *cells)
    out.print(grid)


def _lines(views: Sequence[View]) -> list[tuple[str, list[str]]]:
    """The figures that stand side by side: agreement of pairs, then silhouettes."""
    lines: dict[str, list[str]] = {}
    for place, view in enumerate(views):
        found = view.figures
        values = {f"CKA of {name}": value for name, value in found["agreement"].items() if name != "mean"}
        values |= {"CKA, mean": found["agreement"]["mean"], "CKA, chance": found["chance"]["agreement"]}
        values |= {f"silhouette of {name}": value for name, value in found["silhouette"].items()}
        values["silhouette of all projections by class"] = found["meeting"]["by_class"]
        values["silhouette of all projections by stream"] = found["meeting"]["by_stream"]
        for label, value in values.items():
            lines.setdefault(label, [""] * len(views))[place] = f"{value:.3f}"
    return list(lines.items())
