"""A study: settings of a recipe that are trained over folds and seeds, scored, and tabled beside a baseline.

    python benchmarks/study.py --config configs/nw_ucla/skeleton.yaml --data STORE --out runs/mask \
        --row default --row no-mask model.mask=none --row plain model.mask=none model.reranking=none --seeds 0 1

The first row is the baseline. Every run is an ordinary run folder of ``hhmnet train``. ``README.md`` beside this file
says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import numpy as np
from common import BenchmarkError, positive, run, write_report
from rich.console import Console

from hhmnet.commands.configuration import CONFIG_FILE, read_config, write_config
from hhmnet.commands.evaluate import SCORES_FILE, evaluate_run, stream_scores_file
from hhmnet.commands.terminal import Parser, console, duration, table
from hhmnet.commands.train import WEIGHTS_FILE
from hhmnet.config import TrainConfig
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.scores import Scores
from hhmnet.files import replacing
from hhmnet.store import Store
from hhmnet.training.checkpoint import differing_fields
from hhmnet.training.logs import ENVIRONMENT_FILE

DRAWS = 10_000
"""Resamplings of a bootstrap."""
OUTPUT_FILE = "output.log"
WHOLE, EACH = "", "mean of streams"
"""The whole model's answer among the streams'; the streams' own answers taken together: a clip counts once a stream."""

Fold = int | None
"""A validation fold, or None for the test clips, after training on all others."""
Hits = Mapping[tuple[Fold, Any], np.ndarray]
"""By fold and seed: which of the fold's clips were recognised, ``(N,)`` bool, in one order a fold. What stands in the
seed's place is averaged over: it may be a pair of seed and stream as well."""


@dataclass(frozen=True, eq=False)
class Run:
    """One training of one row: with a fold it is scored on that fold, without on the test clips."""

    row: str
    fold: Fold
    seed: int
    folder: Path
    config: TrainConfig

    @property
    def trained(self) -> bool:
        """Whether the model is there."""
        return (self.folder / WEIGHTS_FILE).exists()

    @property
    def score_files(self) -> dict[str, Path]:
        """Where the scores of the whole answer and, of several streams, of every stream's own are, or will be."""
        folder, streams = self.folder / f"eval-{split_of(self.fold)}", self.config.data.streams
        each = {name: folder / stream_scores_file(name) for name in streams} if len(streams) > 1 else {}
        return {WHOLE: folder / SCORES_FILE} | each

    @property
    def finished(self) -> bool:
        """Whether all scores are there."""
        return all(file.exists() for file in self.score_files.values())


def split_of(fold: Fold) -> str:
    """The clips that a run is scored on."""
    return "test" if fold is None else "val"


def plan(options: argparse.Namespace, flags: list[str], own: list[str]) -> list[Run]:
    """All runs, one fold and seed after another, so that a table of the first of them compares like with like.

    Raises:
        BenchmarkError: a run's folder was made with another configuration.
    """
    rows = {name: [f"--{field}" for field in fields] for name, *fields in options.row}
    configs = {name: read_config(options.config, [*flags, *words], own) for name, words in rows.items()}
    runs = []
    for seed in options.seeds:
        for fold in options.folds:
            for row, config in configs.items():
                threads = 1 if options.jobs > 1 else config.run.threads
                made = replace(config, fold=fold, run=replace(config.run, seed=seed, threads=threads))
                name = f"{'all' if fold is None else f'fold{fold}'}-seed{seed}"
                runs.append(Run(row, fold, seed, options.out / row / name, made))
    for each in runs:
        file = each.folder / CONFIG_FILE
        if file.exists() and (fields := differing_fields(identity(each.config), identity(read_config(file)))):
            changed = ", ".join(fields)
            raise BenchmarkError(
                f"{file}: this run was made with another {changed}; give the same values, or another --out"
            )
    return runs


