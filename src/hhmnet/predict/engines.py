"""What computes logits: a model of torch, or one that ``hhmnet export`` wrote, with onnxruntime and numpy alone.

PyTorch is imported where a model of torch is used, or an exported one looks at a video.
"""

from __future__ import annotations

import base64
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from hhmnet.confidence import read_confidence, with_neighbours
from hhmnet.predict.sources import InputError
from hhmnet.sample import MODALITIES
from hhmnet.skeleton import SkeletonLayout

if TYPE_CHECKING:
    import torch

    from hhmnet.data.video_batch import VideoBatch
    from hhmnet.models.pretrained import ActionModel
    from hhmnet.models.spec import ModelSpec

METADATA = "hhmnet"
"""Key of the file's metadata under which the model's settings are, as JSON."""

_REMEDY = "make it with hhmnet export"
_MOST_PERSONS = 1_000  # a file that says more would take all memory


class StreamLogits(NamedTuple):
    """What a model gives for N clips; P parts, K instants.

    ``logits (N, classes)`` are joined from what each clip has, ``members (N, classes)`` those of every stream and of
    the video, by name; empty for a network of one stream. ``used (N, 2)`` bool is whether a clip's skeleton and its
    video were there and used. ``guidance (N, P, K)`` are weights of parts and instants, ``times (N, K)`` the frame
    of its clip that each instant shows; None without.
    """

    logits: np.ndarray
    members: dict[str, np.ndarray]
    used: np.ndarray
    guidance: np.ndarray | None = None
    times: np.ndarray | None = None


