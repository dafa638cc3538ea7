"""Answers of an exported model: onnxruntime and numpy; PyTorch only where a video has to be looked at.

Joints in videos are found, and pictures are cut out of them, with PyTorch. Where that isn't installed, skeleton files
still get their answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hhmnet.predict.prediction import Prediction, best, softmax
from hhmnet.predict.sources import (
    Clip,
    Input,
    InputError,
    Sources,
    check_answered,
    check_modalities,
    clip_of,
    is_video,
)
from hhmnet.sample import MODALITIES, Sample
from hhmnet.skeleton import SkeletonLayout

if TYPE_CHECKING:
    from hhmnet.pose.clips import ClipConfig

METADATA = "hhmnet"
"""Key of the file's metadata under which the model's settings are, as JSON."""


_REMEDY = "make it with hhmnet export"
_MOST = 1_000  # persons of a clip; a file that says more would take all memory


class OnnxModelError(ValueError):
    """A file that is no model that ``hhmnet export`` wrote, or onnxruntime is missing."""


class _Shown(NamedTuple):
    """The graph's inputs for the video of N clips, their instants as frames ``(N, K)``, and what couldn't be had."""

    inputs: dict[str, np.ndarray]
    times: np.ndarray | None
    notes: list[tuple[str, ...]]


class OnnxRecognizer:
    """A model that ``hhmnet export`` wrote; answers in the same form as :class:`~hhmnet.predict.Recognizer`.

    Args:
        file: the ONNX file.
        pose: how joints are found in videos.
        videos: folder of the videos of skeleton files and stores, for a model that looks at them.
        units: what 3-D joints in files of no fixed unit are measured in: m, cm or mm.
        threads: of onnxruntime; 0 leaves the number to it.

    Attributes:
        class_names: what the model tells apart, in the order of the logits.
        layout: the joints that it takes.
        persons: how many persons of a clip it looks at, M.
        members: names of what its answer is joined from; empty for one stream.
        looks_at_video: whether it looks at pictures, or at skeletons alone.
        settings: the model's settings, as in a run's ``config.json``.
        sources: reads inputs as clips in the model's joints.

    Raises:
        OnnxModelError: the file is missing or is no such model, or onnxruntime isn't installed.
    """

    def __init__(
        self,
        file: str | Path,
        pose: ClipConfig | None = None,
        videos: Path | None = None,
        units: str = "m",
        threads: int = 0,
    ) -> None:
        self.file, self._pose = Path(file), pose
        self._session = _open(self.file, threads)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            self._outputs = [output.name for output in self._session.get_outputs()]
        except UnicodeDecodeError:
            raise OnnxModelError(f"{self.file}: its names are no text; {_REMEDY}") from None
        notes = _notes(self.file, metadata)
        self.settings: dict[str, Any] = notes["model"]
        try:
            self.members: tuple[str, ...] = _names("members", notes["members"])
            self.class_names: tuple[str, ...] = _names("class_names", self.settings["class_names"])
            self.layout = SkeletonLayout.from_dict(self.settings["layout"])
            self.persons = _count("persons", self.settings["data"]["persons"])
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the field {error} is missing" if isinstance(error, KeyError) else error
            raise OnnxModelError(f"{self.file}: its metadata: {reason}; {_REMEDY}") from None
        self.looks_at_video = "heterogeneous" in self.settings
        self.sources = Sources(self.layout, pose, videos, with_videos=self.looks_at_video, units=units)

    def predict(
        self,
        source: str | Path | Sample | Input,
        top: int = 5,
        modalities: Sequence[str] = MODALITIES,
        videos: Path | None = None,
    ) -> Prediction:
        """The answer on one clip.

        Args:
            source: a skeleton file, a video, a clip of a store or a sample in the model's joints.
            top: how many classes to name.
            modalities: what to go by: ``skeleton``, ``video`` or both.
            videos: folder of a sample's video.

        Raises:
            InputError: the input can't be read, has nothing that the model looks at, or needs PyTorch.
        """
        began = time.perf_counter()
        check_modalities(modalities, self.looks_at_video)
        clip = clip_of(source, videos) if isinstance(source, Sample) else self._read(source)
        found = self._answers([clip], modalities, top, began)[0]
        check_answered(clip, found.modalities, modalities, found.notes)
        return found

    def predict_samples(
        self,
        samples: Sequence[Sample],
        videos: Path | None = None,
        modalities: Sequence[str] = MODALITIES,
        top: int = 5,
    ) -> list[Prediction]:
        """The answers on samples in the model's joints, as one batch; arguments as for :meth:`predict`."""
        began = time.perf_counter()
        check_modalities(modalities, self.looks_at_video)
        return self._answers([clip_of(sample, videos) for sample in samples], modalities, top, began)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The graph's outputs by name for its inputs by name; docs/export.md says what they are."""
        try:
            found = self._session.run(None, dict(inputs))
        except Exception as error:  # onnxruntime's have no class in common but this
            reason = " ".join(str(error).split())[:200]
            raise OnnxModelError(f"{self.file}: its graph can't be run on this input ({reason})") from None
        return dict(zip(self._outputs, found, strict=True))

    def _read(self, source: str | Path | Input) -> Clip:
        path = source.path if isinstance(source, Input) else Path(source)
        try:
            if self._pose is None and is_video(path):
                from hhmnet.pose.clips import ClipConfig

                self.sources.pose = ClipConfig(persons=self.persons)
            return self.sources.read(source)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "torch":
                raise
            raise InputError(
                f"{path}: joints are found in videos with PyTorch, which isn't installed; "
                "give a skeleton file, or pip install torch"
            ) from None

    def _answers(
        self, clips: Sequence[Clip], modalities: Sequence[str], top: int, began: float
    ) -> list[Prediction]:
        if not clips:
            return []
        shown = self._show(clips, modalities)
        out = self.run(_ragged(clips, self.persons, "skeleton" in modalities) | shown.inputs)
        wanted = {"logits": (len(clips), len(self.class_names)), "used": (len(clips), len(MODALITIES))}
        for name, shape in wanted.items():
            if name not in out or out[name].shape != shape:
                raise OnnxModelError(f"{self.file}: its graph gives no '{name}' of shape {shape}; {_REMEDY}")
        probabilities, members = softmax(out["logits"]), softmax(out["members"]) if "members" in out else ()
        seconds = (time.perf_counter() - began) / len(clips)
        found = []
        for n, clip in enumerate(clips):
            used = tuple(name for name, is_used in zip(MODALITIES, out["used"][n], strict=True) if is_used)
            votes = {name: part[n] for name, part in zip(self.members, members, strict=True)}
            names = best(probabilities[n], self.class_names, max(top, 1))
            found.append(
                Prediction(
                    input=clip.name,
                    label=names[0][0],
                    top=names,
                    probabilities=probabilities[n],
                    modalities=used,
                    members={
                        name: vote
                        for name, vote in votes.items()
                        if ("video" if name == "video" else "skeleton") in used
                    },
                    seconds=seconds,
                    sample=clip.sample,
                    guidance=out["guidance"][n] if "guidance" in out and len(used) == 2 else None,
                    times=shown.times[n] if shown.times is not None and "video" in used else None,
                    notes=shown.notes[n],
                    video=clip.video if isinstance(clip.video, Path) else None,
                )
            )
        return found

    def _show(self, clips: Sequence[Clip], modalities: Sequence[str]) -> _Shown:
        """What the clips' videos show, if the model looks at them and there are any."""
        notes = [clip.notes for clip in clips]
        if not self.looks_at_video:
            return _Shown({}, None, notes)
        if "video" in modalities and any(clip.video is not None for clip in clips):
            try:
                from hhmnet.predict.onnx_video import show
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] != "torch":
                    raise
                missing = "video: pictures are cut out of it with PyTorch, which isn't installed"
                notes = [
                    (*note, missing) if clip.video else note for note, clip in zip(notes, clips, strict=True)
                ]
            else:
                return _Shown(*show(clips, self.settings, with_skeletons="skeleton" in modalities))
        return _Shown(self._nothing(len(clips)), None, notes)

    def _nothing(self, count: int) -> dict[str, np.ndarray]:
        """The graph's inputs for the videos of clips that have none."""
        kinds = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}
        wanted = self._session.get_inputs()[3:]
        return {node.name: np.zeros((count, *node.shape[1:]), kinds[node.type]) for node in wanted}


