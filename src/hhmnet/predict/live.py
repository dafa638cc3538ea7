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
from hhmnet.pose.estimate import PoseConfig, VideoPoseEstimator
from hhmnet.pose.following import fill_bodies
from hhmnet.pose.tracking import JOIN_GAP
from hhmnet.predict.engines import choose_device
from hhmnet.predict.live_pose import LastPictures, LivePose
from hhmnet.predict.recognizer import Recognizer, best
from hhmnet.predict.sources import InputClip, InputError
from hhmnet.predict.timeline import STILL, speeds
from hhmnet.sample import MODALITIES, UNKNOWN_LABEL, Sample
from hhmnet.skeleton import SkeletonLayout

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
    modalities: tuple[str, ...] = ()
    """What to go by: skeleton, video or both; all that the model looks at if empty."""
    unknown: float = RATE
    """Share of clips of known classes that may be called unknown; 0 calls none so."""
    still: float = STILL
    """Body lengths a second. Whoever was slower for the newest half of the window does nothing: there is no label."""

    def __post_init__(self) -> None:
        if self.window is not None:
            within(self, 0.1, 60, "window")
        within(self, 1, math.inf, "every")
        within(self, 0, 60, "smoothing", "still")
        within(self, 0, MOST, "unknown")
        within(self, 0, 1, "least")
        within(self, 1, 240, "rate")

    @property
    def frames(self) -> int:
        """Frames of the window."""
        return max(round((self.window or DEFAULT_WINDOW) * self.rate), 2)


@dataclass(frozen=True, eq=False)
class LivePrediction:
    """What the model says of the most important person in the window that ends at a frame.

    Attributes:
        frame: the newest frame, counted from 0 with those that were dropped; ``time`` in seconds since the first.
        person: from 1 in the order in which they were followed; 0 for nobody.
        label: the most probable class, or ``unknown``; None as long as there is no answer, and while nothing is done.
        probabilities: of all classes, ``(classes,)``, smoothed; None where nobody is there, or not for long enough.
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


class LiveSkeletons:
    """The bodies of the last frames that were pushed, at most T; so many frames that never came, one behind the other,
    as ``longest`` says are filled with a straight line.

    Attributes:
        joints: ``(M, t, V, C)`` since somebody was first there.
        person: counts from 1 on how often somebody came who wasn't there for over 60 frames; 0 with nobody.
    """

    others = 0

    def __init__(self, shape: tuple[int, int, int, int], longest: int) -> None:
        self._frames, self._longest = shape[1], longest
        self.joints = np.zeros((shape[0], 0, *shape[2:]), np.float32)
        self.person = self._persons = self._newest = self._seen = 0

    def push(self, frame: int, bodies: np.ndarray) -> None:
        """Append the bodies ``(m, V, C)`` float32 of a frame, m at most M; a body of zeros isn't there."""
        if self.person and frame - self._seen > JOIN_GAP:  # whoever comes now is somebody new
            self.joints, self.person = self.joints[:, :0], 0
        if bodies.any():
            self._seen = frame
            if not self.person:
                self.person = self._persons = self._persons + 1
        steps = frame - self._newest if self.joints.shape[1] else 0
        self._newest = frame
        if not self.person:
            return
        came = np.zeros((len(self.joints), steps + 1, *self.joints.shape[2:]), np.float32)
        came[:, :1] = self.joints[:, -1:] if steps else 0
        came[: len(bodies), -1] = bodies
        for body in came:
            fill_bodies(np.asarray(body.any((1, 2))), [body], np.zeros(len(body)), self._longest)
        self.joints = np.concatenate([self.joints[:, :-1], came], 1)[:, -self._frames :]

    def fields(self, layout: SkeletonLayout) -> dict[str, Any]:
        """A sample's fields of what is kept."""
        index = np.arange(self.joints.shape[1], dtype=np.int32)
        return {"joints": self.joints, "present": self.joints.any((2, 3)), "frame_index": index}


