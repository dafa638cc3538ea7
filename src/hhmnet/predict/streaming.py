"""Answers while it happens: frames or skeletons go in one by one, class probabilities come out."""

from __future__ import annotations

import math
import time as clock
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.pose.clips import ClipConfig, clip_fields
from hhmnet.pose.estimate import KEPT_BYTES
from hhmnet.predict.live_answer import LiveAnswer, StreamingConfig
from hhmnet.predict.live_pose import LivePose
from hhmnet.predict.patches import Patches
from hhmnet.predict.prediction import softmax
from hhmnet.predict.recognizer import Recognizer, modality_of
from hhmnet.predict.sources import InputClip
from hhmnet.predict.torch_engine import choose_device
from hhmnet.predict.window import Bodies, Grid
from hhmnet.sample import MODALITIES, UNKNOWN_LABEL, Sample

__all__ = ["LiveAnswer", "StreamError", "StreamingConfig", "StreamingRecognizer"]


class StreamError(ValueError):
    """Frames or skeletons that can't be taken; the message says what to give instead."""


class _Seen(NamedTuple):
    """One person, by number, and the window since that person was first seen; None if there is nothing in it."""

    person: int
    clip: InputClip | None


class StreamingRecognizer:
    """Recognises what the most important persons in a stream do, one by default, in windows that slide along.

    Frames stand at the places of an even grid of ``config.rate``. A frame that was dropped leaves a gap, which is
    filled with a straight line if it is no longer than a second; so speed stays right whatever gets lost. The window's
    joints go through the same steps as a whole clip's; pushing all frames of a clip that the window covers gives what
    :class:`~hhmnet.predict.recognizer.Recognizer` gives, as long as the person is found in the first frame and never
    lost between two detections. That holds for models that look at the video too: see
    :class:`~hhmnet.predict.patches.Patches`.

    What is computed once and kept: each frame's joints, by far the most of the work. Of the network nothing can be
    kept without changing the answer: the frames are resampled to the model's T, centred and scaled by the whole
    window, and its attention and selection are pooled over all frames; a window that moves on by one frame changes
    every number in it. It runs once an answer.

    Memory is bounded: joints of the window, the persons' tracks over it, and for a model that looks at the video at
    most 256 MiB of what is around them in its pictures.

    Args:
        model: of phase 1 or 2.
        config: window, and how often and how smoothly to answer.
        pose: how joints are found; the default settings if None.
        live_pose: stands in for what ``pose`` describes; its window must be ``config.frames``, and the persons whom it
            follows count.

    Attributes:
        config: with the window that is used.
        modalities: what answers go by, as far as it is there.

    Raises:
        InputError: ``config.modalities`` aren't the model's.
        StreamError: ``live_pose`` has another window.
    """

    def __init__(
        self,
        model: ActionModel,
        config: StreamingConfig | None = None,
        pose: ClipConfig | None = None,
        live_pose: LivePose | None = None,
    ) -> None:
        self.model = model.eval()
        self.config, self.pose_config = (config or StreamingConfig()).of(model.spec), pose or ClipConfig()
        self._whole = Recognizer(model, next(model.parameters()).device)
        self.modalities = self.config.modalities or MODALITIES[: 1 + self._whole.looks_at_video]
        self._whole.check_modalities(self.modalities)
        self.pose = live_pose
        if live_pose is not None and live_pose.window != self.config.frames:
            raise StreamError(
                f"the window has {self.config.frames} frames, that of the joints {live_pose.window}"
            )
        self.class_names = model.spec.class_names
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
        self._smooth: dict[int, tuple[int, np.ndarray]] = {}  # by person: frame, probabilities
        self._patches: dict[int, Patches] = {}
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
            self.pose = LivePose(
                self.pose_config, self.config.frames, self.config.rate, most=self.config.persons
            )
        steps = self._place(time)
        if not steps:
            return None
        self.pose.look(self._grid.frame, image)
        self._keep(self.pose, image)
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
            least: share of the window that must have passed since a person was first seen.

        Returns:
            The answer on the person who was followed first; ``others`` holds those on the others.
        """
        self._answered = self._grid.frame
        people = self._people()
        there = {seen.person for seen in people}
        self._smooth = {person: known for person, known in self._smooth.items() if person in there}
        first, *others = [self._answer_on(seen, least) for seen in people]
        more = self.pose.others if self.pose is not None and self._bodies is None else 0
        return replace(first, others=tuple(others), more=more)

    def _answer_on(self, seen: _Seen, least: float) -> LiveAnswer:
        """What the window says of one person."""
        begun, frame, person = clock.perf_counter(), self._grid.frame, seen.person
        nothing = LiveAnswer(frame, frame / self.config.rate, person, None, None)
        if seen.clip is None:
            return nothing
        present = seen.clip.sample.present
        covered = present.shape[1] / self.config.frames
        nothing = replace(nothing, covered=covered, present=float(present.any(0).mean()))
        if not present.any():
            self._smooth.pop(person, None)
        if not present.any() or covered < least:
            return nothing
        found = self._whole.logits([seen.clip], self.modalities)
        used = tuple(name for name, is_used in zip(MODALITIES, found.used[0], strict=True) if is_used)
        if not used:
            return nothing
        own = softmax(found.logits[0])
        probabilities = self._smoothed(frame, person, own)
        return replace(
            nothing,
            label=self.class_names[int(probabilities.argmax())],
            probabilities=probabilities,
            window_probabilities=own,
            members={
                name: softmax(logits[0])
                for name, logits in found.members.items()
                if modality_of(name) in used
            },
            modalities=used,
            seconds=clock.perf_counter() - begun,
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

    def _keep(self, pose: LivePose, image: np.ndarray) -> None:
        """Keep what a model that looks at the video may want of this picture, and forget who has left."""
        roi = self.model.spec.roi
        if roi is None or "video" not in self.modalities:
            return
        there = {one.person: one for one in pose.followed}
        self._patches = {person: kept for person, kept in self._patches.items() if person in there}
        for person, one in there.items():
            if person not in self._patches:
                self._patches[person] = Patches(
                    self.config.frames, KEPT_BYTES // pose.most, roi.show == "background"
                )
            self._patches[person].add(self._grid.frame, image, one, pose.layout)

    def _people(self) -> list[_Seen]:
        """Who is followed, and what the window holds of each; at least one, of number 0 with nobody."""
        if self._bodies is not None:
            joints, present = self._bodies.clip()
            if not present.size:
                return [_Seen(self._bodies.person, None)]
            frames = np.arange(present.shape[1], dtype=np.int32)
            return [_Seen(self._bodies.person, _clip_of(joints=joints, present=present, frame_index=frames))]
        followed = self.pose.followed if self.pose is not None else []
        return [self._followed(place) for place in range(len(followed))] or [_Seen(0, None)]

    def _followed(self, place: int) -> _Seen:
        """One of the persons in the pictures."""
        assert self.pose is not None
        person, poses = self.pose.followed[place].person, self.pose.poses(place)
        assert poses is not None
        fields = clip_fields(poses, self.model.spec.layout, self.pose_config)
        patches = self._patches.get(person)
        if patches is None:
            return _Seen(person, _clip_of(**fields | {"video_frames": None}))
        newest = self._grid.frame
        frames = np.arange(newest - poses.present.shape[1] + 1, newest + 1)
        clip = _clip_of(**fields | {"video": "stream", "video_frames": patches.shown(frames)})
        return _Seen(person, clip._replace(video=patches))

    def _smoothed(self, frame: int, person: int, own: np.ndarray) -> np.ndarray:
        """Mix a window's probabilities with those before it; another person's don't count."""
        constant = self.config.smoothing * self.config.rate
        if person in self._smooth and constant > 0:
            before, probabilities = self._smooth[person]
            kept = math.exp(-(frame - before) / constant)
            own = kept * probabilities + (1 - kept) * own
        self._smooth[person] = (frame, own)
        return own


def _clip_of(**fields: Any) -> InputClip:
    """A window as a clip."""
    return InputClip("window", Sample("window", UNKNOWN_LABEL, **fields))
