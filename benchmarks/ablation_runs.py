"""The runs of ``ablation.py``: which row changes what, and how they are trained and scored."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import numpy as np
from ablation_table import DEFAULT
from rich.console import Console

from hhmnet.commands.configuration import read_config, write_config
from hhmnet.commands.evaluate import SCORES_FILE, evaluate_run
from hhmnet.commands.train import CONFIG_FILE, WEIGHTS_FILE
from hhmnet.config import TrainConfig
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.scores import Scores
from hhmnet.models.pretrained import ModelSpec
from hhmnet.store import Store
from hhmnet.training.checkpoint import differing_fields

PARTS: dict[str, Any] = {"mask": "topk", "reranking": "jaccard", "select": True}
ROWS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "mask-none": {"mask": "none"},
    "mask-threshold": {"mask": "threshold"},
    "mask-random": {"mask": "random"},
    "reranking-none": {"reranking": "none"},
    "reranking-reciprocal": {"reranking": "reciprocal"},
    "plain-attention": {"mask": "none", "reranking": "none"},
    "select-false": {"select": False},
}
OUTPUT_FILE = "output.log"


class AblationError(ValueError):
    """An ablation that can't be carried out; the message says what to change."""


@dataclass(frozen=True, eq=False)
class Run:
    """One training of one row."""

    row: str
    fold: int
    seed: int
    folder: Path
    config: TrainConfig

    @property
    def trained(self) -> bool:
        """Whether the model is there."""
        return (self.folder / WEIGHTS_FILE).exists()

    @property
    def scores(self) -> Path:
        """Where the scores of the validation clips are, or will be."""
        return self.folder / "eval-val" / SCORES_FILE


def row_config(base: TrainConfig, row: str) -> TrainConfig:
    """The recipe with all parts of ST&ST switched on, but for what the row changes."""
    return replace(base, model=replace(base.model, **PARTS | ROWS[row]))


def plan(options: argparse.Namespace, base: TrainConfig) -> list[Run]:
    """All runs, one fold and seed after another, so that a table of the first of them compares like with like."""
    runs = []
    for seed in options.seeds:
        for fold in options.folds:
            for row in options.rows:
                config = row_config(base, row)
                threads = 1 if options.jobs > 1 else config.run.threads
                config = replace(config, fold=fold, run=replace(config.run, seed=seed, threads=threads))
                runs.append(Run(row, fold, seed, options.out / row / f"fold{fold}-seed{seed}", config))
    return runs


def check_same(run: Run) -> None:
    """Raise AblationError if the run's folder was made with another configuration."""
    file = run.folder / CONFIG_FILE
    if file.exists() and (changed := differing_fields(_identity(run.config), _identity(read_config(file)))):
        raise AblationError(
            f"{file}: this run was made with another {', '.join(changed)}; give the same values, or another --out"
        )


def _identity(config: TrainConfig) -> str:
    """What decides a run's result; how it is carried out may change."""
    fields = asdict(config)
    fields["run"] = {name: fields["run"][name] for name in ("seed", "precision")}
    return json.dumps(fields)


def start(run: Run, store: Store, jobs: int, seconds: float | None) -> Popen[bytes]:
    """``hhmnet train`` in the run's folder, from its checkpoint if there is one."""
    run.folder.mkdir(parents=True, exist_ok=True)
    write_config(run.config, run.folder / CONFIG_FILE)
    command = [sys.executable, "-m", "hhmnet", "train", "--resume"]
    command += ["--data", str(store.path), "--out", str(run.folder)]
    if seconds is not None:
        command += ["--time-limit", f"{max(seconds, 1):.0f}s"]
    # Threads that wait for each other by spinning would take the other runs' cores.
    alone = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"} if jobs > 1 else {}
    with open(run.folder / OUTPUT_FILE, "ab") as output:
        return Popen(command, env=os.environ | alone, stdout=output, stderr=STDOUT)


def carry_out(runs: Sequence[Run], store: Store, jobs: int, limit: float | None, log: Console) -> None:
    """Train and score the runs that aren't yet, ``jobs`` at a time; at the limit, or if one fails, all stop.

    A run that is stopped leaves a checkpoint, from which the next call goes on.

    Raises:
        AblationError: a training failed.
    """
    began = time.monotonic()
    for run in runs:
        if run.trained and not run.scores.exists():
            score_run(run, store, log)
    waiting = [run for run in runs if not run.trained]
    working: list[tuple[Run, Popen[bytes]]] = []
    try:
        while waiting or working:
            left = None if limit is None else began + limit - time.monotonic()
            while waiting and len(working) < jobs and (left is None or left > 0):
                run = waiting.pop(0)
                working.append((run, start(run, store, jobs, left)))
            if not working:
                return
            time.sleep(0.1)
            for run, process in [(run, process) for run, process in working if process.poll() is not None]:
                working.remove((run, process))
                if process.returncode:
                    raise AblationError(f"{run.folder}: training failed: {_last_words(run)}")
                if run.trained:
                    score_run(run, store, log)
    finally:
        for _, process in working:
            process.terminate()
        for _, process in working:
            process.wait()


def _last_words(run: Run) -> str:
    lines = (run.folder / OUTPUT_FILE).read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"{OUTPUT_FILE} is empty")


def score_run(run: Run, store: Store, log: Console) -> None:
    """``hhmnet evaluate --split val`` on a trained run."""
    figures, _ = evaluate_run(run.folder, store, split="val", device=run.config.run.device, log=log)
    log.print(f"{run.row}, fold {run.fold}, seed {run.seed}: {figures['top1']:.2f} %", soft_wrap=True)


def read_hits(run: Run, store: Store) -> np.ndarray:
    """Which labelled validation clips the run gets right, ``(N,)`` bool, in the store's order.

    Raises:
        AblationError: the scores are of other clips than the store's.
    """
    rows = get_protocol(run.config.protocol or store.protocol).indices(store, "val", run.fold)
    scores = Scores.load(run.scores)
    if not (
        np.array_equal(scores.sample_ids, store.sample_ids[rows])
        and np.array_equal(scores.labels, store.labels[rows])
    ):
        raise AblationError(
            f"{run.scores}: not the clips of fold {run.fold} of {store.path}; name another --out"
        )
    known = scores.labels >= 0
    return scores.logits[known].argmax(1) == scores.labels[known]


def count_parameters(config: TrainConfig, store: Store) -> int:
    """Trainable weights of the row's network; raises AblationError if the recipe makes none."""
    try:
        network = ModelSpec(config.model, config.data, store.layout, store.class_names).build()
    except ValueError as error:
        raise AblationError(f"the recipe can't be used: {error}") from None
    return sum(weight.numel() for weight in network.parameters())
