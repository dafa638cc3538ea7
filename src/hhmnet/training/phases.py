"""What differs between the two phases of training: the model, what it is shown, and its loss."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hhmnet.config import TrainConfig
from hhmnet.data.augment import mix_clips
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.dataset import ClipDataset, RawBatch, Stores
from hhmnet.data.protocols import Protocol
from hhmnet.data.transform import SkeletonBatch, choose_frames, prepare
from hhmnet.data.video_batch import prepare_video
from hhmnet.losses import (
    cross_entropy,
    distillation,
    gathered,
    mutual_distillation,
    part_contrast,
    smooth,
    stream_contrast,
)
from hhmnet.models.heterogeneous import HeterogeneousOutput
from hhmnet.models.hub import find_model, split_head
from hhmnet.models.pretrained import ActionModel, ModelSpec, PretrainedError, from_pretrained, with_video
from hhmnet.models.spec import Head
from hhmnet.models.start import start_from, start_video, zero_heads
from hhmnet.models.stst import SkeletonOutput
from hhmnet.store import Store
from hhmnet.training.distributed import ProcessGroup

_OF_PHASE_2 = ("heterogeneous", "roi", "video", "video_augment")


class PhaseError(ValueError):
    """A phase of training that can't begin: its settings, its store and its model don't fit."""


def make_phase(
    config: TrainConfig,
    store: Store | Stores,
    protocols: Sequence[Protocol],
    videos: Path | None = None,
    group: ProcessGroup | None = None,
) -> Phase:
    """The phase that a configuration asks for; the arguments are those of the two phases.

    Raises:
        PhaseError: the configuration doesn't say clearly which phase it is of, or see :class:`VideoPhase`.
        VideoFolderError: phase 2, and nobody knows where the videos are.
    """
    group, usual = group or ProcessGroup(), TrainConfig()
    first = "but 'phase1' is empty: give --phase1 RUN, a trained model of skeletons"
    if config.looks_at_video:
        if isinstance(store, Stores):
            raise PhaseError("--data names several stores, but phase 2 learns from one: give one of them")
        if not config.phase1:
            raise PhaseError(f"field 'phase' is 2, {first}")
        return VideoPhase(config, store, protocols[0], store.find_videos(videos), group)
    if config.phase1:
        raise PhaseError("field 'phase' is 1, but 'phase1' is given: leave one of the two out")
    changed = [name for name in _OF_PHASE_2 if getattr(config, name) != getattr(usual, name)]
    if changed and config.phase is None:
        again = "or --phase 1 to train skeletons all the same"
        raise PhaseError(f"field '{changed[0]}' is of phase 2, {first}, {again}")
    return SkeletonPhase(config, store, protocols, group)


class SkeletonPhase:
    """Phase 1: one skeleton stream, or several with contrast among them (docs/method.md).

    Args:
        config: the run's configuration.
        store: opened store, or several as one: then the network has a head for each.
        protocols: the protocol in force, of each store.
        group: the processes that train; each is shown its rows of a batch.

    Attributes:
        config: the run's configuration, with what the phase takes over from elsewhere.
        model: the network and its preprocessing.
        identity: fields of the configuration that stand for something else in a resumed run's comparison.
        started: of a run with ``init``, a line for each stream on what was taken and what is new.
        partial: whether a step may leave some of the weights that learn without a gradient.
    """

    def __init__(
        self, config: TrainConfig, store: Store | Stores, protocols: Sequence[Protocol], group: ProcessGroup
    ) -> None:
        init = from_pretrained(config.init, all_heads=True) if config.init else None
        config = config if init is None else _as_init(config, init)
        if config.loss.distill and len(config.data.streams) == 1:
            raise PhaseError("field 'loss.distill' is of several streams; with one set it to 0")
        self.config, self.store, self.group = config, store, group
        names, self.identity = store.class_names, dict[str, Any]()
        heads: tuple[Head, ...] = ()
        if isinstance(store, Stores):
            sets = zip(store.names, store.stores, protocols, strict=True)
            heads = tuple(Head(name, len(one.class_names), split.name) for name, one, split in sets)
            self.identity["stores"] = list(store.names)
        protocol = "" if heads else protocols[0].name
        fields = config.model, config.data, store.layout, names, protocol, config.fold, config.fusion
        spec = ModelSpec(*fields, heads=heads)
        self.model = ActionModel(spec.build(), spec)
        self.started = []
        if init is not None:
            self.started = _naming(config.init, start_from, self.model, init)
            self.identity["init"] = _weights_hash(config.init)
        self.heads = [head.classes for head in heads] or [len(names)]
        self.partial = not config.loss.contrast  # then the projections have no part in the loss

    def dataset(self, rows: np.ndarray) -> ClipDataset:
        """The clips at these positions of the store."""
        return ClipDataset(self.store, rows, self.config.data.persons)

    def inputs(
        self, batch: RawBatch, classes: Tensor, generator: torch.Generator
    ) -> tuple[tuple[Tensor, Tensor | None], Tensor]:
        """What the network takes, augmented, and the class shares ``(N, K)`` that belong to it."""
        config, rows = self.config, self.group.rows(len(classes) * self.group.size)
        whole = among_all(batch, self.group)
        x, mask = prepare(whole.clips, self.store.layout, config.data, config.augment, generator)
        if config.optim.mixup:
            if self.group.size > 1:  # a clip may be mixed with another process's
                if mask is None:  # which may have one
                    mask = torch.ones(x.shape[0], x.shape[2], x.shape[4], dtype=torch.bool, device=x.device)
                x, classes, mask = gathered(x[rows]), gathered(classes), gathered(mask[rows].byte()).bool()
            random = np.random.default_rng(generator.initial_seed())
            x, mask, classes = mix_clips(x, mask, classes, config.optim.mixup, random)
            classes = classes[rows]
        return (x[rows], None if mask is None else mask[rows]), classes

    def loss(self, output: SkeletonOutput, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy, summed over streams, plus the weighted losses among them; its mean over processes counts.

        With it the logits ``(N, K)`` of what is being trained, for the accuracy in the log.
        """
        config, smoothing = self.config.loss, self.config.optim.label_smoothing
        each = [cross_entropy(logits, classes, smoothing, self.heads) for logits in output.each]
        loss = torch.stack(each).sum()
        if config.contrast and output.projections:
            loss = loss + config.contrast * stream_contrast(output.projections, classes, config.temperature)
        if config.distill:
            mutual = mutual_distillation(output.each, classes, config.distill_temperature, self.heads)
            loss = loss + config.distill * mutual
        return loss, output.logits.float()