def identity(config: TrainConfig) -> str:
    """What decides a run's result; how it is carried out may change."""
    fields = asdict(config)
    fields["run"] = {name: fields["run"][name] for name in ("seed", "precision")}
    return json.dumps(fields)


def carry_out(runs: Sequence[Run], store: Store, jobs: int, limit: float | None, log: Console) -> None:
    """Train and score the runs that aren't yet, ``jobs`` at a time; at the limit, or if one fails, all stop.

    A run that is stopped leaves a checkpoint, from which the next call goes on.

    Raises:
        BenchmarkError: a training failed.
    """
    began = time.monotonic()
    unscored = [each for each in runs if each.trained and not each.finished]
    waiting = [each for each in runs if not each.trained]
    working: list[tuple[Run, Popen[bytes]]] = []
    try:
        while waiting or working or unscored:
            left = None if limit is None else began + limit - time.monotonic()
            while waiting and len(working) < jobs and (left is None or left > 0):
                each = waiting.pop(0)
                working.append((each, start(each, store, jobs, left)))
            # One at a time, so that scoring never keeps the cores from the next training.
            if unscored:
                each = unscored.pop(0)
                evaluate_run(
                    each.folder, store, split=split_of(each.fold), device=each.config.run.device, log=log
                )
            elif working:
                time.sleep(0.1)
            else:
                return
            for each, process in [pair for pair in working if pair[1].poll() is not None]:
                working.remove((each, process))
                if process.returncode:
                    lines = (each.folder / OUTPUT_FILE).read_text(errors="replace").split("\n")
                    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
                    raise BenchmarkError(f"{each.folder}: training failed: {last}")
                if each.trained:
                    unscored.append(each)
    finally:
        for _, process in working:
            process.terminate()
        for _, process in working:
            process.wait()


def start(each: Run, store: Store, jobs: int, seconds: float | None) -> Popen[bytes]:
    """``hhmnet train`` in the run's folder, from its checkpoint if there is one."""
    each.folder.mkdir(parents=True, exist_ok=True)
    write_config(each.config, each.folder / CONFIG_FILE)
    command = [sys.executable, "-m", "hhmnet", "train", "--resume"]
    command += ["--data", str(store.path), "--out", str(each.folder)]
    if seconds is not None:
        command += ["--time-limit", f"{max(seconds, 1):.0f}s"]
    # Threads that wait for each other by spinning would take the other runs' cores.
    alone = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"} if jobs > 1 else {}
    with open(each.folder / OUTPUT_FILE, "ab") as output:
        return Popen(command, env=os.environ | alone, stdout=output, stderr=STDOUT)


def read_hits(each: Run, store: Store) -> dict[str, np.ndarray]:
    """By answer, which labelled clips the run gets right, ``(N,)`` bool, in the store's order, labels as in training.

    Raises:
        BenchmarkError: the scores are of other clips or classes than the store's.
    """
    protocol = get_protocol(each.config.protocol or store.protocol)
    rows = protocol.indices(store, split_of(each.fold), each.fold)
    labels = protocol.labels(store, each.config.relabel)[rows]
    hits = {}
    for name, file in each.score_files.items():
        scores = Scores.load(file)
        same = np.array_equal(scores.sample_ids, store.sample_ids[rows])
        if not same or scores.class_names != store.class_names:
            part = "the test" if each.fold is None else f"fold {each.fold}"
            raise BenchmarkError(f"{file}: not the clips of {part} of {store.path}; name another --out")
        hits[name] = scores.predictions[labels >= 0] == labels[labels >= 0]
    return hits


def top1(hits: Hits) -> tuple[dict[str, float], float]:
    """Top-1 in percent: each fold's mean over its seeds, and the mean of those."""
    folds: dict[str, list[float]] = {}
    for fold, seed in sorted(hits, key=str):
        folds.setdefault("test" if fold is None else f"fold {fold}", []).append(
            100 * float(hits[fold, seed].mean())
        )
    means = {fold: float(np.mean(values)) for fold, values in folds.items()}
    return means, float(np.mean(list(means.values())))


