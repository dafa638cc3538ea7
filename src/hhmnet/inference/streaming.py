"""Answers while it happens: frames or skeletons go in one by one, class probabilities come out."""

from __future__ import annotations

import math
import time as clock
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hhmnet.data.dataset import to_clips
from hhmnet.fields import within
from hhmnet.inference.live_pose import LivePose
from hhmnet.inference.prediction import best, softmax
from hhmnet.inference.recognizer import choose_device
from hhmnet.inference.window import Bodies, Grid
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.pose.clips import ClipConfig, clip_fields


class StreamError(ValueError):
    """Frames or skeletons that can't be taken; the message says what to give instead."""


@dataclass
class StreamingConfig:
    """How a stream becomes answers."""

    window: float = 2.0
    """Seconds that an answer looks back. An action should fit in, and little more: as long as the clips that the model
    was trained on (NW-UCLA's last 1 to 3 seconds, the tennis clips 1.9)."""
    every: int = 10
    """Frames from one answer to the next."""
    smoothing: float = 0.5
    """Time constant in seconds of the exponential smoothing of the probabilities; 0 gives each window's own."""
    least: float = 0.5
    """Share of the window that must have passed since the person was first seen before there is an answer."""
    rate: float = 30.0
    """Frames a second of the source: what a second is where frames come without times, and how dense the window is."""

    def __post_init__(self) -> None:
        within(self, 0.1, 60, "window")
        within(self, 1, math.inf, "every")
        within(self, 0, 60, "smoothing")
        within(self, 0, 1, "least")
        within(self, 1, 240, "rate")

    @property
    def frames(self) -> int:
        """Frames of the window."""
        return max(round(self.window * self.rate), 2)


