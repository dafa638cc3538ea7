"""Answers while it happens: frames or skeletons go in one by one, class probabilities come out."""

from __future__ import annotations

import math
import time as clock
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.confidence import MOST, RATE, UNKNOWN
from hhmnet.fields import within
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.models.spec import ModelSpec
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator, clip_fields
from hhmnet.pose.following import fill_bodies
from hhmnet.pose.tracking import JOIN_GAP
from hhmnet.predict.engines import choose_device
from hhmnet.predict.live_pose import LivePerson, LivePose, Patches
from hhmnet.predict.motion import STILL, speeds
from hhmnet.predict.prediction import LivePrediction
from hhmnet.predict.recognizer import Recognizer
from hhmnet.predict.sources import InputClip
from hhmnet.sample import MODALITIES, UNKNOWN_LABEL, Sample
from hhmnet.video import KEPT_BYTES

DEFAULT_WINDOW = 2.0
"""Seconds of a window where neither the user nor the model says."""


class StreamError(ValueError):
    """Frames or skeletons that can't be used; the message says what to give instead."""


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
    """Persons in pictures who are recognised at the most, each in a window of their own."""
    modalities: tuple[str, ...] = ()
    """What to go by: skeleton, video or both; all that the model looks at if empty."""
    unknown: float = RATE
    """Share of clips of known classes that may be called unknown; 0 calls none so."""
    still: float = STILL
    """Body lengths a second. Whoever was slower for the newest half of the window does nothing: there is no label."""

    def __post_init__(self) -> None:
        if self.window is not None:
            within(self, 0.1, 60, "window")
        within(self, 1, 100, "persons")
        within(self, 1, math.inf, "every")
        within(self, 0, 60, "smoothing", "still")
        within(self, 0, MOST, "unknown")
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
        return replace(self, window=min(max(spec.clip_seconds or DEFAULT_WINDOW, 0.1), 60.0))


