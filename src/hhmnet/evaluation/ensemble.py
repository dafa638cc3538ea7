"""Several score files of the same clips as one answer: the decision level of the fusion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from hhmnet.evaluation.scores import Scores

GRID_STEP = 0.1
"""Weights are tried in tenths of their sum."""
LARGEST_GRID = 6
"""With more score files than that, a grid in tenths has too many points."""
SHOWN = 5
"""Differences that a message lists."""


class EnsembleError(ValueError):
    """Scores that can't be joined, or weights that don't fit them."""


class Member(NamedTuple):
    """Scores with the name under which they are shown."""

    name: str
    scores: Scores


def align(members: Sequence[Member]) -> list[Member]:
    """The same members with all their rows in the first one's order.

    Raises:
        EnsembleError: other clips, labels or class names than the first one's; the first differences are listed.
    """
    if not members:
        raise EnsembleError("there are no scores to join")
    first = members[0]
    return [first, *(Member(other.name, _like(first, other)) for other in members[1:])]


def _like(first: Member, other: Member) -> Scores:
    ours, theirs = first.scores, other.scores
    if ours.class_names != theirs.class_names:
        pairs = zip(ours.class_names, theirs.class_names, strict=False)
        found = [f"number {i}: '{a}' and '{b}'" for i, (a, b) in enumerate(pairs) if a != b]
        found = found or [f"{len(ours.class_names)} and {len(theirs.class_names)} classes"]
        raise EnsembleError(f"{first.name} and {other.name} have different classes: {_few(found)}")
    place = {name: row for row, name in enumerate(theirs.sample_ids.tolist())}
    if len(place) < len(theirs.sample_ids):
        raise EnsembleError(f"{other.name}: a sample_id stands there twice")
    names = ours.sample_ids.tolist()
    missing = [name for name in names if name not in place]
    extra = sorted(place.keys() - set(names))
    if missing or extra:
        lacks = [f"{other.name} lacks {len(missing)} ({_few(missing)})"] if missing else []
        lacks += [f"{first.name} lacks {len(extra)} ({_few(extra)})"] if extra else []
        raise EnsembleError(f"{first.name} and {other.name} have different clips: {'; '.join(lacks)}")
    rows = np.array([place[name] for name in names], np.int64)
    labels = theirs.labels[rows]
    if (labels != ours.labels).any():
        where = np.flatnonzero(labels != ours.labels).tolist()
        found = [f"{names[i]}: {ours.labels[i]} and {labels[i]}" for i in where]
        raise EnsembleError(f"{first.name} and {other.name} have different labels: {_few(found)}")
    return Scores(ours.sample_ids, ours.labels, theirs.logits[rows], ours.class_names)


def _few(found: Sequence[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def check_weights(weights: Sequence[float] | np.ndarray, count: int) -> np.ndarray:
    """Weights that sum to 1, ``(S,)``; raises EnsembleError unless there are ``count``, none of them negative."""
    if len(weights) != count:
        raise EnsembleError(f"there are {len(weights)} weights for {count} score files")
    values = np.asarray(weights, np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise EnsembleError(f"weights must be 0 or more, and not all 0; got {list(weights)}")
    return values / values.sum()


def fuse(members: Sequence[Member], weights: Sequence[float] | np.ndarray) -> Scores:
    """Weighted sum of raw logits of aligned members."""
    shares = check_weights(weights, len(members)).astype(np.float32)
    first = members[0].scores
    logits = np.einsum("s,snk->nk", shares, np.stack([member.scores.logits for member in members]))
    return Scores(first.sample_ids, first.labels, logits, first.class_names)


def choose_weights(members: Sequence[Member]) -> np.ndarray:
    """The weights with most clips right, ``(S,)``, from a grid in tenths; of equals those of least cross-entropy.

    Meant for held-out training clips. What is chosen on test clips says nothing about other clips.

    Args:
        members: aligned scores of labelled validation clips.

    Raises:
        EnsembleError: no clip has a label, or there are too many members for a grid.
    """
    if len(members) > LARGEST_GRID:
        raise EnsembleError(f"weights can be chosen for up to {LARGEST_GRID} score files, got {len(members)}")
    known = members[0].scores.labels >= 0
    if not known.any():
        raise EnsembleError("no validation clip has a label, so no weights can be chosen")
    logits = np.stack([member.scores.logits[known] for member in members]).astype(np.float64)
    labels = members[0].scores.labels[known]
    steps = round(1 / GRID_STEP)
    tenths = [t for t in product(range(steps + 1), repeat=len(members)) if sum(t) == steps]
    return min((np.array(t) / steps for t in tenths), key=lambda weights: _cost(weights, logits, labels))


def _cost(
    weights: np.ndarray, logits: np.ndarray, labels: np.ndarray
) -> tuple[int, float, tuple[float, ...]]:
    joined = np.einsum("s,snk->nk", weights, logits)
    wrong = int((joined.argmax(1) != labels).sum())
    joined -= joined.max(1, keepdims=True)
    entropy = np.log(np.exp(joined).sum(1)) - joined[np.arange(len(labels)), labels]
    return wrong, float(entropy.mean()), tuple(abs(weights - 1 / len(weights)))


def subsets(members: Sequence[Member], weights: Sequence[float]) -> list[tuple[str, Scores]]:
    """Every subset of at least two members, small ones first, each joined with its members' own weights.

    Subsets whose weights are all zero are left out.
    """
    places = range(len(members))
    found = []
    for size in range(2, len(members) + 1):
        for chosen in combinations(places, size):
            own = [weights[i] for i in chosen]
            if any(own):
                name = " + ".join(members[i].name for i in chosen)
                found.append((name, fuse([members[i] for i in chosen], own)))
    return found


def disagreements(members: Sequence[Member]) -> dict[str, int]:
    """How many clips every two members, and all of them together, answer differently."""
    answers = np.stack([member.scores.logits.argmax(1) for member in members])
    found = {
        f"{members[a].name} / {members[b].name}": int((answers[a] != answers[b]).sum())
        for a, b in combinations(range(len(members)), 2)
    }
    return found | {"any two": int((answers != answers[0]).any(0).sum())}