def difference(row: Hits, baseline: Hits, draws: int = DRAWS) -> tuple[float, tuple[float, float]] | None:
    """Mean difference in top-1, in points, over the folds and seeds that both have, and its 95 % interval.

    The interval is a paired bootstrap over clips: a clip that is drawn brings its outcomes under
    both rows and under all seeds. Every fold's clips are drawn among themselves, so that a fold has the same
    weight in every draw.

    Returns:
        None if the two have no fold and seed in common.
    """
    shared = row.keys() & baseline.keys()
    folds = {fold for fold, _ in shared}
    if not folds:
        return None
    random = np.random.default_rng(0)
    mean, drawn = 0.0, np.zeros(draws)
    for fold in sorted(folds, key=str):
        keys = [key for key in shared if key[0] == fold]
        gain = np.sum([row[key].astype(np.int64) - baseline[key] for key in keys], axis=0)
        points = 100 / (len(gain) * len(keys) * len(folds))
        mean += points * float(gain.sum())
        # Clips of equal gain are alike, so it is enough to draw how many of each kind there are.
        kinds, counts = np.unique(gain, return_counts=True)
        drawn += points * (random.multinomial(len(gain), counts / len(gain), draws) @ kinds)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return mean, (float(low), float(high))


def outcome(hits: Hits, baseline: Hits) -> dict[str, Any]:
    """Top-1 by run, by fold and over all, and the difference to a baseline; None where there is none."""
    figures: dict[str, Any] = {"runs": {}, "folds": {}, "mean": None, "difference": None}
    if hits:
        figures["runs"] = {str(key): 100 * float(hit.mean()) for key, hit in hits.items()}
        figures["folds"], figures["mean"] = top1(hits)
    if found := difference(hits, baseline):
        figures["difference"] = {"mean": found[0], "interval": list(found[1])}
    return figures


def summary(hits: Mapping[str, Mapping[str, Hits]]) -> dict[str, dict[str, Any]]:
    """For every row its figures, and those of its streams, beside the first row's.

    Args:
        hits: by row, those of the whole model (:data:`WHOLE`) and, of several streams, of every stream.
    """
    rows: dict[str, dict[str, Any]] = {}
    first = next(iter(hits))
    for name, answers in hits.items():
        others: Mapping[str, Hits] = {} if name == first else hits[first]
        rows[name] = outcome(answers[WHOLE], others.get(WHOLE, {}))
        streams = [stream for stream in answers if stream != WHOLE]
        if streams:
            rows[name]["streams"] = {
                stream: outcome(answers[stream], others.get(stream, {})) for stream in streams
            } | {EACH: outcome(_together(answers), _together(others))}
    return rows


def _together(answers: Mapping[str, Hits]) -> Hits:
    return {
        (fold, (seed, stream)): hit
        for stream, hits in answers.items()
        if stream != WHOLE
        for (fold, seed), hit in hits.items()
    }


