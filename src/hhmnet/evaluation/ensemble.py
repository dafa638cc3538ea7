"""Several score files of the same clips as one answer: the decision level of the fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product

import numpy as np

from hhmnet.evaluation.scores import Scores

TENTHS = 10
"""Weights are tried in tenths of their sum."""
LARGEST_GRID = 6
"""With more score files than that, a grid in tenths has too many points."""
SHOWN = 5
"""Differences that a message lists."""

Members = Mapping[str, Scores]
"""Scores by the name under which they are shown."""


class EnsembleError(ValueError):
    """Scores that can't be joined, or weights that don't fit them."""


def align(members: Members) -> dict[str, Scores]:
    """The same members with all their rows in the first one's order.

    Raises:
        EnsembleError: other clips, labels or class names than the first one's; the first differences are listed.
    """
    return {name: _like(next(iter(members)), name, members) for name in members}


def _like(first: str, other: str, members: Members) -> Scores:
    ours, theirs, both = members[first], members[other], f"{first} and {other} have different"
    if ours.class_names != theirs.class_names:
        pairs = zip(ours.class_names, theirs.class_names, strict=False)
        found = [f"number {i}: '{a}' and '{b}'" for i, (a, b) in enumerate(pairs) if a != b]
        found = found or [f"{len(ours.class_names)} and {len(theirs.class_names)} classes"]
        raise EnsembleError(f"{both} classes: {_few(found)}")
    names, place = (
        ours.sample_ids.tolist(),
        {name: row for row, name in enumerate(theirs.sample_ids.tolist())},
    )
    if len(place) < len(theirs.sample_ids):
        raise EnsembleError(f"{other}: a sample_id stands there twice")
    lacks = {other: [name for name in names if name not in place], first: sorted(place.keys() - set(names))}
    if any(lacks.values()):
        found = [f"{name} lacks {len(clips)} ({_few(clips)})" for name, clips in lacks.items() if clips]
        raise EnsembleError(f"{both} clips: {'; '.join(found)}")
    rows = np.array([place[name] for name in names], np.int64)
    labels = theirs.labels[rows]
    if (labels != ours.labels).any():
        where = np.flatnonzero(labels != ours.labels).tolist()
        raise EnsembleError(
            f"{both} labels: {_few([f'{names[i]}: {ours.labels[i]} and {labels[i]}' for i in where])}"
        )
    return replace(ours, logits=theirs.logits[rows])


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


def fuse(members: Members, weights: Sequence[float] | np.ndarray) -> Scores:
    """Weighted sum of raw logits of aligned members."""
    shares = check_weights(weights, len(members)).astype(np.float32)
    first, *_ = every = list(members.values())
    return replace(first, logits=np.einsum("s,snk->nk", shares, np.stack([each.logits for each in every])))


def choose_weights(members: Members) -> np.ndarray:
    """The weights with most clips right, ``(S,)``, from a grid in tenths; of equals those of least cross-entropy.

    Meant for held-out training clips. What is chosen on test clips says nothing about other clips.

    Args:
        members: aligned scores of labelled validation clips.

    Raises:
        EnsembleError: no clip has a label, or there are too many members for a grid.
    """
    if len(members) > LARGEST_GRID:
        raise EnsembleError(f"weights can be chosen for up to {LARGEST_GRID} score files, got {len(members)}")
    first, *_ = every = list(members.values())
    known = first.labels >= 0
    if not known.any():
        raise EnsembleError("no validation clip has a label, so no weights can be chosen")
    logits, labels = np.stack([each.logits[known] for each in every]).astype(np.float64), first.labels[known]
    clips = np.arange(len(labels))

    def cost(weights: np.ndarray) -> tuple[int, float, tuple[float, ...]]:
        joined = np.einsum("s,snk->nk", weights, logits)
        wrong = int((joined.argmax(1) != labels).sum())
        entropy = np.logaddexp.reduce(joined, 1) - joined[clips, labels]
        return wrong, float(entropy.mean()), tuple(abs(weights - 1 / len(weights)))

    grid = [t for t in product(range(TENTHS + 1), repeat=len(members)) if sum(t) == TENTHS]
    return min((np.array(tenths) / TENTHS for tenths in grid), key=cost)


def subsets(members: Members, weights: Sequence[float]) -> dict[str, Scores]:
    """Every subset of at least two members, small ones first, each joined with its members' own weights.

    Subsets whose weights are all zero are left out.
    """
    found = {}
    for size in range(2, len(members) + 1):
        for chosen in combinations(zip(members, weights, strict=True), size):
            own = dict(chosen)
            if any(own.values()):
                found[" + ".join(own)] = fuse({name: members[name] for name in own}, list(own.values()))
    return found


def disagreements(members: Members) -> dict[str, int]:
    """How many clips every two members, and all of them together, answer differently."""
    found = {
        f"{one} / {other}": int((members[one].predictions != members[other].predictions).sum())
        for one, other in combinations(members, 2)
    }
    answers = np.stack([scores.predictions for scores in members.values()])
    return found | {"any two": int((answers != answers[0]).any(0).sum())}
