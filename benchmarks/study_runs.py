"""The runs of a study (``study.py``): how they are trained, several at a time, and scored."""

from __future__ import annotations

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
from rich.console import Console
from study_table import FUSED, Fold, run_name

from hhmnet.commands.configuration import read_config, write_config
from hhmnet.commands.evaluate import SCORES_FILE, evaluate_run, stream_scores_file
from hhmnet.commands.train import CONFIG_FILE, WEIGHTS_FILE
from hhmnet.config import TrainConfig
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.scores import Scores
from hhmnet.models.pretrained import ModelSpec
from hhmnet.store import Store
from hhmnet.training.checkpoint import differing_fields

OUTPUT_FILE = "output.log"


class StudyError(ValueError):
    """A study that can't be carried out; the message says what to change."""


@dataclass(frozen=True, eq=False)
class Row:
    """One setting that is measured.

    Attributes:
        name: in the table and of the runs' folder.
        against: name of the row that it is compared with; a baseline is compared with itself.
        settings: what makes the row, for the report.
        config: the recipe with the row's settings.
    """

    name: str
    against: str
    settings: dict[str, Any]
    config: TrainConfig


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
    def split(self) -> str:
        """The clips that it is scored on."""
        return "test" if self.fold is None else "val"

    @property
    def score_files(self) -> dict[str, Path]:
        """Where the scores of every one of its :func:`answers` are, or will be."""
        folder = self.folder / f"eval-{self.split}"
        return {
            name: folder / (SCORES_FILE if name == FUSED else stream_scores_file(name))
            for name in answers(self.config)
        }

    @property
    def finished(self) -> bool:
        """Whether all scores are there."""
        return all(file.exists() for file in self.score_files.values())


def answers(config: TrainConfig) -> tuple[str, ...]:
    """What a model is scored on: its whole answer (:data:`FUSED`) and, of several streams, every stream's own."""
    streams = config.data.streams
    return (FUSED, *streams) if len(streams) > 1 else (FUSED,)


def plan(rows: Sequence[Row], folds: Sequence[Fold], seeds: Sequence[int], out: Path, jobs: int) -> list[Run]:
    """All runs, one fold and seed after another, so that a table of the first of them compares like with like."""
    runs = []
    for seed in seeds:
        for fold in folds:
            for row in rows:
                threads = 1 if jobs > 1 else row.config.run.threads
                run = replace(row.config.run, seed=seed, threads=threads)
                config = replace(row.config, fold=fold, run=run)
                runs.append(Run(row.name, fold, seed, out / row.name / run_name(fold, seed), config))
    return runs


def check_same(run: Run) -> None:
    """Raise StudyError if the run's folder was made with another configuration."""
    file = run.folder / CONFIG_FILE
    if file.exists() and (changed := differing_fields(_identity(run.config), _identity(read_config(file)))):
        raise StudyError(
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
        StudyError: a training failed.
    """
    began = time.monotonic()
    unscored = [run for run in runs if run.trained and not run.finished]
    waiting = [run for run in runs if not run.trained]
    working: list[tuple[Run, Popen[bytes]]] = []
    try:
        while waiting or working or unscored:
            left = None if limit is None else began + limit - time.monotonic()
            while waiting and len(working) < jobs and (left is None or left > 0):
                run = waiting.pop(0)
                working.append((run, start(run, store, jobs, left)))
            # One at a time, so that scoring never keeps the cores from the next training.
            if unscored:
                score_run(unscored.pop(0), store, log)
            elif working:
                time.sleep(0.1)
            else:
                return
            for run, process in [(run, process) for run, process in working if process.poll() is not None]:
                working.remove((run, process))
                if process.returncode:
                    raise StudyError(f"{run.folder}: training failed: {_last_words(run)}")
                if run.trained:
                    unscored.append(run)
    finally:
        for _, process in working:
            process.terminate()
        for _, process in working:
            process.wait()


def _last_words(run: Run) -> str:
    lines = (run.folder / OUTPUT_FILE).read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), f"{OUTPUT_FILE} is empty")


def score_run(run: Run, store: Store, log: Console) -> None:
    """``hhmnet evaluate`` on a trained run."""
    evaluate_run(run.folder, store, split=run.split, device=run.config.run.device, log=log)
    share = 100 * read_hits(run, store)[FUSED].mean()
    log.print(f"{run.row}, {run_name(run.fold, run.seed)}: {share:.2f} %", soft_wrap=True)


def true_labels(config: TrainConfig, store: Store, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the store of the clips that are scored, ``(N,)``, and their labels, corrected as in training."""
    protocol = get_protocol(config.protocol or store.protocol)
    rows = protocol.indices(store, "test" if fold is None else "val", fold)
    return rows, protocol.labels(store, config.relabel)[rows]


def read_hits(run: Run, store: Store) -> dict[str, np.ndarray]:
    """By answer, which labelled clips the run gets right, ``(N,)`` bool, in the store's order.

    Raises:
        StudyError: the scores are of other clips or classes than the store's.
    """
    rows, labels = true_labels(run.config, store, run.fold)
    hits = {}
    for name, file in run.score_files.items():
        scores = Scores.load(file)
        same = np.array_equal(scores.sample_ids, store.sample_ids[rows])
        if not same or scores.class_names != store.class_names:
            part = "the test" if run.fold is None else f"fold {run.fold}"
            raise StudyError(f"{file}: not the clips of {part} of {store.path}; name another --out")
        hits[name] = scores.logits[labels >= 0].argmax(1) == labels[labels >= 0]
    return hits


def count_parameters(config: TrainConfig, store: Store) -> int:
    """Trainable weights of the row's network; raises StudyError if the recipe makes none."""
    try:
        spec = ModelSpec(config.model, config.data, store.layout, store.class_names, fusion=config.fusion)
        network = spec.build()
    except ValueError as error:
        raise StudyError(f"the recipe can't be used: {error}") from None
    return sum(weight.numel() for weight in network.parameters())