def lines_of(rows: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """The table as text, its headings first: a line a row, then one a row and stream."""
    folds = sorted({fold for figures in rows.values() for fold in figures["folds"]})
    every = dict(rows)
    for name, figures in rows.items():
        every |= {f"{name}, {stream}": part for stream, part in figures.get("streams", {}).items()}
    lines = [["row", *folds, "mean", "difference", "95 % interval", "runs"]]
    for name, figures in every.items():
        shares = [figures["folds"].get(fold) for fold in folds] + [figures["mean"]]
        cells = [name, *("" if share is None else f"{share:.2f}" for share in shares)]
        if gain := figures["difference"]:
            low, high = gain["interval"]
            cells += [f"{gain['mean']:+.2f}", f"{low:+.2f}..{high:+.2f}"]
        else:
            cells += ["", ""]
        lines.append([*cells, str(len(figures["runs"]))])
    return lines


def report(runs: Sequence[Run], store: Store, out: Path) -> None:
    """Print the table of the runs that are finished, and write ``study.json`` and ``study.md``."""
    finished = [each for each in runs if each.finished]
    hits: dict[str, dict[str, dict[tuple[Fold, int], np.ndarray]]] = {}
    for each in runs:
        hits.setdefault(each.row, {name: {} for name in each.score_files})
    for each in finished:
        for name, hit in read_hits(each, store).items():
            hits[each.row][name][each.fold, each.seed] = hit
    rows = summary(hits)
    headings, *lines = lines_of(rows)
    where = "the test clips" if runs[0].fold is None else "validation folds"
    title = f"top-1 % on {where}, {len(finished)} of {len(runs)} runs"
    view = table(title, headings[0], *(f">{heading}" for heading in headings[1:]))
    for line in lines:
        view.add_row(*line)
    console(stderr=False).print(view)
    rule = ["---", *(["---:"] * (len(headings) - 1))]
    with replacing(out / "study.md") as handle:
        handle.write("".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rule, *lines)).encode())
    facts = {str(each.folder): json.loads((each.folder / ENVIRONMENT_FILE).read_text()) for each in finished}
    document = {"store": store.path.resolve().name, "title": title, "rows": rows, "environments": facts}
    write_report(document, out / "study.json")


def whole(text: str) -> int:
    """A whole number from 0; raises argparse's error otherwise."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def fold_of(text: str) -> Fold:
    """A fold's number, or ``none``."""
    return None if text == "none" else whole(text)


def main(words: list[str]) -> None:
    """Train, score and table."""
    parser = Parser(
        "study.py",
        "Train settings of a recipe over folds and seeds, and table them beside the first one. Any field of the "
        "recipe can be given as a flag, such as --optim.lr 1e-3. The same call again goes on where it was stopped.",
    )
    add = parser.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="recipe")
    add("--data", type=Path, required=True, metavar="STORE", help="store that `hhmnet prepare` made")
    add("--out", type=Path, required=True, metavar="FOLDER", help="folder of the runs and the table")
    row = "a setting and the recipe's fields that it changes, as field=value; the first one is the baseline"
    add("--row", nargs="+", action="append", required=True, metavar="NAME", help=row)
    add("--seeds", nargs="+", type=whole, default=[0], metavar="S", help="seeds (0)")
    test = "validation folds (0 1); none trains on all training clips and scores the test clips"
    add("--folds", nargs="+", type=fold_of, default=[0, 1], metavar="K", help=test)
    jobs = "runs at a time; of several, each has one thread (1)"
    add("--jobs", type=positive(int), default=1, metavar="N", help=jobs)
    add("--time-limit", type=duration, metavar="TIME", help="checkpoint and stop after 90s, 9m, 1.5h in all")
    add("--table", action="store_true", help="train nothing; table of the runs that are finished")
    options, flags = parser.parse_known_args(words)
    if None in options.folds and len(set(options.folds)) > 1:
        parser.error("--folds none scores the test clips; folds don't go with it")
    store = Store(options.data)
    runs = plan(options, flags, [name.removeprefix("--") for name in parser._option_string_actions])
    for each in runs[: len(options.folds) * len(options.row)]:
        get_protocol(each.config.protocol or store.protocol).indices(store, split_of(each.fold), each.fold)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        if not options.table:
            carry_out(runs, store, options.jobs, options.time_limit, console())
    except KeyboardInterrupt:
        raise BenchmarkError("interrupted; the same call again goes on") from None
    finished = sum(each.finished for each in runs)
    if finished < len(runs):
        console().print(f"{finished} of {len(runs)} runs are finished; the same call again goes on")
    if finished:
        report(runs, store, options.out)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the runs get to checkpoint
    sys.exit(run(main))