class SkeletonWindow:
    """The last T frames of skeletons that were pushed, of M persons.

    Args:
        shape: ``(M, T, V, C)``.

    Attributes:
        person: counts from 1 on how often somebody came who wasn't there for over 60 frames; 0 with nobody.
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self._joints, self._present = np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
        self._length = self.person = self._persons = self._absent = 0

    def push(self, steps: int, bodies: np.ndarray, longest: int) -> None:
        """Append the bodies of a frame.

        Args:
            steps: frames since the one before; where some never came, they are filled with a straight line.
            bodies: ``(m, V, C)`` float32, m at most M; a body of zeros isn't there.
            longest: gaps of more frames stay.
        """
        window, present = self._present.shape[1], bodies.any((1, 2))
        self._absent = 0 if present.any() else self._absent + steps
        if max(self._absent, steps) > JOIN_GAP:  # whoever comes now is somebody new
            self._length = self.person = 0
        if not self.person and not present.any():
            return
        if not self.person:
            self._persons += 1
            self.person, steps = self._persons, window
        kept = max(window - steps, 0)
        for array in (self._joints, self._present):
            array[:, :kept] = array[:, window - kept :].copy()
            array[:, kept:] = 0
        self._joints[: len(bodies), -1], self._present[: len(bodies), -1] = bodies, present
        self._length = min(self._length + steps, window) if self._length else 1
        if kept and 1 < steps <= longest + 1:
            for joints, there in zip(self._joints[:, kept - 1 :], self._present[:, kept - 1 :], strict=True):
                there[:], _ = fill_bodies(there, [joints], np.zeros(there.shape), longest)

    def clip(self) -> InputClip | None:
        """What is kept since somebody was first there."""
        if not self._length:
            return None
        joints, present = self._joints[:, -self._length :], self._present[:, -self._length :]
        return _clip_of(joints=joints, present=present, frame_index=np.arange(self._length, dtype=np.int32))


class StreamingRecognizer:
    """Recognises what the most important persons in a stream do, one by default, in windows that slide along.

    Frames stand at the places of an even grid of ``config.rate``. A frame that was dropped leaves a gap, which is
    filled with a straight line if it is no longer than a second; so speed stays right whatever gets lost. The window's
    joints go through the same steps as a whole clip's; pushing all frames of a clip that the window covers gives what
    :class:`~hhmnet.predict.recognizer.Recognizer` gives, as long as the person is found in the first frame and never
    lost between two detections. That holds for models that look at the video too: see
    :class:`~hhmnet.predict.live_pose.Patches`.

    Each frame's joints, by far the most of the work, are computed once. Of the network nothing can be kept: it sees the
    frames resampled, centred and scaled by the whole window, so every number changes when that moves on.

    Memory is bounded: joints of the window, the persons' tracks over it, and for a model that looks at the video at
    most 256 MiB of what is around them in its pictures.

    Args:
        model: of phase 1 or 2.
        config: window, and how often and how smoothly to answer.
        pose: how joints are found, or the networks that find them; those are loaded with the first picture if not
            given. The default settings if None.

    Attributes:
        config: with the window that is used.
        modalities: what answers go by, as far as it is there.
        pose: who is followed in pictures; None before the first.

    Raises:
        InputError: ``config.modalities`` aren't the model's.
    """

    def __init__(
        self,
        model: ActionModel,
        config: StreamingConfig | None = None,
        pose: PoseConfig | VideoPoseEstimator | None = None,
    ) -> None:
        self.model, self._networks = model.eval(), pose
        self.config = (config or StreamingConfig()).of(model.spec)
        device = next(model.parameters()).device
        self._recognizer = Recognizer(model, device, unknown=self.config.unknown)
        self.modalities = self.config.modalities or MODALITIES[: 1 + self._recognizer.looks_at_video]
        self._recognizer.check_modalities(self.modalities)
        self.pose: LivePose | None = None
        self.class_names = model.spec.class_names
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str = "auto",
        config: StreamingConfig | None = None,
        pose: PoseConfig | None = None,
    ) -> StreamingRecognizer:
        """A recognizer with the model of a run folder or a folder of ``zoo/``; raises PretrainedError."""
        return cls(from_pretrained(folder, choose_device(device)), config, pose)

    def reset(self) -> None:
        """Begin anew, as before the first frame."""
        self._frame = self._newest_answer = -1
        self._start = 0.0
        self._smooth: dict[int, tuple[int, np.ndarray]] = {}  # by person: frame, probabilities
        self._patches: dict[int, Patches] = {}
        self._skeletons: SkeletonWindow | None = None
        if self.pose is not None:
            self.pose.reset()

    def push_frame(self, image: np.ndarray, time: float | None = None) -> LivePrediction | None:
        """Append one picture; returns the answer if one is due, else None.

        Args:
            image: ``(H, W, 3)`` uint8, red, green, blue.
            time: seconds by the source's clock; by default one frame after the one before. A time in the past begins
                anew, as a source does that was opened again.

        Raises:
            StreamError: the picture isn't one, or skeletons were pushed before.
            PoseError: a network can't be had or run.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise StreamError(f"a picture must be (H, W, 3) uint8; got {image.shape} {image.dtype}")
        if self._skeletons is not None:
            raise StreamError("skeletons were pushed before; call reset() to go on with pictures")
        if self.pose is None:
            networks = self._networks
            if not isinstance(networks, VideoPoseEstimator):
                networks = VideoPoseEstimator(networks)
            self.pose = LivePose(networks, self.config.frames, self.config.rate, self.config.persons)
        if not self._step(time):
            return None
        self.pose.look(self._frame, image)
        self._keep(self.pose, image)
        return self._answer_if_due()

    def push_skeleton(self, joints: np.ndarray | None, time: float | None = None) -> LivePrediction | None:
        """Append the joints of one frame; returns the answer if one is due, else None.

        Args:
            joints: ``(V, C)``, or ``(M, V, C)`` with the most important person first, in the model's layout; None
                where nobody is there. A person whose joints are all zero isn't there.
            time: as for :meth:`push_frame`.

        Raises:
            StreamError: the joints aren't the model's or aren't finite, or pictures were pushed before.
        """
        if self._skeletons is None and self._frame >= 0:
            raise StreamError("pictures were pushed before; call reset() to go on with skeletons")
        layout, persons = self.model.spec.layout, self.model.spec.data.persons
        shape = layout.num_joints, layout.dims
        bodies = np.zeros((0, *shape), np.float32) if joints is None else np.asarray(joints, np.float32)
        bodies = bodies[None] if bodies.ndim == 2 else bodies
        if bodies.ndim != 3 or bodies.shape[1:] != shape:
            raise StreamError(
                f"joints must be {shape} of {layout.name}, for one person or several; got {bodies.shape}"
            )
        if not np.isfinite(bodies).all():
            raise StreamError("joints must be finite; give zeros, or None, for a person who isn't there")
        steps = self._step(time)
        if not steps:
            return None
        if self._skeletons is None:
            self._skeletons = SkeletonWindow((persons, self.config.frames, *shape))
        self._skeletons.push(steps, bodies[:persons], round(self.config.rate))
        return self._answer_if_due()

    def answer(self, least: float = 0.0) -> LivePrediction:
        """What the window says now, due or not, of the person who was followed first; ``others`` holds the others.

        Args:
            least: share of the window that must have passed since a person was first seen.
        """
        self._newest_answer, more = self._frame, 0
        if self._skeletons is not None:
            clips = {self._skeletons.person: self._skeletons.clip()}
        else:
            followed, more = ([], 0) if self.pose is None else (self.pose.followed, self.pose.others)
            clips = {one.person: self._clip_of(one) for one in followed} or {0: None}
        self._smooth = {person: known for person, known in self._smooth.items() if person in clips}
        first, *others = [self._predict(person, clip, least) for person, clip in clips.items()]
        return replace(first, others=tuple(others), more=more)

    def _predict(self, person: int, clip: InputClip | None, least: float) -> LivePrediction:
        """What the window says of one person, from the first time that the person was seen."""
        begun, frame = clock.perf_counter(), self._frame
        nothing = LivePrediction(frame, frame / self.config.rate, person)
        if clip is None:
            return nothing
        present = clip.sample.present
        covered = present.shape[1] / self.config.frames
        nothing = replace(nothing, covered=covered, present=float(present.any(0).mean()))
        if not present.any():
            self._smooth.pop(person, None)
        if not present.any() or covered < least:
            return nothing
        (found,) = self._recognizer.predict_clips([clip], self.modalities)
        if not found.modalities:
            return nothing
        probabilities = self._smoothed(frame, person, found.probabilities)
        label = self.class_names[int(probabilities.argmax())] if found.known else UNKNOWN
        return replace(
            nothing,
            label=label if self._moves(clip) else None,
            probabilities=probabilities,
            window_probabilities=found.probabilities,
            members=found.members,
            modalities=found.modalities,
            seconds=clock.perf_counter() - begun,
        )

    def _moves(self, clip: InputClip) -> bool:
        """Whether somebody moves in the newest half of a window."""
        newest = self.config.frames // 2
        return any(
            speeds(joints, present, self.config.rate)[-newest:].max(initial=0.0) >= self.config.still
            for joints, present in zip(clip.sample.joints, clip.sample.present, strict=True)
        )

    def _step(self, time: float | None) -> int:
        """Steps on the even grid from the last frame's place to the one nearest to this frame's time.

        0 where the frame is to be passed over, as its place is taken: a source of twice the rate is halved. A time that
        goes back by half a second begins anew.
        """
        if self._frame < 0:
            self._start, self._frame = time or 0.0, 0
            return 1
        rate = self.config.rate
        place = self._frame + 1.0 if time is None else (time - self._start) * rate
        if place < self._frame - rate / 2:
            self.reset()
            return self._step(time)
        # Halfway counts as before, and so does what only rounding puts beyond it.
        steps = max(math.ceil(place - 0.501) - self._frame, 0)
        self._frame += steps
        return steps

    def _answer_if_due(self) -> LivePrediction | None:
        if self._frame - self._newest_answer < self.config.every:
            return None
        return self.answer(self.config.least)

    def _keep(self, pose: LivePose, image: np.ndarray) -> None:
        """Keep what a model that looks at the video may want of this picture, and forget who has left."""
        roi = self.model.spec.roi
        if roi is None or "video" not in self.modalities:
            return
        whole, budget = roi.show == "background", KEPT_BYTES // pose.most
        kept = self._patches
        self._patches = {
            one.person: kept[one.person] if one.person in kept else Patches(self.config.frames, budget, whole)
            for one in pose.followed
        }
        for one in pose.followed:
            self._patches[one.person].add(self._frame, image, one, pose.layout)

    def _clip_of(self, person: LivePerson) -> InputClip:
        """The window of one of the persons in the pictures."""
        assert self.pose is not None
        poses, patches = self.pose.poses(person), self._patches.get(person.person)
        fields = clip_fields(poses, self.model.spec.layout, self.pose.config)
        if patches is None:
            return _clip_of(**fields | {"video_frames": None})
        newest = self._frame
        frames = np.arange(newest - poses.present.shape[1] + 1, newest + 1)
        clip = _clip_of(**fields | {"video": "stream", "video_frames": patches.shown(frames)})
        return clip._replace(video=patches)

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