class StreamingRecognizer:
    """Recognises what the most important person in a stream does, in a window that slides along.

    Frames stand at the places of an even grid of ``config.rate``. A frame that was dropped leaves a gap, which is
    filled with a straight line if it is no longer than a second; so speed stays right whatever gets lost. The window's
    joints go through the same steps as a whole clip's: pushing all frames of a clip that the window covers gives what
    :class:`~hhmnet.predict.recognizer.Recognizer` gives, as long as the person is found in the first frame and never
    lost between two detections. Joints of a frame are found once, by ``pose``: how, or the networks that do it, loaded
    with the first picture. Memory is bounded, by 256 MiB for pictures of a model that looks at them.

    Attributes:
        config: with the window that is used.
        modalities: what answers go by, as far as it is there.
        kept: the persons in the window's pictures, or its skeletons; None before the first.

    Raises InputError: ``config.modalities`` aren't the model's.
    """

    kept: LivePose | LiveSkeletons | None

    def __init__(
        self,
        model: ActionModel,
        config: StreamingConfig | None = None,
        pose: PoseConfig | VideoPoseEstimator | None = None,
    ) -> None:
        self.model, self._networks = model.eval(), pose
        self.config = config = config or StreamingConfig()
        if config.window is None:
            seconds = min(max(model.spec.clip_seconds or DEFAULT_WINDOW, 0.1), 60.0)
            self.config = replace(config, window=seconds)
        device = next(model.parameters()).device
        self._recognizer = Recognizer(model, device, unknown=config.unknown)
        self.modalities = config.modalities or MODALITIES[: 1 + self._recognizer.looks_at_video]
        self._recognizer.check_modalities(self.modalities)
        self.class_names = model.spec.class_names
        self.reset()

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto", **more: Any) -> StreamingRecognizer:
        """A recognizer with the model of a run folder or a folder of ``zoo/``; ``config`` and ``pose`` are as of the
        class. Raises PretrainedError."""
        return cls(from_pretrained(folder, choose_device(device)), **more)

    def reset(self) -> None:
        """Begin anew, as before the first frame; the networks stay loaded."""
        self._frame = self._newest_answer = -1
        self._start = 0.0
        self._smooth: tuple[int, int, np.ndarray] | None = None  # person, frame, probabilities
        self._pictures, self.kept = LastPictures(self.config.frames), None

    def push_frame(self, image: np.ndarray, time: float | None = None) -> LivePrediction | None:
        """Append one picture ``(H, W, 3)`` uint8, red, green, blue; returns the answer if one is due, else None.

        ``time`` is in seconds by the source's clock; by default one frame after the one before. A time in the past
        begins anew, as a source does that was opened again. Raises InputError: the picture isn't one, or skeletons
        were pushed before; PoseError: a network can't be had or run.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"a picture must be (H, W, 3) uint8; got {image.shape} {image.dtype}")
        if isinstance(self.kept, LiveSkeletons):
            raise InputError("skeletons were pushed before; call reset() to go on with pictures")
        if not isinstance(self._networks, VideoPoseEstimator):
            self._networks = VideoPoseEstimator(self._networks)
        if not self._step(time):
            return None
        self.kept = self.kept or LivePose(self._networks, self.config.frames, self.config.rate)
        self.kept.look(self._frame, image)
        if "video" in self.modalities:
            self._pictures.add(self._frame, image)
        return self._answer_if_due()

    def push_skeleton(self, joints: np.ndarray | None, time: float | None = None) -> LivePrediction | None:
        """Append the joints of one frame; returns the answer if one is due, else None. For ``time`` see above.

        Joints are ``(V, C)``, or ``(M, V, C)`` with the most important person first, in the model's layout; None
        where nobody is there. A person whose joints are all zero isn't there. Raises InputError: the joints aren't
        the model's or aren't finite, or pictures were pushed before.
        """
        if isinstance(self.kept, LivePose):
            raise InputError("pictures were pushed before; call reset() to go on with skeletons")
        layout, persons = self.model.spec.layout, self.model.spec.data.persons
        shape = layout.num_joints, layout.dims
        bodies = np.zeros((0, *shape), np.float32) if joints is None else np.array(joints, np.float32)
        bodies = bodies[None] if bodies.ndim == 2 else bodies
        if bodies.ndim != 3 or bodies.shape[1:] != shape:
            raise InputError(
                f"joints must be {shape} of {layout.name}, for one person or several; got {bodies.shape}"
            )
        if not np.isfinite(bodies).all():
            raise InputError("joints must be finite; give zeros, or None, for a person who isn't there")
        if not self._step(time):
            return None
        window = persons, self.config.frames, *shape
        self.kept = self.kept or LiveSkeletons(window, longest=round(self.config.rate))
        self.kept.push(self._frame, bodies[:persons])
        return self._answer_if_due()

    def answer(self, least: float = 0.0) -> LivePrediction:
        """What the window says now, due or not, once ``least`` of it has passed since the person was first seen."""
        begun, config, kept = clock.perf_counter(), self.config, self.kept
        self._newest_answer = self._frame
        nothing = LivePrediction(self._frame, self._frame / config.rate, 0)
        if kept is None or not kept.person:
            return nothing
        clip = self._clip(kept)
        present = clip.sample.present
        nothing = replace(
            nothing,
            person=kept.person,
            covered=present.shape[1] / config.frames,
            present=float(present.any(0).mean()),
            more=kept.others,
        )
        if not present.any():
            self._smooth = None
        if not present.any() or nothing.covered < least:
            return nothing
        (found,) = self._recognizer.predict_clips([clip], self.modalities)
        if not found.modalities:
            return nothing
        probabilities = self._smoothed(kept.person, found.probabilities)
        label = self.class_names[int(probabilities.argmax())] if found.known else UNKNOWN
        moves = any(
            speeds(joints, there, config.rate)[-(config.frames // 2) :].max(initial=0.0) >= config.still
            for joints, there in zip(clip.sample.joints, present, strict=True)
        )
        return replace(
            nothing,
            label=label if moves else None,
            probabilities=probabilities,
            modalities=found.modalities,
            seconds=clock.perf_counter() - begun,
        )

    def _clip(self, kept: LivePose | LiveSkeletons) -> InputClip:
        """The window as a clip."""
        fields, video = kept.fields(self.model.spec.layout), None
        if "video" in self.modalities and isinstance(kept, LivePose):
            frames = np.arange(self._frame - fields["present"].shape[1] + 1, self._frame + 1)
            fields |= {"video": "stream", "video_frames": self._pictures.shown(frames)}
            video = self._pictures
        return InputClip("window", Sample("window", UNKNOWN_LABEL, **fields), video)

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
        is_due = self._frame - self._newest_answer >= self.config.every
        return self.answer(self.config.least) if is_due else None

    def _smoothed(self, person: int, own: np.ndarray) -> np.ndarray:
        """Mix a window's probabilities with those before it; another person's don't count."""
        constant = self.config.smoothing * self.config.rate
        if self._smooth is not None and self._smooth[0] == person and constant > 0:
            _, before, probabilities = self._smooth
            kept = math.exp(-(self._frame - before) / constant)
            own = kept * probabilities + (1 - kept) * own
        self._smooth = person, self._frame, own
        return own