@dataclass(frozen=True, eq=False)
class LiveAnswer:
    """What the model says of the window that ends at a frame.

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
        }


class StreamingRecognizer:
    """Recognises what the most important person in a stream does, in a window that slides along.

    Frames stand at the places of an even grid of ``config.rate``. A frame that was dropped leaves a gap, which is
    filled with a straight line if it is no longer than a second; so speed stays right whatever gets lost. The window's
    joints go through the same steps as a whole clip's; pushing all frames of a clip that the window covers gives what
    :class:`~hhmnet.inference.recognizer.Recognizer` gives, as long as the person is found in the first frame and never
    lost between two detections.

    What is computed once and kept: each frame's joints, by far the most of the work. Of the network nothing can be
    kept without changing the answer: the frames are resampled to the model's T, centred and scaled by the whole
    window, and its attention and selection are pooled over all frames; a window that moves on by one frame changes
    every number in it. It runs once an answer.

    Memory is bounded: joints of the window, the person's tracks over it, no picture.

    Args:
        model: of phase 1; one of phase 2 answers by its skeleton side.
        config: window, and how often and how smoothly to answer.
        pose: how joints are found; the default settings if None.
        live_pose: stands in for what ``pose`` describes; its window must be ``config.frames``.
    """

    def __init__(
        self,
        model: ActionModel,
        config: StreamingConfig | None = None,
        pose: ClipConfig | None = None,
        live_pose: LivePose | None = None,
    ) -> None:
        self.model = model.eval()
        self.config, self.pose_config = config or StreamingConfig(), pose or ClipConfig()
        self.pose = live_pose
        if live_pose is not None and live_pose.window != self.config.frames:
            raise StreamError(
                f"the window has {self.config.frames} frames, that of the joints {live_pose.window}"
            )
        self.class_names = model.spec.class_names
        self._device = next(model.parameters()).device
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str = "auto",
        config: StreamingConfig | None = None,
        pose: ClipConfig | None = None,
    ) -> StreamingRecognizer:
        """A recognizer with the model of a run folder or a folder of ``zoo/``; raises PretrainedError."""
        return cls(from_pretrained(folder, choose_device(device)), config, pose)

    def reset(self) -> None:
        """Begin anew, as before the first frame."""
        self._grid = Grid(self.config.rate)
        self._answered = -1
        self._smooth: tuple[int, int, np.ndarray] | None = None  # frame, person, probabilities
        self._bodies: Bodies | None = None
        if self.pose is not None:
            self.pose.reset()

    def push_frame(self, image: np.ndarray, time: float | None = None) -> LiveAnswer | None:
        """Look at one picture.

        Args:
            image: ``(H, W, 3)`` uint8, red, green, blue.
            time: seconds by the source's clock; by default one frame after the one before. A time in the past begins
                anew, as a source does that was opened again.

        Returns:
            The answer if one is due, else None.

        Raises:
            StreamError: the picture isn't one, or skeletons were pushed before.
            PoseError: a network can't be had or run.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise StreamError(f"a picture must be (H, W, 3) uint8; got {image.shape} {image.dtype}")
        if self._bodies is not None:
            raise StreamError("skeletons were pushed before; call reset() to go on with pictures")
        if self.pose is None:
            self.pose = LivePose(self.pose_config, self.config.frames, self.config.rate)
        steps = self._place(time)
        if not steps:
            return None
        self.pose.look(self._grid.frame, image)
        return self._answer_if_due()

    def push_skeleton(self, joints: np.ndarray | None, time: float | None = None) -> LiveAnswer | None:
        """Take the joints of one frame.

        Args:
            joints: ``(V, C)``, or ``(M, V, C)`` with the most important person first, in the model's layout; None
                where nobody is there. A person whose joints are all zero isn't there.
            time: as for :meth:`push_frame`.

        Returns:
            The answer if one is due, else None.

        Raises:
            StreamError: the joints aren't the model's or aren't finite, or pictures were pushed before.
        """
        if self._bodies is None and self._grid.frame >= 0:
            raise StreamError("pictures were pushed before; call reset() to go on with skeletons")
        bodies = self._checked(joints)
        steps = self._place(time)
        if not steps:
            return None
        if self._bodies is None:
            self._bodies = Bodies(self.model.spec.data.persons, self.config.frames, *bodies.shape[1:])
        self._bodies.go_on(steps, bodies, round(self.config.rate))
        return self._answer_if_due()

    def answer(self, least: float = 0.0) -> LiveAnswer:
        """What the window says now, whether an answer is due or not.

        Args:
            least: share of the window that must have passed since the person was first seen.
        """
        begun = clock.perf_counter()
        frame, person = self._grid.frame, self._person
        joints, present = self._clip()
        self._answered = frame
        covered, there = (
            joints.shape[1] / self.config.frames,
            float(present.any(0).mean()) if present.size else 0.0,
        )
        state: dict[str, Any] = {"covered": covered, "present": there}
        if not present.any() or covered < least:
            if not present.any():
                self._smooth = None
            return LiveAnswer(frame, frame / self.config.rate, person, None, None, **state)
        with torch.inference_mode():
            said = self.model.answer(
                to_clips([joints], [present], self.model.spec.data.persons).to(self._device)
            )
        own = softmax(said.logits[0].cpu().numpy())
        probabilities = self._smoothed(frame, person, own)
        return LiveAnswer(
            frame,
            frame / self.config.rate,
            person,
            self.class_names[int(probabilities.argmax())],
            probabilities,
            own,
            {name: softmax(logits[0].float().cpu().numpy()) for name, logits in said.each.items()},
            seconds=clock.perf_counter() - begun,
            **state,
        )

    def _checked(self, joints: np.ndarray | None) -> np.ndarray:
        """Joints of the persons whom the model takes, ``(M, V, C)`` float32; raises StreamError."""
        layout = self.model.spec.layout
        shape = layout.num_joints, layout.dims
        bodies = np.zeros((0, *shape), np.float32) if joints is None else np.asarray(joints, np.float32)
        bodies = bodies[None] if bodies.ndim == 2 else bodies
        if bodies.ndim != 3 or bodies.shape[1:] != shape:
            raise StreamError(
                f"joints must be {shape} of {layout.name}, for one person or several; got {bodies.shape}"
            )
        if not np.isfinite(bodies).all():
            raise StreamError("joints must be finite; give zeros, or None, for a person who isn't there")
        return bodies[: self.model.spec.data.persons]

    @property
    def _person(self) -> int:
        if self._bodies is not None:
            return self._bodies.person
        return self.pose.person if self.pose is not None else 0

    def _place(self, time: float | None) -> int:
        """Steps from the last frame to this one; 0 if it is to be passed over."""
        steps = self._grid.step(time)
        if steps is None:
            self.reset()
            steps = self._grid.step(time)
        return steps or 0

    def _answer_if_due(self) -> LiveAnswer | None:
        if self._grid.frame - self._answered < self.config.every:
            return None
        return self.answer(self.config.least)

    def _clip(self) -> tuple[np.ndarray, np.ndarray]:
        """Joints ``(M, T, V, C)`` and presence ``(M, T)`` of the window since the person was first seen."""
        if self._bodies is not None:
            return self._bodies.clip()
        poses = self.pose.poses() if self.pose is not None else None
        layout = self.model.spec.layout
        if poses is None:
            return np.zeros((1, 0, layout.num_joints, layout.dims), np.float32), np.zeros((1, 0), bool)
        fields = clip_fields(poses, layout, self.pose_config)
        return fields["joints"], fields["present"]

    def _smoothed(self, frame: int, person: int, own: np.ndarray) -> np.ndarray:
        """Mix a window's probabilities with those before it; another person's don't count."""
        constant = self.config.smoothing * self.config.rate
        if self._smooth is not None and self._smooth[1] == person and constant > 0:
            kept = math.exp(-(frame - self._smooth[0]) / constant)
            own = kept * self._smooth[2] + (1 - kept) * own
        self._smooth = (frame, person, own)
        return own
