"""From what a user has to a prediction: source → ``InputClip`` → network input → logits → ``Prediction``.

Free of torch: an exported model recognises skeletons without it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hhmnet.confidence import MOST, RATE, UNKNOWN, softmax
from hhmnet.models.hub import find_model
from hhmnet.predict.engines import Engine, OnnxEngine, StreamLogits, TorchEngine, choose_device
from hhmnet.predict.sources import Input, InputClip, InputError, Sources
from hhmnet.sample import MODALITIES, Sample

if TYPE_CHECKING:
    from hhmnet.data.video_batch import VideoBatch
    from hhmnet.models.pretrained import ActionModel
    from hhmnet.pose.estimate import PoseConfig
    from hhmnet.readers.arrays import ArrayConfig


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one clip; P parts, K instants.

    Attributes:
        input: the file or the clip's name, as it was given; ``sample`` is the clip, ``video`` the file of its video.
        label: the most probable class, or ``unknown``.
        top: the most probable classes with their probabilities, the best first.
        probabilities: ``(classes,)``, in the order of the model's class names.
        modalities: what the answer rests on: ``skeleton``, ``video``, both, or nothing.
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


def best(
    probabilities: np.ndarray, class_names: tuple[str, ...], count: int
) -> tuple[tuple[str, float], ...]:
    """The ``count`` most probable classes of ``probabilities (classes,)``, the best first."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple((class_names[i], float(probabilities[i])) for i in order)


