"""What a model says of clips: logits by stream, and the prediction made of them. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hhmnet.confidence import RATE, Confidence, softmax
from hhmnet.sample import MODALITIES, Sample


class StreamLogits(NamedTuple):
    """What a model gives for N clips; P parts, K instants.

    Attributes:
        logits: ``(N, classes)``, joined from what each clip has.
        members: ``(N, classes)`` of every stream and of the video, by name; empty for a network of one stream.
        used: ``(N, 2)`` bool, whether a clip's skeleton and its video were there and used.
        guidance: ``(N, P, K)``, weights of parts and instants; None without guidance or video.
        times: ``(N, K)``, the frame of its clip that each instant shows; None without video.
        notes: for each clip, what couldn't be had of it.
    """

    logits: np.ndarray
    members: dict[str, np.ndarray]
    used: np.ndarray
    guidance: np.ndarray | None = None
    times: np.ndarray | None = None
    notes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one clip; P parts, K instants.

    Attributes:
        input: the file or the clip's name, as it was given.
        label: the most probable class, or ``unknown``.
        top: the most probable classes with their probabilities, the best first.
        probabilities: of all classes, ``(classes,)``, in the order of the model's class names.
        modalities: what the answer rests on: ``skeleton``, ``video``, both, or nothing.
        sample: the clip itself; ``video`` is the file of its video.
        members: probabilities ``(classes,)`` by each stream alone, by its name, and by the ``video`` alone.
        seconds: time from the opened input to the answer.
        guidance: weights ``(P, K)`` of parts and instants, as the video network used them; None without guidance.
        times: frame of the clip that each of the K instants shows, ``(K,)``; None without a video.
        notes: what couldn't be had of the input, and why.
        known: whether it is one of the classes; true where the model can't tell.
    """

    input: str
    label: str
    top: tuple[tuple[str, float], ...]
    probabilities: np.ndarray
    modalities: tuple[str, ...]
    sample: Sample
    members: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    guidance: np.ndarray | None = None
    times: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    video: Path | None = None
    known: bool = True

    def votes(self, class_names: Sequence[str]) -> dict[str, str]:
        """The class that each member alone finds the most probable."""
        return {name: class_names[int(part.argmax())] for name, part in self.members.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON: input, label, known, top, modalities, seconds, members' probabilities, notes."""
        return {
            "input": self.input,
            "label": self.label,
            "known": self.known,
            "top": [{"label": label, "probability": probability} for label, probability in self.top],
            "modalities": list(self.modalities),
            "seconds": self.seconds,
            "members": {name: [float(p) for p in values] for name, values in self.members.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class LivePrediction:
    """What the model says of the most important person in the window that ends at a frame.

    Attributes:
        frame: index of the newest frame, from 0; dropped frames are counted.
        time: when that frame was, in seconds since the first.
        person: number of the person, from 1 in the order in which they were followed; 0 for nobody.
        label: the most probable class, or ``unknown``; None as long as there is no answer, and while nothing is done.
        probabilities: of all classes, ``(classes,)``, smoothed; None where nobody is there, or not for long enough.
        window_probabilities: the window's own, not smoothed, ``(classes,)``; None likewise.
        members: the window's, by each stream alone.
        covered: share of the window since the person was first seen, 0 to 1.
        present: share of the frames since then in which the person was there or filled in.
        seconds: what the answer took, beside the joints.
        modalities: what it rests on; empty without an answer.
        more: how many other persons were there when persons were detected last.
    """

    frame: int
    time: float
    person: int
    label: str | None = None
    probabilities: np.ndarray | None = None
    window_probabilities: np.ndarray | None = None
    members: dict[str, np.ndarray] = field(default_factory=dict)
    covered: float = 0.0
    present: float = 0.0
    seconds: float = 0.0
    modalities: tuple[str, ...] = ()
    more: int = 0

    def to_dict(self, class_names: tuple[str, ...], top: int = 5) -> dict[str, Any]:
        """Plain containers for JSON, with the ``top`` most probable classes."""
        ranked = () if self.probabilities is None else best(self.probabilities, class_names, top)
        return {
            "frame": self.frame,
            "time": round(self.time, 3),
            "person": self.person,
            "label": self.label,
            "top": [{"label": label, "probability": probability} for label, probability in ranked],
            "covered": round(self.covered, 3),
            "present": round(self.present, 3),
            "modalities": list(self.modalities),
            "answer_ms": round(1000 * self.seconds, 1),
            "more": self.more,
        }


def best(
    probabilities: np.ndarray, class_names: tuple[str, ...], count: int
) -> tuple[tuple[str, float], ...]:
    """The ``count`` most probable classes of ``probabilities (classes,)``, the best first."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple((class_names[i], float(probabilities[i])) for i in order)


def used_of(used: np.ndarray) -> tuple[str, ...]:
    """Names of the modalities that were used, ``(2,)`` bool."""
    return tuple(name for name, is_used in zip(MODALITIES, used, strict=True) if is_used)


def judged(
    logits: np.ndarray, used: np.ndarray, confidence: Mapping[str, Confidence], rate: float = RATE
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``(N, classes)`` of clips, and whether each is of a known class, ``(N,)`` bool.

    Args:
        logits: ``(N, classes)``.
        used: ``(N, 2)`` bool, whether skeleton and video were used.
        confidence: by modalities, see :class:`~hhmnet.models.spec.ModelSpec`.
        rate: share of clips of known classes that may be called unknown; 0 calls none so.
    """
    probabilities, known = softmax(logits), np.ones(len(logits), bool)
    for name, one in confidence.items():
        rows = (used == [modality in name.split("+") for modality in MODALITIES]).all(1)
        probabilities[rows] = softmax(logits[rows], one.temperature)
        known[rows] = one.known(logits[rows], rate)
    return probabilities, known