class VideoPhase:
    """Phase 2: a video network that a frozen skeleton network guides and teaches (docs/method.md).

    Its arguments and attributes are those of :class:`SkeletonPhase`, for one store. ``config`` gets the phase-1 model's
    network and preprocessing, so that the run's own file says what was trained.

    Args:
        videos: folder of the store's videos.

    Raises:
        PhaseError: the phase-1 model has other joints or classes than the store, has seen clips that are to be
            held out, or a setting is of phase 1 only.
        PretrainedError, SpecError, BackboneError: the phase-1 model or the video side can't be built.
    """

    partial = True

    def __init__(
        self, config: TrainConfig, store: Store, split: Protocol, videos: Path, group: ProcessGroup
    ) -> None:
        self.store, self.videos, self.group = store, videos, group
        first = from_pretrained(config.phase1)
        _check_first(first, config, store, split)
        self.model = with_video(first, config.heterogeneous, config.video, config.roi)
        zero_heads(self.model.network.video)  # type: ignore[arg-type]
        self.started: list[str] = []
        spec = first.spec
        self.config = dataclasses.replace(config, model=spec.model, data=spec.data, fusion=spec.fusion)
        self.cache = CropCache(config=config.roi)
        self.identity: dict[str, Any] = {"phase1": _weights_hash(config.phase1)}
        if config.init:
            self.started = _naming(config.init, start_video, self.model, from_pretrained(config.init))
            self.identity["init"] = _weights_hash(config.init)

    def dataset(self, rows: np.ndarray) -> ClipDataset:
        """The clips' skeletons and the crops of their videos."""
        return ClipDataset(self.store, rows, self.config.data.persons, self.cache, self.videos)

    def inputs(
        self, batch: RawBatch, classes: Tensor, generator: torch.Generator
    ) -> tuple[tuple[Any, ...], Tensor]:
        """Joints, their mask and crops, seen at the same instants and mirrored alike."""
        config, rows = self.config, self.group.rows(len(classes) * self.group.size)
        whole = among_all(batch, self.group)
        clips, video, layout = whole.clips, whole.video, self.store.layout
        assert video is not None
        sampled = choose_frames(clips.lengths, config.data, config.augment, generator)
        x, mask = prepare(clips, layout, config.data, config.augment, generator, sampled=sampled)
        shown = prepare_video(video, *sampled, config.video, config.video_augment, generator)
        own = type(shown)(*(part[rows] for part in shown))
        return (x[rows], None if mask is None else mask[rows], own), classes

    def loss(self, output: HeterogeneousOutput, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the video's logits, plus what the skeleton teaches; a clip without video counts nowhere.

        With it the logits ``(N, K)`` of the video: the skeleton's don't change.
        """
        config = self.config.loss
        assert output.video is not None
        logits, seen = output.video.float(), output.used[:, 1].float()
        targets = smooth(classes, self.config.optim.label_smoothing)
        each = functional.cross_entropy(logits, targets, reduction="none")
        loss = (each * seen).sum() / self.group.mean_count(seen.sum())
        if config.part_contrast and output.part_features is not None and output.part_teacher is not None:
            features = output.part_features, output.part_teacher, output.part_mask
            loss = loss + config.part_contrast * part_contrast(*features, config.part_temperature)
        if config.distill and output.teacher is not None:
            both = output.used.all(1)
            divergence = distillation(output.video, output.teacher, both, config.distill_temperature)
            count = both.sum()  # a mean over this process's clips becomes one over all
            divergence = divergence * (count.clamp_min(1) / self.group.mean_count(count))
            loss = loss + config.distill * divergence
        return loss, logits


Phase = SkeletonPhase | VideoPhase


def _as_init(config: TrainConfig, init: ActionModel) -> TrainConfig:
    """The configuration with the network and the preprocessing of ``init`` where nobody gave others."""
    usual, spec = TrainConfig(), init.spec
    model = spec.model if config.model == usual.model else config.model
    data = spec.data if config.data == usual.data else config.data
    fusion = (
        spec.fusion if config.fusion == usual.fusion and data.stream == spec.data.stream else config.fusion
    )
    return dataclasses.replace(config, model=model, data=data, fusion=fusion)


def _naming(name: str, start: Callable[..., list[str]], model: ActionModel, init: ActionModel) -> list[str]:
    """What ``start`` took from the model called ``name``, which its line names if it can't."""
    try:
        return start(model, init)
    except PretrainedError as error:
        raise PhaseError(f"field 'init', {name}: {error}") from None


def _weights_hash(name: str) -> str:
    """By content: a folder that was moved holds the same model, and one that was trained anew another."""
    weights = (find_model(split_head(name)[0]) / "model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest()


def _check_first(first: ActionModel, config: TrainConfig, store: Store, split: Protocol) -> None:
    spec = first.spec
    if spec.layout.to_dict() != store.layout.to_dict() or spec.class_names != store.class_names:
        raise PhaseError(
            f"{config.phase1} takes {spec.layout.name} and tells {len(spec.class_names)} classes apart, "
            f"{store.path} has {store.layout.name} and {len(store.class_names)}: train phase 1 on this store"
        )
    if (spec.protocol, spec.fold) != (split.name, config.fold):
        raise PhaseError(
            f"{config.phase1} was trained under {spec.protocol}, fold {spec.fold}; this run is to hold out "
            f"{split.name}, fold {config.fold}: it would be measured on clips that phase 1 has seen"
        )
    if config.optim.mixup:
        raise PhaseError("field 'optim.mixup' is of phase 1; with 'phase1' set it to 0")
    if config.run.graph:
        raise PhaseError("field 'run.graph' is of phase 1; with 'phase1' set it to false")


def among_all(batch: RawBatch, group: ProcessGroup) -> RawBatch:
    """The whole batch's clips, of which all that aren't this process's are empty.

    Augmentation draws its numbers for one clip after the other. So each process draws them for all, and a clip gets the
    same ones whatever the number of processes.
    """
    if group.size == 1:
        return batch
    count = len(batch.index)
    before, after = group.rank * count, (group.size - group.rank - 1) * count

    def amid(rows: Tensor, fill: int = 0) -> Tensor:
        ends = (rows.new_full((number, *rows.shape[1:]), fill) for number in (before, after))
        return torch.cat([next(ends), rows, next(ends)])

    joints, present, lengths = batch.clips
    clips = SkeletonBatch(amid(joints), None if present is None else amid(present, 1), amid(lengths, 1))
    video = batch.video and type(batch.video)(*map(amid, batch.video))
    return batch._replace(clips=clips, video=video)
