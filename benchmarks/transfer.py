"""What carries over: accuracy over the number of training clips a class, with a model's encoders and without.

    python benchmarks/transfer.py --data stores/nw_ucla --init MODEL --out transfer.jsonl --protocol nw_ucla_cross_view

Three ways to the same classes: "nothing" trains from chance weights, "init" is `hhmnet train --init MODEL`, "head" is
`hhmnet enroll MODEL`. Network and preprocessing are MODEL's in all of them, the rest is ``--config``'s. A draw's few
clips are among its many. Fold 0 of the training clips is scored, or ``--fold``, by which anything may be chosen; with
``--test`` the test clips are, once all is chosen. The same call again goes on where it was stopped.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from ablation import SMALL, changed_fields
from common import BenchmarkError, positive, run

from hhmnet.commands.configuration import read_config
from hhmnet.commands.terminal import Parser, console, duration, table
from hhmnet.config import TrainConfig
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.figures import new_figure, save_figure
from hhmnet.evaluation.scores import score
from hhmnet.files import append
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.predict.enroll import Examples, embed, enrolled
from hhmnet.store import Store
from hhmnet.training.engine import Trainer

KEY = ("way", "size", "draw", "seed")
WAYS = {"nothing": "from chance weights", "init": "train --init", "head": "enroll"}


class Clips:
    """The clips of a store that train and those that are scored: a fold's, or without one the test clips."""

    def __init__(self, store: Store, config: TrainConfig) -> None:
        protocol = get_protocol(config.protocol or store.protocol)
        self.store, self.labels = store, protocol.labels(store, config.relabel)
        train = protocol.indices(store, "train", config.fold)
        scored = protocol.indices(store, "test" if config.fold is None else "val", config.fold)
        self.train, self.scored = (rows[self.labels[rows] >= 0] for rows in (train, scored))

    def draw(self, size: int, draw: int, by: str) -> np.ndarray:
        """Positions of the clips to train on: so many of each class, or all of so many subjects."""
        random = np.random.default_rng(draw)
        if by == "subject":
            subjects = random.permutation(np.unique(self.store.subjects[self.train]))[:size]
            return self.train[np.isin(self.store.subjects[self.train], subjects)]
        groups = [
            self.train[self.labels[self.train] == label] for label in range(len(self.store.class_names))
        ]
        return np.sort(np.concatenate([random.permutation(group)[:size] for group in groups]))