class Recognizer:
    """A trained model that answers on files, folders, stores and samples.

    Clips go through the same preprocessing as in evaluation, so a clip of a store gets the same answer here.

    Args:
        model: the model, which computes on ``device``, or an engine that computes its logits.
        pose: how joints are found in videos; by default as in training data, of as many persons as the model takes.
        videos: folder of the videos of skeleton files and stores, for a model that looks at them.
        arrays: what is said of joints in files of no fixed form.
        unknown: share of clips of known classes that may be called unknown, up to 0.2; 0 calls no clip so.

    Attributes:
        engine: computes the logits; ``class_names`` is what it tells apart.
        looks_at_video: whether it looks at pictures, or at skeletons alone.
        sources: reads inputs as clips in the model's joints.
    """

    def __init__(
        self,
        model: ActionModel | Engine,
        device: Any = "cpu",
        pose: PoseConfig | None = None,
        videos: Path | None = None,
        arrays: ArrayConfig | None = None,
        unknown: float = RATE,
    ) -> None:
        if not 0 <= unknown <= MOST:
            raise InputError(f"unknown must be from 0 to {MOST:g}; got {unknown}")
        self.engine = engine = model if isinstance(model, Engine) else TorchEngine(model, device)
        self.unknown = unknown
        self.class_names, self.looks_at_video = engine.class_names, engine.looks_at_video
        self.sources = Sources(
            engine.layout,
            pose,
            videos,
            with_videos=self.looks_at_video,
            arrays=arrays,
            persons=engine.persons,
            body_size=engine.body_size,
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "auto", **more: Any) -> Recognizer:
        """A recognizer with a trained model; ``pose``, ``videos``, ``arrays`` and ``unknown`` are as of the class.

        ``folder`` is the model's folder, a file that ``hhmnet export`` wrote, which runs on the CPU, a name of the zoo
        or ``org/name`` on the Hugging Face hub; ``device`` is ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        Raises PretrainedError, HubError or OnnxModelError: there is no such model, or it can't be had or run here;
        InputError: there is no such device, or ``unknown`` is out of its range.
        """
        folder = find_model(folder)
        if folder.suffix == ".onnx":
            return cls(OnnxEngine(folder), **more)
        from hhmnet.models.pretrained import from_pretrained

        place = choose_device(device)
        return cls(from_pretrained(folder, place), place, **more)

    @property
    def clip_seconds(self) -> float | None:
        """How long the clips are that the model learned from; None if it doesn't say so."""
        return self.engine.spec.clip_seconds

    def predict(
        self,
        source: str | Path | Sample | Input | InputClip,
        top: int = 5,
        modalities: Sequence[str] = MODALITIES,
        videos: Path | None = None,
    ) -> Prediction:
        """The answer on one clip: a video, a skeleton file, a clip of a store (see ``find_inputs``), a sample in the
        model's joints, or a clip that ``sources.read`` gave.

        ``top`` is how many classes to name, ``modalities`` what to go by: ``skeleton``, ``video`` or both;
        ``videos`` the folder of a sample's video. Raises InputError: the input can't be read, or has nothing that
        the model looks at.
        """
        began = time.perf_counter()
        self.check_modalities(modalities)
        clip = InputClip.of(source, videos) if isinstance(source, Sample) else self.sources.read(source)
        (found,) = self.predict_clips([clip], modalities, top)
        if not found.modalities:
            reason = "; ".join(found.notes) or f"it has no {' and no '.join(modalities)}"
            raise InputError(f"{clip.name}: {reason}")
        return replace(found, seconds=time.perf_counter() - began)

    def predict_clips(
        self, clips: Sequence[InputClip], modalities: Sequence[str] = MODALITIES, top: int = 5
    ) -> list[Prediction]:
        """The answers on clips that were read already, as one batch; arguments as for :meth:`predict`.

        A clip with nothing that the model looks at gets an answer that uses no modality, and means nothing.
        """
        began = time.perf_counter()
        self.check_modalities(modalities)
        if not clips:
            return []
        found, notes = self._logits(clips, modalities)
        probabilities, known = softmax(found.logits), np.ones(len(clips), bool)
        for name, one in self.engine.confidence.items():
            rows = (found.used == [modality in name.split("+") for modality in MODALITIES]).all(1)
            probabilities[rows] = softmax(found.logits[rows], one.temperature)
            known[rows] = one.known(found.logits[rows], self.unknown)
        members, looks = {}, {name: "video" if name == "video" else "skeleton" for name in found.members}
        for name, logits in found.members.items():  # each as sure as its modality
            own = self.engine.confidence.get(looks[name])
            members[name] = softmax(logits, own.temperature if own else 1.0)
        seconds = (time.perf_counter() - began) / len(clips)
        predictions = []
        for n, clip in enumerate(clips):
            used = tuple(name for name, is_used in zip(MODALITIES, found.used[n], strict=True) if is_used)
            names = best(probabilities[n], self.class_names, max(top, 1))
            predictions.append(
                Prediction(
                    input=clip.name,
                    label=names[0][0] if known[n] else UNKNOWN,
                    known=bool(known[n]),
                    top=names,
                    probabilities=probabilities[n],
                    modalities=used,
                    members={name: part[n] for name, part in members.items() if looks[name] in used},
                    seconds=seconds,
                    sample=clip.sample,
                    guidance=found.guidance[n] if found.guidance is not None and len(used) == 2 else None,
                    times=found.times[n] if found.times is not None and "video" in used else None,
                    notes=notes[n],
                    video=clip.video if isinstance(clip.video, Path) else None,
                )
            )
        return predictions

    def enroll(self, examples: Mapping[str, Sequence[str | Path]]) -> Recognizer:
        """A recognizer of other classes, from two or more files of each; the skeleton encoders stay as they are. Raises
        InputError: the examples are too few, or the model is an exported one."""
        from hhmnet.predict.enroll import encoders_of, enrolled, read_examples

        model = encoders_of(self.engine)
        found, _ = read_examples(model, self.sources, {name: [*files] for name, files in examples.items()})
        made, device, sources = enrolled(model, found)[0], next(model.parameters()).device, self.sources
        return Recognizer(made, device, sources.pose, arrays=sources.arrays, unknown=self.unknown)

    def check_modalities(self, modalities: Sequence[str]) -> None:
        """Raise InputError for modalities that don't exist, or that the model doesn't look at."""
        if not modalities or set(modalities) - set(MODALITIES):
            raise InputError(f"modalities must be among {', '.join(MODALITIES)}; got {', '.join(modalities)}")
        if not self.looks_at_video and "skeleton" not in modalities:
            raise InputError("the model looks at skeletons alone; it has no modality 'video'")

    def _logits(
        self, clips: Sequence[InputClip], modalities: Sequence[str]
    ) -> tuple[StreamLogits, list[tuple[str, ...]]]:
        """Logits of a batch of clips, and each clip's notes with what couldn't be had of its video."""
        samples, persons = [clip.sample for clip in clips], self.engine.persons
        lengths = np.array([sample.num_frames for sample in samples], np.int64)
        joints = np.zeros((lengths.sum(), persons, *samples[0].joints.shape[2:]), np.float32)
        present = np.zeros(joints.shape[:2], bool)
        for sample, end in zip(samples, lengths.cumsum(), strict=True):
            frames, count = slice(end - sample.num_frames, end), min(persons, sample.num_persons)
            joints[frames, :count] = sample.joints[:count].swapaxes(0, 1)
            present[frames, :count] = sample.present[:count].T
        by_skeletons = "skeleton" in modalities
        crops, notes = None, [clip.notes for clip in clips]
        is_shown = not by_skeletons or any(clip.video is not None for clip in clips)
        if self.looks_at_video and "video" in modalities and is_shown:
            crops, notes = self._crops(clips)
        return self.engine.logits(joints, present if by_skeletons else None, lengths, crops), notes

    def _crops(self, clips: Sequence[InputClip]) -> tuple[VideoBatch | None, list[tuple[str, ...]]]:
        """What is cut out of the clips' videos, and each clip's notes with what couldn't be had of its video."""
        try:
            from hhmnet.data.roi import cut_clip
            from hhmnet.data.video_batch import stack_crops
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            missing = "video: pictures are cut out of it with PyTorch, which isn't installed"
            return None, [(*clip.notes, missing) if clip.video else clip.notes for clip in clips]
        layout, roi = self.engine.layout, self.engine.spec.roi
        assert roi is not None
        crops, notes = [], []
        for clip in clips:
            cut, problem = cut_clip(clip.sample, layout, clip.video, roi)
            crops.append(cut)
            notes.append((*clip.notes, f"video: {problem}") if problem else clip.notes)
        return stack_crops(crops), notes
