"""A trained model as a folder: ``config.json`` + ``model.safetensors``, no pickle."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors import numpy as arrays
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hhmnet.confidence import NEIGHBOURS_FILE, neighbours_of, with_neighbours
from hhmnet.data.transform import SkeletonBatch, choose_frames, prepare
from hhmnet.files import replacing, write_json
from hhmnet.models.heterogeneous import HeterogeneousConfig, HeterogeneousNetwork
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork
from hhmnet.models.hub import find_model, split_head
from hhmnet.models.spec import ModelSpec, Network, PretrainedError, check_weights
from hhmnet.models.stst import STST
from hhmnet.store import Store

if TYPE_CHECKING:
    from hhmnet.data.roi import RoiConfig
    from hhmnet.data.video_batch import VideoBatch, VideoConfig, VideoInput


class ModelOutput(NamedTuple):
    """What a model says of N clips; P body parts, K instants.

    Attributes:
        logits: ``(N, classes)``, joined from what each clip has.
        each: ``(N, classes)`` of every stream and of the video, by name, as far as they were given; empty for a
            network of one stream.
        used: ``(N, 2)`` bool, whether a clip's skeleton and its video were there and used.
        guidance: ``(N, P, K)``, weights of parts and instants as the video network used them; None without.
        times: ``(N, K)``, the frame of its clip that each instant shows; None without a video.
    """

    logits: Tensor
    each: dict[str, Tensor]
    used: Tensor
    guidance: Tensor | None = None
    times: Tensor | None = None


class ActionModel(nn.Module):
    """A network together with the preprocessing it was trained with.

    Attributes:
        network: the encoder and classifier.
        spec: preprocessing, layout, class names.
        head_name: set whose head this is, of a model that learned from several; empty for others.
    """

    head_name = ""

    def __init__(self, network: Network, spec: ModelSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    @property
    def members(self) -> tuple[str, ...]:
        """Names of what is joined: the streams, then ``video``; none for a network of one stream."""
        if isinstance(self.network, HeterogeneousNetwork):
            return (*self.spec.data.streams, "video")
        return self.spec.data.streams if isinstance(self.network, HomogeneousNetwork) else ()

    def forward(self, clips: SkeletonBatch | None, video: VideoBatch | None = None) -> Tensor:
        """Logits ``(N, classes)`` of raw clips; see :meth:`answer`."""
        return self.answer(clips, video).logits

    def streams(self, clips: SkeletonBatch | None, video: VideoBatch | None = None) -> Tensor:
        """Logits ``(1 + members, N, classes)``: the answer's, then each member's own, zero where it wasn't given."""
        answer = self.answer(clips, video)
        missing = torch.zeros_like(answer.logits)
        return torch.stack([answer.logits, *(answer.each.get(name, missing) for name in self.members)])

    def answer(self, clips: SkeletonBatch | None, video: VideoBatch | None = None) -> ModelOutput:
        """Classify raw clips by what there is of them.

        Args:
            clips: their skeletons; None where there are none.
            video: crops of their videos; None where there are none. A model of skeletons alone passes over them.

        Raises:
            PretrainedError: nothing is given that this model looks at.
        """
        x, mask, shown, times = self.inputs(clips, video)
        return self.classify(x, mask, shown)._replace(times=times)

    def inputs(
        self, clips: SkeletonBatch | None, video: VideoBatch | None = None
    ) -> tuple[Tensor | None, Tensor | None, VideoInput | None, Tensor | None]:
        """What :meth:`classify` takes of raw clips, and the ``times`` of its answer; arguments as of :meth:`answer`."""
        video = video if isinstance(self.network, HeterogeneousNetwork) else None
        if clips is None and video is None:
            looks = "a skeleton or a video" if self.spec.heterogeneous else "a skeleton"
            raise PretrainedError(f"the model needs {looks}; there is none")
        x = mask = positions = None
        if clips is not None:
            sampled = choose_frames(clips.lengths, self.spec.data)
            positions = sampled.positions
            x, mask = prepare(clips, self.spec.layout, self.spec.data, sampled=sampled)
        if video is None:
            return x, mask, None, None
        from hhmnet.data.video_batch import frames_at, prepare_video

        assert self.spec.video is not None
        shown = prepare_video(video, positions, None, self.spec.video)
        return x, mask, shown, frames_at(video.times if positions is None else positions, shown.times)

    def classify(self, x: Tensor | None, mask: Tensor | None, video: VideoInput | None = None) -> ModelOutput:
        """The output, without times, on what :func:`prepare` and ``prepare_video`` made of the clips.

        Args:
            x: ``(N, S·C, T, V, M)``; None without skeletons.
            mask: ``(N, T, M)`` bool; None where every body is there.
            video: None without videos, and for a model of skeletons alone.
        """
        if isinstance(self.network, HeterogeneousNetwork):
            output = self.network(x, mask, video)
            parts = {} if output.skeleton is None else dict(zip(self.members, output.skeleton, strict=False))
            if output.video is not None:
                parts["video"] = output.video
            return ModelOutput(output.logits, parts, output.used, output.guidance)
        assert x is not None
        output = self.network(x, mask)
        there = (
            torch.ones(x.shape[0], dtype=torch.bool, device=x.device) if mask is None else mask.any(2).any(1)
        )
        each = dict(zip(self.members, output.each, strict=False))  # a network of one stream has no members
        used = torch.stack([there, torch.zeros_like(there)], 1)
        return ModelOutput(output.logits.float(), each, used)

    @property
    def skeleton(self) -> ActionModel:
        """The model of skeletons alone inside this one, with the same weights in memory; itself where it is one."""
        if not isinstance(self.network, HeterogeneousNetwork):
            return self
        spec = dataclasses.replace(self.spec, heterogeneous=None, video=None, roi=None)
        return ActionModel(self.network.skeleton, spec)

    def single(self, stream: str) -> ActionModel:
        """One skeleton stream as a model of its own, with the same weights in memory.

        Raises:
            PretrainedError: the model has no such stream.
        """
        if stream not in self.spec.data.streams:
            raise PretrainedError(f"no stream '{stream}'; the model has {', '.join(self.spec.data.streams)}")
        if isinstance(self.network, HeterogeneousNetwork):
            return self.skeleton.single(stream)
        if isinstance(self.network, STST):
            return self
        data = dataclasses.replace(self.spec.data, stream=stream)
        encoder = self.network.encoders[stream]
        assert isinstance(encoder, STST)
        spec = dataclasses.replace(self.spec, data=data, fusion=FusionConfig(), confidence={})
        return ActionModel(encoder, spec)

    def head(self, name: str) -> ActionModel:
        """One set's head of a model that learned from several, as a model of its own, with weights of its own.

        Raises:
            PretrainedError: the model has no such head.
        """
        head, own = next(
            (pair for pair in self.spec.head_classes() if pair[0].name == name), (None, slice(0))
        )
        if head is None:
            known = ", ".join(head.name for head in self.spec.heads) or "none"
            raise PretrainedError(f"no head '{name}'; the model has {known}")
        network = copy.deepcopy(self.network)
        for module in network.modules():
            if isinstance(module, STST):
                linear, module.num_classes = module.classifier, head.classes
                linear.weight = nn.Parameter(linear.weight.detach()[own].clone())
                linear.bias = nn.Parameter(linear.bias.detach()[own].clone())
                linear.out_features = head.classes
        of_set = {
            name: getattr(head, name) for name in ("protocol", "clip_frames", "clip_rate", "confidence")
        }
        names = self.spec.class_names[own]
        model = ActionModel(network, dataclasses.replace(self.spec, class_names=names, heads=(), **of_set))
        model.head_name = head.name
        return model.eval()

    def save_pretrained(self, folder: str | Path, half: bool = False) -> None:
        """Write ``config.json`` and ``model.safetensors``, each whole or not at all; ``folder`` is made if need be.

        With ``half`` what was learned is kept as float16, in half the space; :func:`from_pretrained` widens it again.
        The statistics of batch norms keep their digits. Raises PretrainedError for a weight too large for float16.
        """
        folder, state = Path(folder), self.network.state_dict()
        weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        for name, _ in self.network.named_parameters() if half else ():
            weights[name] = weights[name].half()
            if not weights[name].isfinite().all():
                raise PretrainedError(f"the weight {name} is too large for half precision; save it in full")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", self.spec.to_dict())
        neighbours = {
            f"{prefix}{name}": array
            for prefix, one in zip(_classes_by_prefix(self.spec), self.spec.confidences(), strict=True)
            for name, array in neighbours_of(one).items()
        }
        if neighbours:
            with replacing(folder / NEIGHBOURS_FILE) as file:
                file.write(arrays.save(neighbours))
        # The weights come last: where they are, the rest is there too.
        with replacing(folder / "model.safetensors") as file:
            file.write(save(weights, metadata={"format": "pt"}))


