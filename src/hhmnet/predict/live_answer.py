"""How a stream becomes answers, and what an answer holds."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hhmnet.fields import within
from hhmnet.models.spec import ModelSpec
from hhmnet.predict.prediction import best

DEFAULT_WINDOW = 2.0
"""Seconds of a window where neither the user nor the model says."""


@dataclass
class StreamingConfig:
    """How a stream becomes answers."""

    window: float | None = None
    """Seconds that an answer looks back. None: as long as the clips that the model was trained on; 2 where it doesn't
    say. An action should fit in, and little more."""
    every: int = 10
    """Frames from one answer to the next."""
    smoothing: float = 0.5
    """Time constant in seconds of the exponential smoothing of the probabilities; 0 gives each window's own."""
    least: float = 0.5
    """Share of the window that must have passed since the person was first seen before there is an answer."""
    rate: float = 30.0
    """Frames a second of the source: what a second is where frames come without times, and how dense the window is."""
    persons: int = 1
    """Persons in pictures who are answered at the most, each in a window of their own."""
    modalities: tuple[str, ...] = ()
    """What to go by: skeleton, video or both; all that the model looks at if empty."""

    def __post_init__(self) -> None:
        if self.window is not None:
            within(self, 0.1, 60, "window")
        within(self, 1, 100, "persons")
        within(self, 1, math.inf, "every")
        within(self, 0, 60, "smoothing")
        within(self, 0, 1, "least")
        within(self, 1, 240, "rate")

    @property
    def frames(self) -> int:
        """Frames of the window."""
        return max(round((self.window or DEFAULT_WINDOW) * self.rate), 2)

    def of(self, spec: ModelSpec) -> StreamingConfig:
        """The same, with the window that fits a model where none is given."""
        if self.window is not None:
            return self
        window = min(max(spec.clip_seconds or DEFAULT_WINDOW, 0.1), 60.0)
        return dataclasses.replace(self, window=window)


@dataclass(frozen=True, eq=False)
class LiveAnswer:
    """What the model says of one person in the window that ends at a frame.

    Attributes:
        frame: index of the newest frame, from 0; dropped frames are counted.
        time: when that frame was, in seconds since the first.
        person: number of the person, from 1 in the order in which they were followed; 0 for nobody.
        label: the most probable class; None as long as there is no answer.
        probabilities: of all classes, ``(classes,)``, smoothed; None where nobody is there, or not for long enough.
        window_probabilities: the window's own, not smoothed, ``(classes,)``; None likewise.
        members: the window's, by each stream alone.
        covered: share of the window since the person was first seen, 0 to 1.
        present: share of the frames since then in which the person was there or filled in.
        seconds: what the answer took, beside the joints.
        modalities: what it rests on; empty without an answer.
        others: the answers on further persons.
        more: how many persons were there, and are not answered, when persons were detected last.
    """

    frame: int
    time: float
    person: int
    label: str | None
    probabilities: np.ndarray | None
    window_probabilities: np.ndarray | None = None
    members: dict[str, np.ndarray] = field(default_factory=dict)
    covered: float = 0.0
    present: float = 0.0
    seconds: float = 0.0
    modalities: tuple[str, ...] = ()
    others: tuple[LiveAnswer, ...] = ()
    more: int = 0

    @property
    def everyone(self) -> tuple[LiveAnswer, ...]:
        """The answers on all persons, this one first."""
        return self, *self.others

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
        } | ({"others": [one.to_dict(class_names, top) for one in self.others]} if self.others else {})