def trained(config: TrainConfig, clips: Clips, rows: np.ndarray, steps: int) -> np.ndarray:
    """Train on these clips alone, as a recipe that leaves out all others; returns which scored clips are right."""
    others = np.setdiff1d(clips.train, rows)
    batches = max(len(rows) // config.optim.batch_size, 1)
    epochs = -(-steps // batches)
    share = config.optim.warmup_epochs / config.optim.epochs
    config = replace(
        config,
        relabel=config.relabel | dict.fromkeys(clips.store.sample_ids[others].tolist(), ""),
        optim=replace(config.optim, epochs=epochs, warmup_epochs=share * epochs),
        run=replace(config.run, checkpoint_every=epochs, validate_every=epochs),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, clips.store, Path(folder))
        model = trainer.train()
    scores = score(model.to(trainer.device), clips.store, clips.scored, device=trainer.device)
    return scores.logits.argmax(1) == clips.labels[clips.scored]


def fitted(model: ActionModel, embeddings: np.ndarray, clips: Clips, rows: np.ndarray) -> np.ndarray:
    """Fit a head on the embeddings of all clips at these positions; returns which scored clips are right."""
    lengths = clips.store.lengths[rows]
    examples = Examples(clips.store.class_names, clips.labels[rows], embeddings[rows], lengths)
    _, head = enrolled(model, examples)
    logits = np.einsum("ksd,nsd->nk", head.weight, embeddings[clips.scored]) + head.bias
    return logits.argmax(1) == clips.labels[clips.scored]


def report(lines: Sequence[dict[str, Any]], by: str, picture: Path | None) -> None:
    """Table the outcomes; as a picture too, with a band from the lowest to the highest draw."""
    what = "clips a class" if by == "class" else "subjects"
    view = table(
        "top-1 %, the mean over draws (lowest to highest)", what, *(f">{way}" for way in WAYS.values())
    )
    figure = new_figure(6, 4)
    axes, sizes = figure.add_subplot(), sorted({line["size"] for line in lines})
    points = {way: [top1(lines, way, size) for size in sizes] for way in WAYS}
    for number, size in enumerate(sizes):
        each = [points[way][number] for way in WAYS]
        view.add_row(str(size), *(f"{x.mean():.1f} ({x.min():.1f} to {x.max():.1f})" for x in each))
    console(stderr=False).print(view)
    for way, label in WAYS.items():
        (line,) = axes.plot(sizes, [x.mean() for x in points[way]], "o-", label=label)
        low, high = ([edge(x) for x in points[way]] for edge in (np.min, np.max))
        axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlabel=f"training {what}", ylabel="top-1, %")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    if picture is not None:
        save_figure(figure, picture)


def top1(lines: Sequence[dict[str, Any]], way: str, size: int) -> np.ndarray:
    """Top-1 of every draw in percent, the mean over its seeds; one that isn't a number where there is none."""
    found: dict[int, list[float]] = {}
    for line in lines:
        if (line["way"], line["size"]) == (way, size):
            found.setdefault(line["draw"], []).append(100 * line["right"].count("1") / len(line["right"]))
    return np.array([np.mean(each) for each in found.values()] or [np.nan])


def main(words: list[str]) -> None:
    """Train and fit what isn't there yet, and table all."""
    about = "Accuracy over the number of training clips, with a model's encoders and without."
    parser = Parser("transfer.py", f"{about} Any field of the configuration can be a flag.")
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="STORE", help="store of `hhmnet prepare`")
    add("--init", required=True, metavar="MODEL", help="trained model whose encoders are started from")
    add("--out", type=Path, required=True, metavar="FILE", help="file of JSON lines, a line an outcome")
    add("--config", type=Path, default=SMALL, metavar="FILE", help="recipe (kinect20.yaml)")
    sizes = {"nargs": "+", "type": positive(int), "default": [1, 2, 5, 10, 20]}
    add("--sizes", **sizes, metavar="N", help="clips of each class, or all that it has")
    add("--by", choices=("class", "subject"), default="class", help="or sizes count subjects")
    add("--draws", type=positive(int), default=5, metavar="N", help="draws of clips (5)")
    add("--seeds", nargs="+", type=int, default=[0], metavar="S", help="seeds of a training (0)")
    add("--steps", type=positive(int), default=400, metavar="N", help="steps of a training (400)")
    add("--test", action="store_true", help="score the test clips; all training clips may be drawn")
    add("--picture", type=Path, metavar="FILE", help="PNG of the curves")
    add("--time-limit", type=duration, metavar="TIME", help="begin nothing after 90s, 9m, 1.5h")
    options, flags = parser.parse_known_args(words)
    own = [name.removeprefix("--") for name in parser._option_string_actions]
    model, log, began = from_pretrained(options.init, all_heads=True), console(), time.monotonic()
    config = read_config(options.config, flags, own)
    config = replace(
        config,
        **{name: getattr(model.spec, name) for name in ("model", "data", "fusion")},
        fold=None if options.test else config.fold or 0,
    )
    clips, lines = Clips(Store(options.data), config), []
    embeddings = embed(model, [clips.store.sample(row) for row in range(len(clips.store))])
    text = options.out.read_text() if options.out.exists() else ""
    done = {tuple(line[name] for name in KEY): line for line in map(json.loads, text.splitlines())}
    asked = [
        (way, size, draw, seed)
        for draw in range(options.draws)
        for size in options.sizes
        for way in WAYS
        for seed in (options.seeds if way != "head" else [0])
    ]
    for number, (way, size, draw, seed) in enumerate(asked, 1):
        init = options.init if way == "init" else ""
        mine = replace(config, init=init, run=replace(config.run, seed=seed))
        fields = asdict(replace(mine, relabel={})) | {"steps": options.steps, "by": options.by}
        fields = json.loads(json.dumps(fields | {"run": {"precision": config.run.precision}}))
        line = done.get((way, size, draw, seed))
        if line is not None and (changed := changed_fields(fields, line["config"])):
            raise BenchmarkError(f"{options.out}: was made with another {', '.join(changed)}")
        late = options.time_limit is not None and time.monotonic() - began > options.time_limit
        if line is None and not late:
            rows, start = clips.draw(size, draw, options.by), time.monotonic()
            with log.status(f"{WAYS[way]}, {size}, draw {draw}, seed {seed}: {number} of {len(asked)}"):
                if way == "head":
                    right = fitted(model, embeddings, clips, rows)
                else:
                    right = trained(mine, clips, rows, options.steps)
            line = dict(zip(KEY, (way, size, draw, seed), strict=True)) | {
                "clips": len(rows),
                "config": fields,
            }
            line |= {
                "seconds": time.monotonic() - start,
                "right": "".join("01"[hit] for hit in right.tolist()),
            }
            append(options.out, (json.dumps(line) + "\n").encode())
        lines += [line] if line is not None else []
    if len(lines) < len(asked):
        log.print(f"{len(lines)} of {len(asked)} outcomes are there; the same call again goes on")
    if lines:
        report(lines, options.by, options.picture)


if __name__ == "__main__":
    sys.exit(run(main))