def with_video(
    model: ActionModel, config: HeterogeneousConfig, video: VideoConfig, roi: RoiConfig
) -> ActionModel:
    """A model of phase 2 around a trained one of phase 1: its network is copied and frozen, the video side is fresh.

    ``video`` says how crops become input, ``roi`` how they are cut.

    Raises:
        PretrainedError: the model has a video side already.
        SpecError: the settings don't fit each other or the model.
        BackboneError: the backbone or its weights aren't there.
    """
    if isinstance(model.network, HeterogeneousNetwork):
        raise PretrainedError("the model has a video side already; give one of skeletons alone")
    spec = dataclasses.replace(model.spec, heterogeneous=config, video=video, roi=roi)
    skeleton = copy.deepcopy(model.network)
    return ActionModel(HeterogeneousNetwork(skeleton, config, spec.layout, len(spec.class_names)), spec)


def from_pretrained(
    folder: str | Path,
    device: str | torch.device = "cpu",
    store: Store | None = None,
    all_heads: bool = False,
) -> ActionModel:
    """Load a model that ``hhmnet train`` or :meth:`ActionModel.save_pretrained` wrote.

    Half-precision weights are widened to float32.

    Args:
        folder: a run folder, a name of the zoo, or ``org/name`` on the Hugging Face hub; see
            :func:`~hhmnet.models.hub.find_model`. Of a model with several heads ``FOLDER#HEAD`` is one.
        device: where the weights go.
        store: of several heads, the one of this store's classes is wanted, or else the one of its folder's name.
        all_heads: leave several heads together, their classes one behind the other.

    Returns:
        The model in eval mode.

    Raises:
        PretrainedError: one line naming the file and what is wrong with it.
        HubError: there is no such folder, and the hub's model isn't to be had.
    """
    name, head = split_head(folder)
    folder = find_model(name)
    config, weights = folder / "config.json", folder / "model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            begun = (folder / "config.yaml").is_file()
            hint = "training has not finished there" if begun else "no model there"
            raise PretrainedError(f"{file}: not found; {hint}")
    try:
        fields = json.loads(config.read_text())
        if not isinstance(fields, dict):
            raise PretrainedError("it is not a JSON object")
        spec = ModelSpec.from_dict(fields)
    except (OSError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise PretrainedError(f"{config}: {' '.join(str(error).split())[:200]}") from None
    try:
        check_weights(spec, weights)
        network = spec.build(pretrained=False)
        network.load_state_dict(load_file(weights))  # widens, since the network is in float32
    except (SafetensorError, RuntimeError, OSError, ValueError, TypeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PretrainedError(f"{weights}: not the weights of this model ({reason})") from None
    model = ActionModel(network, _with_neighbours(spec, folder / NEIGHBOURS_FILE)).to(device).eval()
    if head or (spec.heads and not all_heads):
        return model.head(head or _head_of(spec, store, folder))
    return model


def _classes_by_prefix(spec: ModelSpec) -> dict[str, int]:
    """What the names of each head's neighbours begin with, and how many classes it has."""
    return {f"{head.name}/": head.classes for head in spec.heads} or {"": len(spec.class_names)}


def _with_neighbours(spec: ModelSpec, file: Path) -> ModelSpec:
    """The same with what was kept of training clips, where that is there; raises PretrainedError naming the file."""
    if not file.is_file():
        return spec
    try:
        kept, found = arrays.load_file(file), []
        for (prefix, classes), one in zip(_classes_by_prefix(spec).items(), spec.confidences(), strict=True):
            own = {name.removeprefix(prefix): array for name, array in kept.items()}
            found.append(with_neighbours(one, own, classes))
    except (SafetensorError, OSError, ValueError) as error:
        raise PretrainedError(f"{file}: {' '.join(str(error).split())[:200]}") from None
    return spec.with_confidences(found)


def _head_of(spec: ModelSpec, store: Store | None, folder: Path) -> str:
    """Name of the head that has a store's classes; raises PretrainedError where that isn't clear."""
    wanted = () if store is None else store.class_names
    names = [head.name for head, own in spec.head_classes() if spec.class_names[own] == wanted]
    if store is not None and len(names) != 1:
        names = [head.name for head in spec.heads if head.name == store.path.resolve().name] or names
    if len(names) != 1:
        known = ", ".join(f"{folder}#{head.name}" for head in spec.heads)
        why = "" if store is None else f" {len(names) or 'none'} with the classes of {store.path}"
        raise PretrainedError(f"{folder}: has several heads,{why or ' of which one is to be named'}: {known}")
    return names[0]
