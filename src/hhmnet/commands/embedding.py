"""``hhmnet embedding``: where the streams of trained models put clips, as figures and a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hhmnet.commands.configuration import CONFIG_FILE, read_config
from hhmnet.commands.evaluate import check_layout, clips_of
from hhmnet.commands.terminal import Parser, UsageError, console, print_json, table
from hhmnet.data.protocols import PARTS
from hhmnet.evaluation.embedding import Embeddings, collect, draw_embeddings, figures
from hhmnet.evaluation.figures import class_legend
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store

Rows = dict[str, tuple[Embeddings, dict[str, Any]]]
"""By the name of a run, its embeddings and their figures."""
UNTRAINED = "was trained without contrast (loss.contrast 0), so its projections are as they were at the start"


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(words)
    names = short_names(options.runs)
    store, log = Store(options.data), console()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: Rows = {}
    documents = []
    for run, name in zip(options.runs, names, strict=True):
        model = from_pretrained(run, device)
        check_layout(model, run, store)
        protocol, fold, indices = clips_of(model, store, options.split, options.fold)
        with log.status(f"{name}: {len(indices)} clips"):
            found = collect(model, store, indices, device=device)
            rows[name] = found, figures(found)
        if found.sample_ids.tolist() != rows[names[0]][0].sample_ids.tolist():
            raise UsageError(f"{names[0]} and {name} hold out other clips; name what to compare with --fold")
        config = run / CONFIG_FILE
        loss = read_config(config).loss if config.exists() else None
        about = {"run": name, "contrast": loss and loss.contrast, "positives": loss and loss.positives}
        documents.append(about | {"protocol": protocol.name, "fold": fold} | rows[name][1])
    if options.out:
        with log.status("drawing"):
            draw_embeddings(rows, options.out)
    if options.json:
        print_json({"store": store.path.resolve().name, "split": options.split, "runs": documents})
    else:
        _show(rows, options.split)
    for document in documents:
        if document["contrast"] == 0:
            log.print(f"{document['run']} {UNTRAINED}", soft_wrap=True)
    if options.out:
        log.print(f"picture: {options.out} {class_legend(store.class_names)}".strip(), soft_wrap=True)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "hhmnet embedding",
        "Compare where the streams of a model put clips; of two models, such as one trained without contrast and "
        "one with it, both are shown.",
    )
    add = parser.add_argument
    runs = "run folders, or any folders with models of streams"
    add("runs", nargs="+", type=Path, metavar="RUN", help=runs)
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


def _show(rows: Rows, split: str) -> None:
    out = console(stderr=False)
    for title, (_, found) in rows.items():
        heads = ("projections", ">same class, %", ">same clip, %", ">median place")
        grid = table(f"{title}: {found['clips']} clips of {split}", *heads)
        for name, pair in {**found["retrieval"], "chance": found["chance"]}.items():
            if name == "mean":
                grid.add_section()
            cells = f"{pair['same_class']:.1f}", f"{pair['same_clip']:.1f}", f"{pair['rank']:.1f}"
            grid.add_row(name, *cells, style="bold" if name == "mean" else None)
        out.print(grid)
    grid = table("Figures of the embeddings", "figure", *(f">{title}" for title in rows))
    columns = [_side_by_side(found) for _, found in rows.values()]
    for label in dict.fromkeys(label for column in columns for label in column):
        grid.add_row(label, *(f"{column[label]:.3f}" if label in column else "" for column in columns))
    out.print(grid)


def _side_by_side(found: dict[str, Any]) -> dict[str, float]:
    """The figures of which the runs' stand side by side: agreement of pairs, then silhouettes."""
    values = {f"CKA of {name}": value for name, value in found["agreement"].items() if name != "mean"}
    values |= {"CKA, mean": found["agreement"]["mean"], "CKA, chance": found["chance"]["agreement"]}
    values |= {f"silhouette of {name}": value for name, value in found["silhouette"].items()}
    values["silhouette of all projections by class"] = found["meeting"]["by_class"]
    values["silhouette of all projections by stream"] = found["meeting"]["by_stream"]
    return values
