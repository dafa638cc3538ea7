"""An ablation: rows of settings, each trained over folds and seeds on several sets at once, beside a control row.

    python benchmarks/ablation.py --rows rows.yaml --data S1 S2 S3 S4 --out ablation.jsonl --seeds 0 1 2 --threads 2

``rows.yaml`` has a row's name and the fields that it changes in ``--config`` (the small setting, ``kinect20.yaml``):

    control: {}
    no mask: {model.mask: none}

Every training appends a line to ``--out``: which held-out clips it got right, whole and with each part knocked out. The
same call again goes on where it was stopped. ``README.md`` beside this file says how to read the tables.
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
import yaml
from common import BenchmarkError, positive, run

from hhmnet.commands.configuration import read_config
from hhmnet.commands.terminal import Parser, console, duration, table
from hhmnet.config import TrainConfig
from hhmnet.evaluation.knock_out import WHOLE, answers_without
from hhmnet.files import append
from hhmnet.store import Store
from hhmnet.training.engine import Trainer
from hhmnet.training.logs import environment

SMALL = Path(__file__).with_name("kinect20.yaml")
DRAWS = 4_000
"""Resamplings of a bootstrap."""
Hits = dict[tuple[int, int], dict[str, np.ndarray]]
"""By fold and seed, then by set: 1 for every held-out clip that was recognised, 0 for every other, ``(N,)``."""


def plan(rows: Path, base: Path, flags: Sequence[str], own: Sequence[str]) -> dict[str, TrainConfig]:
    """The configuration of every row; raises BenchmarkError naming the file and the row."""
    try:
        content = yaml.safe_load(rows.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{rows}: not YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content.values()):
        raise BenchmarkError(f"{rows}: must hold rows such as 'no mask: {{model.mask: none}}'")
    found = {}
    for name, row in content.items():
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
        try:
            found[str(name)] = read_config(base, [*flags, *(f"--{key}={texts[key]}" for key in texts)], own)
        except ValueError as error:
            raise BenchmarkError(f"{rows}: row '{name}': {error}") from None
    return found


def changed_fields(new: dict[str, Any], old: dict[str, Any], above: str = "") -> list[str]:
    """Dotted names of the fields that both have and that differ: what one lacks, a version of this code lacked."""
    names = [name for name in new if name in old and new[name] != old[name]]
    nested = [name for name in names if isinstance(new[name], dict) and isinstance(old[name], dict)]
    below = [one for name in nested for one in changed_fields(new[name], old[name], f"{above}{name}.")]
    return [f"{above}{name}" for name in names if name not in nested] + below


def train(config: TrainConfig, stores: Sequence[Store]) -> dict[str, Any]:
    """Train, score the clips that the fold held out, and again without each part."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, stores, Path(folder))
        model = trainer.train()
    cost = {"seconds": trainer.seconds, "processor_seconds": time.process_time() - began}
    right: dict[str, dict[str, str]] = {}
    heads = [model.head(head.name) for head in model.spec.heads] or [model]
    for head, store, protocol in zip(heads, trainer.stores, trainer.protocols, strict=True):
        clips, name = protocol.indices(store, "val", config.fold), store.path.resolve().name
        labels = protocol.labels(store, config.relabel)[clips]
        head, clips, labels = head.to(trainer.device), clips[labels >= 0], labels[labels >= 0]
        for part, logits in answers_without(head, store, clips, device=trainer.device).items():
            hits = (logits.argmax(1) == labels).tolist()
            right.setdefault(part, {})[name] = "".join("01"[hit] for hit in hits)
    return {"right": right, **cost, "environment": environment(trainer.device)}


def hits_of(lines: Sequence[dict[str, Any]], row: str, part: str = WHOLE) -> Hits:
    """What the trainings of a row got right, whole or without a part."""
    return {
        (line["fold"], line["seed"]): {
            name: np.array(list(hit), int) for name, hit in line["right"][part].items()
        }
        for line in lines
        if line["row"] == row
    }


def gains(ours: Hits, theirs: Hits) -> list[np.ndarray]:
    """Of every set what each clip gains, ``(seeds, N)``: -1, 0 or 1, the folds' clips side by side.

    Folds and seeds count that both have; a seed that lacks one of these folds doesn't.
    """
    shared = ours.keys() & theirs.keys()
    folds = sorted({fold for fold, _ in shared})
    seeds = [seed for seed in sorted({seed for _, seed in shared}) if all((f, seed) in shared for f in folds)]

    def of_seed(name: str, seed: int) -> np.ndarray:
        return np.concatenate([ours[fold, seed][name] - theirs[fold, seed][name] for fold in folds])

    names = ours[folds[0], seeds[0]] if seeds else ()
    return [np.stack([of_seed(name, seed) for seed in seeds]) for name in names]


