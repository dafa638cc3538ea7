"""A trained model as a folder: ``config.json`` + ``model.safetensors``, no pickle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hhmnet.data.transform import Clips, DataConfig, prepare
from hhmnet.files import replacing
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import SkeletonLayout

FORMAT = "hhmnet-model"
VERSION = 1

Network = STST | HomogeneousNetwork


class PretrainedError(ValueError):
    """A model folder that can't be used."""


class SpecError(ValueError):
    """Settings of network, preprocessing and skeleton that don't fit each other."""


@dataclass(frozen=True)
class ModelSpec:
    """What, beside the weights, makes a model usable.

    Attributes:
        model: shape and variants of the network.
        data: preprocessing that the weights expect.
        layout: joints that come in.
        class_names: actions that come out, in the order of the logits.
        protocol: split that the model was trained under.
        fold: fold held out in training, or None.
        fusion: how several streams are joined.

    Raises:
        SpecError: where the settings don't fit each other.
    """

    model: STSTConfig
    data: DataConfig
    layout: SkeletonLayout
    class_names: tuple[str, ...]
    protocol: str = ""
    fold: int | None = None
    fusion: FusionConfig = field(default_factory=FusionConfig)

    def __post_init__(self) -> None:
        streams = self.data.streams
        if self.fusion.weights and len(streams) > 1 and len(self.fusion.weights) != len(streams):
            raise SpecError(
                f"field 'fusion.weights' has {len(self.fusion.weights)} numbers, field 'data.stream' has "
                f"{len(streams)} streams ({self.data.stream}): give as many"
            )
        if self.data.facing != "none" and self.layout.dims != 3:
            raise SpecError(
                f"field 'data.facing' must be none for {self.layout.name}, which has {self.layout.dims} dimensions"
            )
        frames = self.data.frames
        for stride in self.model.strides:
            if frames % self.model.chunks:
                raise SpecError(
                    f"field 'model.chunks' is {self.model.chunks}; it must divide the frames of every block, "
                    f"and one has {frames}"
                )
            frames = -(-frames // stride)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "network": "homogeneous" if len(self.data.streams) > 1 else "stst",
            "model": dataclasses.asdict(self.model),
            "fusion": dataclasses.asdict(self.fusion),
            "data": dataclasses.asdict(self.data),
            "layout": self.layout.to_dict(),
            "class_names": list(self.class_names),
            "protocol": self.protocol,
            "fold": self.fold,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ModelSpec:
        """Inverse of :meth:`to_dict`; raises PretrainedError naming what is wrong."""
        if fields.get("format") != FORMAT:
            raise PretrainedError(f"field 'format' is not '{FORMAT}'")
        if fields.get("version") != VERSION:
            raise PretrainedError(f"it has version {fields.get('version')}, this hhmnet reads {VERSION}")
        try:
            names = fields["class_names"]
            if not names or not isinstance(names, list):
                raise PretrainedError("field 'class_names' must be a list of names")
            return cls(
                model=STSTConfig(**_tuples(fields["model"])),
                fusion=FusionConfig(**_tuples(fields.get("fusion", {}))),
                data=DataConfig(**fields["data"]),
                layout=SkeletonLayout.from_dict(fields["layout"]),
                class_names=tuple(names),
                protocol=fields["protocol"],
                fold=fields["fold"],
            )
        except KeyError as error:
            raise PretrainedError(f"the field {error} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise PretrainedError(str(error)) from None

    def build(self) -> Network:
        """The network with fresh weights: ST&ST for one stream, the homogeneous network for several."""
        streams, classes = self.data.streams, len(self.class_names)
        if len(streams) == 1:
            return STST(self.model, self.layout, classes)
        return HomogeneousNetwork(self.model, self.fusion, self.layout, classes, streams)


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


class ActionModel(nn.Module):
    """A network together with the preprocessing it was trained with.

    Attributes:
        network: the encoder and classifier.
        spec: preprocessing, layout, class names.
    """

    def __init__(self, network: Network, spec: ModelSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    def forward(self, clips: Clips) -> Tensor:
        """Logits ``(N, classes)`` of raw clips, averaged over ``spec.data.views`` temporal views."""
        return self.streams(clips)[0]

    def streams(self, clips: Clips) -> Tensor:
        """Logits ``(1 + S, N, classes)``: the answer's, then each stream's own; S is 0 where there is one stream."""
        views = self.spec.data.views
        total: Tensor | None = None
        for view in range(views):
            phase = (view + 0.5) / views
            output = self.network(*prepare(clips, self.spec.layout, self.spec.data, phase=phase))
            logits = output.logits.float()[None]
            if isinstance(self.network, HomogeneousNetwork):
                logits = torch.cat([logits, output.each])
            total = logits if total is None else total + logits
        assert total is not None
        return total / views

    def single(self, stream: str) -> ActionModel:
        """One stream of a homogeneous model as a model of its own, with the same weights in memory.

        Raises:
            PretrainedError: the model has no such stream.
        """
        if stream not in self.spec.data.streams:
            raise PretrainedError(f"no stream '{stream}'; the model has {', '.join(self.spec.data.streams)}")
        if not isinstance(self.network, HomogeneousNetwork):
            return self
        data = dataclasses.replace(self.spec.data, stream=stream)
        encoder = self.network.encoders[stream]
        assert isinstance(encoder, STST)
        return ActionModel(encoder, dataclasses.replace(self.spec, data=data, fusion=FusionConfig()))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; each appears whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()
        }
        with replacing(folder / "config.json") as file:
            file.write(json.dumps(self.spec.to_dict(), indent=1).encode() + b"\n")
        # The weights come last: where they are, the rest is there too.
        with replacing(folder / "model.safetensors") as file:
            file.write(save(weights, metadata={"format": "pt"}))


def assemble(models: Sequence[ActionModel], weights: Sequence[float] = ()) -> ActionModel:
    """One homogeneous model from models of one stream each; its projections are fresh.

    Args:
        models: single-stream models that agree in all but their stream.
        weights: of every stream's logits; all alike by default.

    Raises:
        PretrainedError: the models differ in more than their stream, or one has several.
    """
    specs = [
        dataclasses.replace(model.spec, data=dataclasses.replace(model.spec.data, stream="joint"))
        for model in models
    ]
    for number, (model, spec) in enumerate(zip(models, specs, strict=True)):
        if not isinstance(model.network, STST):
            raise PretrainedError(
                f"model {number} has several streams ({model.spec.data.stream}); give single ones"
            )
        ours, theirs = specs[0].to_dict(), spec.to_dict()
        different = [name for name in ours if name != "fusion" and ours[name] != theirs[name]]
        if different:
            raise PretrainedError(f"models 0 and {number} have another {', '.join(different)}")
    names = [model.spec.data.stream for model in models]
    try:
        data = dataclasses.replace(specs[0].data, stream="+".join(names))
        fusion = dataclasses.replace(specs[0].fusion, weights=tuple(weights))
        joined = dataclasses.replace(specs[0], data=data, fusion=fusion)
    except ValueError as error:
        raise PretrainedError(str(error)) from None
    network = joined.build()
    assert isinstance(network, HomogeneousNetwork)
    for name, model in zip(names, models, strict=True):
        network.encoders[name].load_state_dict(model.network.state_dict())
    return ActionModel(network, joined).eval()


def from_pretrained(folder: str | Path, device: str | torch.device = "cpu") -> ActionModel:
    """Load a model from a folder that ``hhmnet train`` or :meth:`ActionModel.save_pretrained` wrote.

    Half-precision weights are widened to float32.

    Args:
        folder: a run folder or a folder of ``zoo/``.
        device: where the weights go.

    Returns:
        The model in eval mode.

    Raises:
        PretrainedError: one line naming the file and what is wrong with it.
    """
    folder = Path(folder)
    config, weights = folder / "config.json", folder / "model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            hint = (
                "training has not finished there" if (folder / "config.yaml").is_file() else "no model there"
            )
            raise PretrainedError(f"{file}: not found; {hint}")
    try:
        fields = json.loads(config.read_text())
        if not isinstance(fields, dict):
            raise PretrainedError("it is not a JSON object")
        spec = ModelSpec.from_dict(fields)
        network = spec.build()
    except (OSError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise PretrainedError(f"{config}: {' '.join(str(error).split())[:200]}") from None
    try:
        network.load_state_dict(load_file(weights))  # widens, since the network is in float32
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PretrainedError(f"{weights}: not the weights of this model ({reason})") from None
    return ActionModel(network, spec).to(device).eval()