def _ragged(clips: Sequence[Clip], persons: int, wanted: bool) -> dict[str, np.ndarray]:
    """Clips as the graph's first inputs, one behind the other; with nobody in them unless skeletons are ``wanted``."""
    samples = [clip.sample for clip in clips]
    lengths = np.array([sample.num_frames for sample in samples], np.int64)
    joints = np.zeros((lengths.sum(), persons, *samples[0].joints.shape[2:]), np.float32)
    present = np.zeros(joints.shape[:2], bool)
    for sample, end in zip(samples, lengths.cumsum(), strict=True):
        frames, count = slice(end - sample.num_frames, end), min(persons, sample.num_persons)
        joints[frames, :count] = sample.joints[:count].swapaxes(0, 1)
        present[frames, :count] = sample.present[:count].T & wanted
    return {"joints": joints, "present": present, "lengths": lengths}


def _open(file: Path, threads: int) -> Any:
    """onnxruntime's session of a file, on the CPU."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise OnnxModelError(
            f"{file}: running it needs the package 'onnxruntime', which isn't installed; pip install 'hhmnet[export]'"
        ) from None
    if not file.is_file():
        raise OnnxModelError(f"{file}: not found; hhmnet export RUN --out {file} makes it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no class in common but this
        reason = " ".join(str(error).split())[:200]
        raise OnnxModelError(f"{file}: no ONNX file that onnxruntime can run ({reason})") from None


def _notes(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What ``hhmnet export`` wrote beside the graph; raises OnnxModelError unless it is there."""
    try:
        notes: dict[str, Any] = json.loads(metadata[METADATA])
        if notes["model"]["format"] == "hhmnet-model" and {"members", "version"} <= notes.keys():
            return notes
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    raise OnnxModelError(f"{file}: its metadata has no settings of hhmnet; {_REMEDY}")


def _names(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"field '{field}' must be a list of names")
    return tuple(value)


def _count(field: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MOST:
        raise ValueError(f"field '{field}' must be a whole number from 1 to {_MOST:,}")
    return value
