"""A trained model as a folder: ``config.json`` + ``model.safetensors``, no pickle."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hhmnet.data.transform import Clips, DataConfig, prepare
from hhmnet.files import replacing
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import SkeletonLayout

FORMAT = "hhmnet-model"
VERSION = 1


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

    Raises:
        SpecError: where the settings don't fit each other.
    """

    model: STSTConfig
    data: DataConfig
    layout: SkeletonLayout
    class_names: tuple[str, ...]
    protocol: str = ""
    fold: int | None = None

    def __post_init__(self) -> None:
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
            "network": "stst",
            "model": dataclasses.asdict(self.model),
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
            model: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in fields["model"].items()
            }
            return cls(
                model=STSTConfig(**model),
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

    def build(self) -> STST:
        """The network with fresh weights."""
        return STST(self.model, self.layout, len(self.class_names))


class ActionModel(nn.Module):
    """A network together with the preprocessing it was trained with.

    Attributes:
        network: the encoder and classifier.
        spec: preprocessing, layout, class names.
    """

    def __init__(self, network: STST, spec: ModelSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    def forward(self, clips: Clips) -> Tensor:
        """Logits ``(N, classes)`` of raw clips, averaged over ``spec.data.views`` temporal views."""
        views = self.spec.data.views
        total: Tensor | None = None
        for view in range(views):
            phase = (view + 0.5) / views
            x, mask = prepare(clips, self.spec.layout, self.spec.data, phase=phase)
            logits = self.network(x, mask).logits.float()
            total = logits if total is None else total + logits
        assert total is not None
        return total / views

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