def choose_device(name: str) -> torch.device:
    """The device of a name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``; raises InputError without one."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no GPU that torch can use; choose the device cpu or auto")
    return torch.device(name)


class TorchEngine:
    """A trained model in memory, computed on a device; attributes as of :class:`OnnxEngine`."""

    def __init__(self, model: ActionModel, device: torch.device | str = "cpu") -> None:
        self.model, self.spec = model.to(device).eval(), model.spec
        self.device = next(model.parameters()).device
        self.class_names, self.layout = model.spec.class_names, model.spec.layout
        self.persons, self.looks_at_video = model.spec.data.persons, model.spec.heterogeneous is not None
        self.body_size = model.spec.body_size if model.spec.data.scale == "none" else None
        self.confidence = model.spec.confidence

    def logits(
        self, joints: np.ndarray, present: np.ndarray | None, lengths: np.ndarray, crops: VideoBatch | None
    ) -> StreamLogits:
        """Logits of N clips, one behind the other, F frames in all.

        Args:
            joints: ``(F, M, V, C)`` float32.
            present: ``(F, M)`` bool, whether a person is there; None where skeletons aren't to be used.
            lengths: ``(N,)`` int64, frames of each clip.
            crops: of the clips' videos; None where they aren't to be used, or there are none.
        """
        import torch

        from hhmnet.data.transform import SkeletonBatch

        clips = None
        if present is not None:
            # Without a mask where everybody is there, as in training.
            mask = None if present.all() else torch.from_numpy(present)
            clips = SkeletonBatch(torch.from_numpy(joints), mask, torch.from_numpy(lengths)).to(self.device)
        with torch.inference_mode():
            output = self.model.answer(clips, None if crops is None else crops.to(self.device))
        guidance, times = (None if x is None else x.cpu().numpy() for x in (output.guidance, output.times))
        members = {name: logits.float().cpu().numpy() for name, logits in output.each.items()}
        logits, used = output.logits.float().cpu().numpy(), output.used.cpu().numpy()
        return StreamLogits(logits, members, used, guidance, times)


class OnnxModelError(ValueError):
    """A file that is no model that ``hhmnet export`` wrote, or onnxruntime is missing."""


class OnnxEngine:
    """An exported model on the CPU, with so many ``threads`` of onnxruntime; 0 leaves the number to it.

    Attributes:
        class_names, layout: of the logits, in their order; the joints that it takes.
        persons: how many persons of a clip it looks at, M.
        looks_at_video: whether it looks at pictures, or at skeletons alone.
        body_size, confidence: as of ``ModelSpec``; None for the first if it brings all bodies to one size.
        members: names of what its answer is joined from; empty for one stream.
        settings: as in a run's ``config.json``.

    Raises OnnxModelError: the file is missing or is no such model, or onnxruntime isn't installed.
    """

    def __init__(self, file: str | Path, threads: int = 0) -> None:
        self.file = Path(file)
        self._session = open_session(self.file, threads)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            notes = json.loads(metadata[METADATA])
            self.settings: dict[str, Any] = notes["model"]
            if self.settings["format"] != "hhmnet-model":
                raise ValueError("field 'format' is another program's")
            named = {"members": notes["members"], "class_names": self.settings["class_names"]}
            for field, names in named.items():
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    raise ValueError(f"field '{field}' must be a list of names")
            self.members, self.class_names = (tuple(names) for names in named.values())
            self.layout = SkeletonLayout.from_dict(self.settings["layout"])
            self.persons = self.settings["data"]["persons"]
            if type(self.persons) is not int or not 1 <= self.persons <= _MOST_PERSONS:
                raise ValueError(f"field 'persons' must be a whole number from 1 to {_MOST_PERSONS:,}")
            is_scaled = self.settings["data"].get("scale", "none") != "none"
            self.body_size = None if is_scaled else self.settings.get("body_size")
            kept = load(base64.b64decode(notes["neighbours"])) if "neighbours" in notes else {}
            confidence = read_confidence(self.settings.get("confidence", {}))
            self.confidence = with_neighbours(confidence, kept, len(self.class_names))
            self.looks_at_video = "heterogeneous" in self.settings
        # A name that is no text is a ValueError, too.
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, SafetensorError) as error:
            reason = f"the field {error} is missing" if isinstance(error, KeyError) else error
            raise OnnxModelError(
                f"{self.file}: its metadata has no settings of hhmnet, or damaged ones ({reason}); {_REMEDY}"
            ) from None

    @cached_property
    def spec(self) -> ModelSpec:
        """All settings of the model; needs torch."""
        from hhmnet.models.spec import ModelSpec

        return ModelSpec.from_dict(self.settings)

    def logits(
        self, joints: np.ndarray, present: np.ndarray | None, lengths: np.ndarray, crops: VideoBatch | None
    ) -> StreamLogits:
        """Logits of N clips; arguments as of :meth:`TorchEngine.logits`."""
        there = np.zeros(joints.shape[:2], bool) if present is None else present
        inputs, times = {"joints": joints, "present": there, "lengths": lengths}, None
        if crops is not None:
            import torch

            from hhmnet.data.transform import choose_frames
            from hhmnet.data.video_batch import frames_at, prepare_video

            spec, positions = self.spec, None
            assert spec.video is not None
            if present is not None:
                positions = choose_frames(torch.from_numpy(lengths), spec.data).positions
            shown = prepare_video(crops, positions, None, spec.video)
            times = frames_at(crops.times if positions is None else positions, shown.times).numpy()
            inputs |= {name: value.numpy() for name, value in shown._asdict().items()}
        elif self.looks_at_video:
            kinds = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}
            for node in self._session.get_inputs()[3:]:
                inputs[node.name] = np.zeros((len(lengths), *node.shape[1:]), kinds[node.type])
        try:
            found = self._session.run(None, inputs)
        except Exception as error:  # onnxruntime's have no class in common but this
            reason = _brief(error)
            raise OnnxModelError(f"{self.file}: its graph can't be run on this input ({reason})") from None
        out = dict(zip((node.name for node in self._session.get_outputs()), found, strict=True))
        for name, width in (("logits", len(self.class_names)), ("used", len(MODALITIES))):
            shape = len(lengths), width
            if name not in out or out[name].shape != shape:
                raise OnnxModelError(f"{self.file}: its graph gives no '{name}' of shape {shape}; {_REMEDY}")
        members = out.get("members", ())
        if len(members) not in (0, len(self.members)):
            raise OnnxModelError(f"{self.file}: its graph gives {len(members)} 'members'; {_REMEDY}")
        named = dict(zip(self.members, members, strict=False))
        return StreamLogits(out["logits"], named, out["used"], out.get("guidance"), times)


Engine = TorchEngine | OnnxEngine


def open_session(model: Path | bytes, threads: int) -> Any:
    """onnxruntime's session of a file, or of the content of one, on the CPU; raises OnnxModelError."""
    named = model if isinstance(model, Path) else "the graph"
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise OnnxModelError(
            f"{named}: running it needs the package 'onnxruntime', which isn't installed; pip install 'hhmnet[export]'"
        ) from None
    if isinstance(model, Path) and not model.is_file():
        raise OnnxModelError(f"{model}: not found; hhmnet export RUN --out {model} makes it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    content = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no class in common but this
        raise OnnxModelError(f"{named}: no ONNX file that onnxruntime can run ({_brief(error)})") from None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
