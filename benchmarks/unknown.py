"""Which score tells clips of unknown classes best: trainings with two classes left out, and scores compared on them.

    python benchmarks/unknown.py --data STORE --out DIR --draws 5 --beside OTHER...

Every draw leaves two classes of STORE out and trains the small setting (``kinect20.yaml``) with a fold held out, on
whose clips a score is chosen; the test clips are then told by the same model. Each training's embeddings are kept in
DIR, so that the same call again only tables. OTHER stores, whose classes are all unknown, are told from the known
clips, too. Figures are areas under the ROC curve in percent.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import positive, run
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from hhmnet.commands.configuration import read_config
from hhmnet.commands.terminal import Parser, console, table
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.scores import score
from hhmnet.predict.enroll import embed
from hhmnet.store import Store
from hhmnet.training.engine import Trainer

SMALL = Path(__file__).with_name("kinect20.yaml")
LEFT_OUT = 2
FOLD = 0


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of ``x (N, D)`` at length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-9)


def to_neighbour(train: np.ndarray, x: np.ndarray, number: int = 1) -> np.ndarray:
    """Cosine ``(N,)`` to the k-th nearest training clip (Sun et al., ICML 2022)."""
    return np.asarray(np.sort(unit(x) @ unit(train).T, axis=1)[:, -min(number, len(train))])


def mahalanobis(train: np.ndarray, labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Minus the distance ``(N,)`` to the nearest class's mean, under one covariance (Lee et al., NeurIPS 2018)."""
    classes = np.unique(labels)
    means = np.stack([train[labels == label].mean(0) for label in classes])
    fit = LedoitWolf(assume_centered=True).fit(train - means[np.searchsorted(classes, labels)])
    return -np.stack([fit.mahalanobis(x - mean) for mean in means]).min(0)


def to_mean(train: np.ndarray, labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Cosine ``(N,)`` to the nearest class's mean."""
    means = np.stack([unit(train[labels == label]).mean(0) for label in np.unique(labels)])
    return (unit(x) @ unit(means).T).max(1)


Clips = dict[str, np.ndarray]
SCORES: dict[str, Callable[[Clips, Clips], np.ndarray]] = {
    "probability": lambda train, x: x["logits"].max(1) - logsumexp(x["logits"], axis=1),
    "maximum logit": lambda train, x: x["logits"].max(1),
    "energy": lambda train, x: logsumexp(x["logits"], axis=1),
    "neighbour": lambda train, x: to_neighbour(train["embeddings"], x["embeddings"]),
    "fifth neighbour": lambda train, x: to_neighbour(train["embeddings"], x["embeddings"], 5),
    "neighbour, logits": lambda train, x: to_neighbour(train["logits"], x["logits"]),
    "fifth neighbour, logits": lambda train, x: to_neighbour(train["logits"], x["logits"], 5),
    "Mahalanobis": lambda train, x: mahalanobis(train["embeddings"], train["labels"], x["embeddings"]),
    "Mahalanobis, logits": lambda train, x: mahalanobis(train["logits"], train["labels"], x["logits"]),
    "class mean": lambda train, x: to_mean(train["embeddings"], train["labels"], x["embeddings"]),
    "neighbour times energy": lambda train, x: (
        to_neighbour(train["embeddings"], x["embeddings"]) * logsumexp(x["logits"], axis=1)
    ),
}
"""By name, how known clips look: higher for known classes. Of the training's clips and those that are asked."""


def features(model: Any, store: Store, rows: np.ndarray, known: np.ndarray) -> Clips:
    """Embeddings ``(N, D)``, logits of the known classes and labels of some clips."""
    embeddings = embed(model, [store[int(row)] for row in rows])[:, 0]
    logits = score(model, store, rows).logits[:, known]
    return {"embeddings": embeddings, "logits": logits, "labels": store.labels[rows]}


def train(
    store: Store, others: list[Store], out: Path, unknown: np.ndarray, fold: int, flags: list[str]
) -> None:
    """One training without some classes; writes the embeddings of training, held-out, test and other clips."""
    config = read_config(SMALL, [*flags, f"--protocol={store.protocol}", "--relabel={}"], [])
    config.fold = fold
    rule = get_protocol(store.protocol)
    rows = rule.indices(store, "train")
    config.relabel = {str(store.sample_ids[row]): "" for row in rows if store.labels[row] in unknown}
    with tempfile.TemporaryDirectory() as folder:
        model = Trainer(config, store, Path(folder)).train()
    known = np.setdiff1d(np.arange(len(store.class_names)), unknown)
    rows = rule.indices(store, "train", fold)
    parts = {
        "train": (store, rows[~np.isin(store.labels[rows], unknown)]),
        "held out": (store, rule.indices(store, "val", fold)),
        "test": (store, rule.indices(store, "test")),
    } | {other.path.resolve().name: (other, np.arange(len(other.sample_ids))) for other in others}
    found = {name: features(model, *part, known) for name, part in parts.items()}
    arrays = {f"{part} {name}": array for part, clips in found.items() for name, array in clips.items()}
    np.savez(out, **arrays, unknown=unknown)


def areas(file: Path, asked_part: str, others: list[str]) -> dict[str, dict[str, float]]:
    """Of one training each score's area: left-out classes, then each other store, beside the known clips of a part."""
    arrays = np.load(file)

    def part(name: str) -> Clips:
        return {key: arrays[f"{name} {key}"] for key in ("embeddings", "logits", "labels")}

    train, asked = part("train"), part(asked_part)
    is_known = ~np.isin(asked["labels"], arrays["unknown"])
    found: dict[str, dict[str, float]] = {}
    for name, likeness in SCORES.items():
        values = likeness(train, asked)
        found[name] = {"left out": 100 * roc_auc_score(is_known, values)}
        for other in others:
            beside = likeness(train, part(other))
            truth = np.repeat([1, 0], [is_known.sum(), len(beside)])
            found[name][other] = 100 * roc_auc_score(truth, np.concatenate([values[is_known], beside]))
    return found


def main(words: list[str]) -> None:
    """Train what isn't there yet, and table it."""
    parser = Parser("unknown.py", "Compare scores that tell clips of unknown classes.")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="STORE", help="known classes, and those left out"
    )
    parser.add_argument(
        "--beside", type=Path, nargs="*", default=[], metavar="STORE", help="unknown classes only"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="embeddings of every training")
    parser.add_argument("--draws", type=positive(int), default=5, metavar="N", help="trainings (5)")
    options, flags = parser.parse_known_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    store, others = Store(options.data), [Store(path) for path in options.beside]
    names = [other.path.resolve().name for other in others]
    for draw in range(options.draws):
        file = options.out / f"{draw}.npz"
        unknown = np.random.default_rng(draw).choice(len(store.class_names), LEFT_OUT, replace=False)
        if not file.exists():
            console().print(f"draw {draw}: without {', '.join(store.class_names[n] for n in unknown)}")
            train(store, others, file, unknown, FOLD, [*flags, f"--run.seed={draw}"])
    for part in ("held out", "test"):
        found = [areas(options.out / f"{draw}.npz", part, names) for draw in range(options.draws)]
        view = table(
            f"{part}: mean, lowest of {options.draws} draws",
            "score",
            *(f">{n}" for n in ["left out", *names]),
        )
        for name in SCORES:
            columns = [[one[name][kind] for one in found] for kind in ("left out", *names)]
            view.add_row(name, *(f"{np.mean(column):.1f}, {min(column):.1f}" for column in columns))
        console(stderr=False).print(view)


if __name__ == "__main__":
    sys.exit(run(main))
