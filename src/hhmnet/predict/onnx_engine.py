"""A model that ``hhmnet export`` wrote: onnxruntime and numpy; PyTorch only where a video has to be looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hhmnet.predict.prediction import StreamLogits
from hhmnet.predict.recognizer import Engine, NetworkInput
from hhmnet.sample import MODALITIES
from hhmnet.skeleton import SkeletonLayout

if TYPE_CHECKING:
    from hhmnet.models.spec import ModelSpec

METADATA = "hhmnet"
"""Key of the file's metadata under which the model's settings are, as JSON."""

_REMEDY = "make it with hhmnet export"
_MOST = 1_000  # persons of a clip; a file that says more would take all memory


class OnnxModelError(ValueError):
    """A file that is no model that ``hhmnet export`` wrote, or onnxruntime is missing."""


class OnnxEngine(Engine):
    """An exported model on the CPU.

    Args:
        file: the ONNX file.
        threads: of onnxruntime; 0 leaves the number to it.

    Attributes:
        members: names of what its answer is joined from; empty for one stream.
        settings: the model's settings, as in a run's ``config.json``.

    Raises:
        OnnxModelError: the file is missing or is no such model, or onnxruntime isn't installed.
    """

    def __init__(self, file: str | Path, threads: int = 0) -> None:
        self.file = Path(file)
        self._session = _open(self.file, threads)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            self._outputs = [output.name for output in self._session.get_outputs()]
        except UnicodeDecodeError:
            raise OnnxModelError(f"{self.file}: its names are no text; {_REMEDY}") from None
        notes = _notes(self.file, metadata)
        self.settings: dict[str, Any] = notes["model"]
        try:
            self.members = _names("members", notes["members"])
            self.class_names = _names("class_names", self.settings["class_names"])
            self.layout = SkeletonLayout.from_dict(self.settings["layout"])
            self.persons = _count("persons", self.settings["data"]["persons"])
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the field {error} is missing" if isinstance(error, KeyError) else error
            raise OnnxModelError(f"{self.file}: its metadata: {reason}; {_REMEDY}") from None
        self.looks_at_video = "heterogeneous" in self.settings

    @cached_property
    def spec(self) -> ModelSpec:
        """All settings of the model; needs torch."""
        from hhmnet.models.spec import ModelSpec

        return ModelSpec.from_dict(self.settings)

    def logits(self, batch: NetworkInput) -> StreamLogits:
        """Logits of N clips, without notes."""
        inputs = {"joints": batch.joints, "present": batch.present, "lengths": batch.lengths}
        times = None
        if batch.crops is not None:
            crops, times = self._crops(batch)
            inputs |= crops
        elif self.looks_at_video:
            kinds = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}
            inputs |= {
                node.name: np.zeros((len(batch.lengths), *node.shape[1:]), kinds[node.type])
                for node in self._session.get_inputs()[3:]
            }
        out = self.run(inputs)
        count = len(batch.lengths)
        for name, shape in {
            "logits": (count, len(self.class_names)),
            "used": (count, len(MODALITIES)),
        }.items():
            if name not in out or out[name].shape != shape:
                raise OnnxModelError(f"{self.file}: its graph gives no '{name}' of shape {shape}; {_REMEDY}")
        members = dict(zip(self.members, out["members"], strict=True)) if "members" in out else {}
        return StreamLogits(out["logits"], members, out["used"], out.get("guidance"), times)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The graph's outputs by name for its inputs by name; docs/export.md says what they are."""
        try:
            found = self._session.run(None, dict(inputs))
        except Exception as error:  # onnxruntime's have no class in common but this
            reason = " ".join(str(error).split())[:200]
            raise OnnxModelError(f"{self.file}: its graph can't be run on this input ({reason})") from None
        return dict(zip(self._outputs, found, strict=True))

    def _crops(self, batch: NetworkInput) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The graph's inputs for crops of videos, and the frame of its clip that each instant shows, ``(N, K)``."""
        import torch

        from hhmnet.data.transform import choose_frames
        from hhmnet.data.video_batch import prepare_video

        spec, lengths = self.spec, torch.from_numpy(batch.lengths)
        assert batch.crops is not None
        assert spec.video is not None
        assert spec.roi is not None
        positions = choose_frames(lengths, spec.data).positions if batch.with_skeletons else None
        shown = prepare_video(batch.crops, positions, None, spec.video)
        frames = spec.data.frames if batch.with_skeletons else spec.roi.instants
        times = (shown.times + 0.5) * (lengths[:, None] / frames) - 0.5
        return {name: value.numpy() for name, value in shown._asdict().items()}, times.numpy()


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
