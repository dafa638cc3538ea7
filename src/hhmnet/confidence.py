"""How sure answers are: a temperature for probabilities, and where clips of no known class begin. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hhmnet.fields import check_types, within

UNKNOWN = "unknown"  # the label of a clip that is none of the classes
RATE = 0.05  # share of clips of known classes that are called unknown, unless somebody wants another
MOST = 0.2  # the largest such share that can be asked for

NEIGHBOURS_FILE = (
    "neighbours.safetensors"  # beside a model's weights: logits of training clips, in half precision
)
KEPT = 100_000  # numbers of a model's neighbours at the most, by modalities: 200 kB

_STEP = 0.01
_HOTTEST = 100.0


@dataclass(frozen=True)
class Confidence:
    """How sure the answers by one set of modalities are, fitted on held-out clips.

    Attributes:
        temperature: logits are divided by it before they become probabilities (Guo et al., ICML 2017).
        thresholds: similarities below which a share of 0, 1, 2 to 20 % of known clips lies.
        neighbours: ``(B, classes)`` float16, logits of training clips at length 1, kept in a file of its own. Without
            thresholds or neighbours every clip counts as known.
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] = ()
    neighbours: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_types(self)
        within(self, 1 / _HOTTEST, _HOTTEST, "temperature")
        if len(self.thresholds) not in (0, round(MOST / _STEP) + 1):
            raise ValueError(f"field 'thresholds' must have {round(MOST / _STEP) + 1} numbers, or none")
        if not all(map(math.isfinite, self.thresholds)):
            raise ValueError("field 'thresholds' must be finite")

    def known(self, logits: np.ndarray, rate: float = RATE) -> np.ndarray:
        """Whether each clip ``(N, classes)`` is of a known class, ``(N,)`` bool, where a share of ``rate``, 0 to
        ``MOST``, of clips of known classes may be called unknown."""
        if not self.thresholds or self.neighbours is None or rate == 0:
            return np.ones(len(logits), bool)
        threshold = self.thresholds[min(int(rate / _STEP + 1e-9), len(self.thresholds) - 1)]
        return np.asarray(similarity(logits, self.neighbours) >= threshold)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON, without the neighbours."""
        return {"temperature": self.temperature, "thresholds": list(self.thresholds)}


def similarity(logits: np.ndarray, neighbours: np.ndarray, own: bool = False) -> np.ndarray:
    """Cosine ``(N,)`` of clips' logits and those of the nearest training clip, low for what is none of the classes.

    After Sun et al. (ICML 2022), with one neighbour, on logits: ``benchmarks/unknown.py`` compares it with others.
    ``neighbours (B, classes)`` are at length 1; with ``own`` they are the same clips, in the same order, of which none
    counts as a neighbour of its own.
    """
    near = _unit(logits) @ neighbours.T.astype(np.float64)
    if own:
        np.fill_diagonal(near, -1.0)
    return np.asarray(near.max(1))


def _unit(logits: np.ndarray) -> np.ndarray:
    exact = logits.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True).clip(1e-9))


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities along the last axis of ``logits / temperature``, float32."""
    raised = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return (raised / raised.sum(-1, keepdims=True)).astype(np.float32)


def fit_confidence(
    logits: np.ndarray, labels: np.ndarray, learned: np.ndarray, own: bool = False
) -> Confidence:
    """The temperature of the smallest cross-entropy, and where the unknown begins, by clips that weren't learned from:
    their ``logits (N, classes)`` and ``labels (N,)``, of which those below 0 don't count. ``learned (B, classes)`` are
    logits of training clips, of which a part is kept; with ``own`` the same clips, by leave-one-out: all are kept."""
    from scipy.optimize import minimize_scalar

    counted = labels >= 0
    logits, labels = logits[counted].astype(np.float64), labels[counted]
    if not len(labels):
        return Confidence()
    # Where all clips are right, the coldest would be the best without the rule of succession (Platt 1999).
    doubt = 1 / (len(labels) + 2)
    own_logits = logits[np.arange(len(labels)), labels]
    away = logits - ((1 - doubt) * own_logits + doubt * logits.mean(1))[:, None]

    def cross_entropy(log: float) -> float:
        return float(np.logaddexp.reduce(away / math.exp(log), axis=1).mean())

    bound = math.log(_HOTTEST)
    found = minimize_scalar(cross_entropy, bounds=(-bound, bound), method="bounded")
    neighbours = _unit(learned).astype(np.float16) if own else as_neighbours(learned)
    near = np.sort(similarity(logits, neighbours, own))
    # So many of N + 1 clips fall below the k-th of N (conformal prediction); of few clips none is called unknown.
    ranks = (np.arange(round(MOST / _STEP) + 1) * _STEP * (len(near) + 1) + 1e-9).astype(int)
    thresholds = np.where(ranks > 0, near[ranks - 1], -1.0)
    return Confidence(round(math.exp(found.x), 4), tuple(map(float, thresholds)), neighbours)


def as_neighbours(learned: np.ndarray) -> np.ndarray:
    """What is kept of the logits ``(B, classes)`` of training clips; of many a part, evenly."""
    return _unit(learned[kept(*learned.shape)]).astype(np.float16)


def kept(count: int, classes: int) -> slice:
    """Which of ``count`` training clips become neighbours: all, or evenly as many as ``KEPT`` allows."""
    return slice(None, None, -(-count // max(KEPT // classes, 1)) or 1)


def read_confidence(fields: Any) -> dict[str, Confidence]:
    """By modalities joined by +, what a model's configuration says of them; raises ValueError naming the field."""
    if not isinstance(fields, Mapping):
        raise ValueError("field 'confidence' must be a mapping of modalities")
    found = {}
    for name, values in fields.items():
        try:
            own = {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}
            found[str(name)] = Confidence(**own)  # type: ignore[arg-type]
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"field 'confidence.{name}': {error}") from None
    return found


def with_neighbours(
    confidence: Mapping[str, Confidence], arrays: Mapping[str, np.ndarray], classes: int
) -> dict[str, Confidence]:
    """The same with neighbours from a file, by modalities; raises ValueError where they aren't of so many classes."""
    found = {}
    for name, one in confidence.items():
        array = arrays.get(name)
        if array is not None and (array.ndim != 2 or not len(array) or array.shape[1] != classes):
            raise ValueError(f"'{name}' has the shape {array.shape}; it must have {classes} numbers a clip")
        found[name] = replace(one, neighbours=array)
    return found


def neighbours_of(confidence: Mapping[str, Confidence]) -> dict[str, np.ndarray]:
    """Inverse of :func:`with_neighbours`: what is kept in a file."""
    return {name: one.neighbours for name, one in confidence.items() if one.neighbours is not None}