def difference(sets: Sequence[np.ndarray], draws: int = DRAWS) -> tuple[float, float, float]:
    """Mean gain in points, the mean over sets, and its 95 % interval by a paired bootstrap over clips and seeds.

    Args:
        sets: of every set ``(seeds, N)``, see :func:`gains`. A draw takes seeds, and of each set clips, with
            replacement; a clip that is drawn brings its outcomes under both rows and all drawn seeds.
        draws: how many.
    """
    random, drawn = np.random.default_rng(0), np.zeros(draws)

    def shares(count: int) -> np.ndarray:
        return random.multinomial(count, np.full(count, 1 / count), draws) / count

    seeds = shares(len(sets[0]))
    for gain in sets:
        drawn += 100 / len(sets) * (shares(gain.shape[1]) @ gain.T * seeds).sum(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return 100 * float(np.mean([gain.mean() for gain in sets])), float(low), float(high)


def report(lines: Sequence[dict[str, Any]], rows: Sequence[str], control: str) -> None:
    """Print every row's top-1 beside the control's, and what its parts are worth to its trained models."""
    sets = list(lines[0]["right"][WHOLE])
    heads = *sets, "mean", "gain", "95 %", "seconds", "runs"
    view = table("held-out clips, top-1 %", "row", *(f">{head}" for head in heads))
    parts = table("parts knocked out", "row", "without", ">lost, won", ">it brings", ">95 %")
    for name in rows:
        mine, own = [line for line in lines if line["row"] == name], hits_of(lines, name)
        if not mine:
            continue
        shares = [100 * float(np.concatenate([hit[one] for hit in own.values()]).mean()) for one in sets]
        cells = [f"{share:.2f}" for share in (*shares, np.mean(shares))]
        cells += points([] if name == control else gains(own, hits_of(lines, control)))
        view.add_row(name, *cells, f"{np.mean([line['seconds'] for line in mine]):.0f}", str(len(mine)))
        for part in list(mine[0]["right"])[1:]:
            brought = gains(own, hits_of(lines, name, part))
            lost, won = (sum(int((gain == sign).sum()) for gain in brought) for sign in (1, -1))
            parts.add_row(name, part, f"{lost}, {won}", *points(brought))
    console(stderr=False).print(view, parts)


def points(sets: Sequence[np.ndarray]) -> list[str]:
    """A difference and its interval as text; empty where there is nothing to compare."""
    if not sets:
        return ["", ""]
    mean, low, high = difference(sets)
    return [f"{mean:+.2f}", f"{low:+.2f}..{high:+.2f}"]


def main(words: list[str]) -> None:
    """Train what isn't yet, and table all."""
    about = "Train rows of settings over folds and seeds, and table them beside a control."
    parser = Parser("ablation.py", f"{about} Any field of the configuration can be a flag, for all rows.")
    add = parser.add_argument
    add("--rows", type=Path, required=True, metavar="FILE", help="YAML of rows; see the top of this file")
    add("--data", type=Path, nargs="+", required=True, metavar="STORE", help="stores of `hhmnet prepare`")
    add("--out", type=Path, required=True, metavar="FILE", help="file of JSON lines, a line a training")
    add("--config", type=Path, default=SMALL, metavar="FILE", help="what rows change (kinect20.yaml)")
    add("--control", metavar="ROW", help="row that the others are compared with (the first)")
    add("--seeds", nargs="+", type=int, default=[0], metavar="S", help="seeds (0)")
    add("--folds", nargs="+", type=int, default=[0, 1], metavar="K", help="folds (0 1)")
    add("--threads", type=positive(int), default=1, metavar="N", help="CPU threads (1)")
    add("--time-limit", type=duration, metavar="TIME", help="begin no training after 90s, 9m, 1.5h")
    options, flags = parser.parse_known_args(words)
    own = [name.removeprefix("--") for name in parser._option_string_actions]
    configs = plan(options.rows, options.config, flags, own)
    control = options.control or next(iter(configs), "")
    if control not in configs:
        raise BenchmarkError(f"{options.rows}: has no row '{control}' to be the control")
    stores, log, began = [Store(folder) for folder in options.data], console(), time.monotonic()
    sizes, lines = {store.path.resolve().name: len(store) for store in stores}, []
    try:
        text = options.out.read_text(encoding="utf-8") if options.out.exists() else ""
        done = {(one["row"], one["fold"], one["seed"]): one for one in map(json.loads, text.splitlines())}
    except (ValueError, LookupError, TypeError):
        raise BenchmarkError(f"{options.out}: not what this script writes; name another --out") from None
    asked = [(row, fold, seed) for seed in options.seeds for fold in options.folds for row in configs]
    for number, (row, fold, seed) in enumerate(asked, 1):
        settings = replace(configs[row].run, seed=seed, threads=options.threads)
        config = replace(configs[row], fold=fold, run=settings)
        fields = json.loads(json.dumps(asdict(config) | {"stores": sizes}))
        fields["run"] = {
            name: fields["run"][name] for name in ("seed", "precision")
        }  # no more decides a result
        line = done.get((row, fold, seed))
        if line is not None and (changed := changed_fields(fields, line["config"])):
            raise BenchmarkError(f"{options.out}: row '{row}' was trained with another {', '.join(changed)}")
        late = options.time_limit is not None and time.monotonic() - began > options.time_limit
        if line is None and not late:
            with log.status(f"{row}, fold {fold}, seed {seed}: {number} of {len(asked)}"):
                line = {"row": row, "fold": fold, "seed": seed, "config": fields} | train(config, stores)
            append(options.out, (json.dumps(line) + "\n").encode())
        lines += [line] if line is not None else []
    if len(lines) < len(asked):
        log.print(f"{len(lines)} of {len(asked)} trainings are there; the same call again goes on")
    if lines:
        report(lines, list(configs), control)


if __name__ == "__main__":
    sys.exit(run(main))
