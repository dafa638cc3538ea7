"""Answers on new clips: a trained model, and all that leads from a file to what it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hhmnet.data.dataset import to_clips
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import ActionModel, Answer, from_pretrained
from hhmnet.pose.clips import ClipConfig
from hhmnet.pose.estimate import PoseConfig
from hhmnet.predict.prediction import Prediction, best, softmax
from hhmnet.predict.sources import (
    Clip,
    Input,
    InputError,
    Sources,
    check_answered,
    check_modalities,
    clip_of,
)
from hhmnet.sample import MODALITIES, Sample

__all__ = ["Prediction", "Recognizer", "Said"]


class Said(NamedTuple):
    """What a model says of N clips, and what it looked at.

    Attributes:
        answer: logits of model and members, and which modalities were used.
        guidance: ``(N, P, K)``, weights of parts and instants; None without guidance or video.
        times: ``(N, K)``, the frame of its clip that each instant shows; None without video.
        notes: for each clip, what couldn't be had of its video.
    """

    answer: Answer
    guidance: np.ndarray | None
    times: np.ndarray | None
    notes: list[tuple[str, ...]]


class Recognizer:
    """A trained model that answers on files, folders, stores and samples.

    Clips go through the same preprocessing as in evaluation, so a clip of a store gets the same answer here.

    Args:
        model: the model.
        device: where it computes.
        pose: how joints are found in videos; by default as in training data, with as many persons as the model takes.
        videos: folder of the videos of skeleton files and stores, for a model that looks at them.
        units: what 3-D joints in files of no fixed unit are measured in: m, cm or mm.

    Attributes:
        model: the model, in eval mode.
        class_names: what it tells apart.
        looks_at_video: whether it looks at pictures, or at skeletons alone.
        sources: reads inputs as clips in the model's joints.
    """

    def __init__(
        self,
        model: ActionModel,
        device: torch.device | str = "cpu",
        pose: PoseConfig | None = None,
        videos: Path | None = None,
        units: str = "m",
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.class_names = model.spec.class_names
        self.looks_at_video = isinstance(model.network, HeterogeneousNetwork)
        if pose is None:
            pose = ClipConfig(persons=model.spec.data.persons)
        elif not isinstance(pose, ClipConfig):
            pose = ClipConfig(**vars(pose))
        self.sources = Sources(model.spec.layout, pose, videos, with_videos=self.looks_at_video, units=units)

    @property
    def clip_seconds(self) -> float | None:
        """How long the clips are that the model learned from; None if it doesn't say so."""
        return self.model.spec.clip_seconds

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str = "auto",
        pose: PoseConfig | None = None,
        videos: Path | None = None,
        units: str = "m",
    ) -> Recognizer:
        """A recognizer with the model of a run folder, or of any folder with a trained model.

        Args:
            folder: the model's folder.
            device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
            pose: see :class:`Recognizer`; so are the others.

        Raises:
            PretrainedError: there is no model in the folder, or no such device.
        """
        place = choose_device(device)
        return cls(from_pretrained(folder, place), place, pose, videos, units)

    def predict(
        self,
        source: str | Path | Sample | Input | Clip,
        top: int = 5,
        modalities: Sequence[str] = MODALITIES,
        videos: Path | None = None,
    ) -> Prediction:
        """The answer on one clip.

        Args:
            source: a video, a skeleton file, a clip of a store (see ``find_inputs``), a sample in the model's joints,
                or a clip that ``sources.read`` gave.
            top: how many classes to name.
            modalities: what to go by: ``skeleton``, ``video`` or both.
            videos: folder of a sample's video.

        Raises:
            InputError: the input can't be read, or has nothing that the model looks at.
        """
        began = time.perf_counter()
        check_modalities(modalities, self.looks_at_video)
        clip = clip_of(source, videos) if isinstance(source, Sample) else self.sources.read(source)
        said = self.ask([clip], modalities)
        prediction = self._predictions([clip], said, top, time.perf_counter() - began)[0]
        check_answered(clip, prediction.modalities, modalities, prediction.notes)
        return prediction

    def predict_samples(
        self,
        samples: Sequence[Sample],
        videos: Path | None = None,
        modalities: Sequence[str] = MODALITIES,
        top: int = 5,
    ) -> list[Prediction]:
        """The answers on samples in the model's joints, as one batch.

        A clip with nothing that the model looks at gets an answer that uses no modality, and means nothing.

        Args:
            samples: the clips.
            videos: folder of their videos; without it only skeletons are looked at.
            modalities: what to go by: ``skeleton``, ``video`` or both.
            top: how many classes to name.
        """
        began = time.perf_counter()
        check_modalities(modalities, self.looks_at_video)
        clips = [clip_of(sample, videos) for sample in samples]
        if not clips:
            return []
        said = self.ask(clips, modalities)
        return self._predictions(clips, said, top, (time.perf_counter() - began) / len(clips))

    @torch.inference_mode()
    def ask(self, clips: Sequence[Clip], modalities: Sequence[str] = MODALITIES) -> Said:
        """The model's answer on a batch of clips; see :class:`Said`."""
        spec = self.model.spec
        skeletons = video = None
        notes = [clip.notes for clip in clips]
        if "skeleton" in modalities:
            samples = [clip.sample for clip in clips]
            skeletons = to_clips(
                [sample.joints for sample in samples],
                [sample.present for sample in samples],
                spec.data.persons,
            ).to(self.device)
        wanted = self.looks_at_video and "video" in modalities
        if wanted and (skeletons is None or any(clip.video for clip in clips)):
            video, notes = self._crops(clips)
        with _watching(self.model.network) as views:
            answer = self.model.answer(skeletons, video)
        lengths = np.array([clip.sample.num_frames for clip in clips])
        if not views:
            return Said(answer, None, None, notes)
        frames = spec.data.frames if skeletons is not None else spec.roi.instants  # type: ignore[union-attr]
        times = [
            _in_clip(view.times, lengths, frames, (number + 0.5) / len(views))
            for number, view in enumerate(views)
        ]
        guided = [view.guidance.cpu().numpy() for view in views if view.guidance is not None]
        return Said(answer, np.mean(guided, 0) if guided else None, np.mean(times, 0), notes)

    def _crops(self, clips: Sequence[Clip]) -> tuple[Any, list[tuple[str, ...]]]:
        """What is cut out of the clips' videos, as a batch, and what couldn't be."""
        from hhmnet.predict.crops import cut_clips

        assert self.model.spec.roi is not None
        batch, notes = cut_clips(clips, self.model.spec.layout, self.model.spec.roi)
        return batch.to(self.device), notes

    def _predictions(self, clips: Sequence[Clip], said: Said, top: int, seconds: float) -> list[Prediction]:
        probabilities = softmax(said.answer.logits.cpu().numpy())
        each = {name: softmax(part.cpu().numpy()) for name, part in said.answer.each.items()}
        kinds = {name: "video" if name == "video" else "skeleton" for name in each}
        used = said.answer.used.cpu().numpy()
        found = []
        for n, clip in enumerate(clips):
            modalities = tuple(name for name, is_used in zip(MODALITIES, used[n], strict=True) if is_used)
            found.append(
                Prediction(
                    input=clip.name,
                    label=self.class_names[int(probabilities[n].argmax())],
                    top=best(probabilities[n], self.class_names, top),
                    probabilities=probabilities[n],
                    modalities=modalities,
                    members={name: part[n] for name, part in each.items() if kinds[name] in modalities},
                    seconds=seconds,
                    sample=clip.sample,
                    guidance=None if said.guidance is None or len(modalities) < 2 else said.guidance[n],
                    times=None if said.times is None or "video" not in modalities else said.times[n],
                    notes=said.notes[n],
                    video=clip.video if isinstance(clip.video, Path) else None,
                )
            )
        return found


def choose_device(name: str) -> torch.device:
    """The device of a name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``; raises InputError without one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no GPU that torch can use; choose the device cpu or auto")
    return torch.device(name)


class _View(NamedTuple):
    """What one look of the heterogeneous network was at: instants among sampled frames, and the parts' weights."""

    times: Tensor
    guidance: Tensor | None


@contextmanager
def _watching(network: torch.nn.Module) -> Iterator[list[_View]]:
    """Collect what a heterogeneous network looks at, view by view; nothing of other networks."""
    views: list[_View] = []
    if not isinstance(network, HeterogeneousNetwork):
        yield views
        return

    def note(module: torch.nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if given[2] is not None:
            views.append(_View(given[2].times, output.guidance))

    hook = network.register_forward_hook(note)
    try:
        yield views
    finally:
        hook.remove()


def _in_clip(times: Tensor, lengths: np.ndarray, frames: int, phase: float) -> np.ndarray:
    """Instants among ``frames`` sampled ones, ``(N, K)``, as frames of clips of ``lengths (N,)``."""
    return (times.cpu().numpy() + phase) * (lengths[:, None] / frames) - 0.5
