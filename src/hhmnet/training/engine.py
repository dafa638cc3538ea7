"""The training loop."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from hhmnet.allocator import keep_freed_memory
from hhmnet.confidence import Confidence, as_neighbours, fit_confidence, kept
from hhmnet.config import RuntimeConfig, TrainConfig
from hhmnet.data.dataset import EpochSampler, RawBatch, Stores, body_size, clip_length, make_loader
from hhmnet.data.protocols import Protocol, get_protocol
from hhmnet.evaluation.metrics import evaluate
from hhmnet.evaluation.scores import Scores
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.sample import MODALITIES
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.distributed import ProcessGroup, join, naming_the_lost, score_together
from hhmnet.training.learner import Learner, learning_rate, set_rate
from hhmnet.training.logs import EpochLog
from hhmnet.training.phases import make_phase

_FREE = ("checkpoint_every", "validate_every", "workers", "threads", "device", "compile", "graph")
"""Of ``run``, what may be another after a resume."""


class TrainingError(ValueError):
    """A run that can't start or go on."""


class Interrupted(Exception):
    """The run checkpointed and stopped before its end; the message says how to go on."""


@dataclass
class Hooks:
    """What wants to hear of a run's progress; the loop itself prints nothing."""

    on_step: Callable[[int, int], None] = lambda step, total: None
    on_epoch: Callable[[EpochLog], None] = lambda log: None


class Trainer:
    """Trains one model on one store, or with a head each on several, into one run folder.

    Of the processes that ``torchrun`` starts each makes one; :mod:`hhmnet.training.distributed` says what they share.

    Args:
        config: the run's configuration.
        stores: opened store, or several.
        out: run folder; it exists.
        hooks: receivers of progress.
        videos: folder of the store's videos; the store's own note if None. Phase 2 needs it.

    Raises:
        TrainingError, StoresError: where the configuration doesn't fit the stores or the machine, or they each other.
        ProcessGroupError: where the processes can't share a batch, or a GPU, evenly.
        PhaseError, VideoFolderError: where phase 2 can't begin.
    """

    def __init__(
        self,
        config: TrainConfig,
        stores: Store | Sequence[Store],
        out: Path,
        hooks: Hooks | None = None,
        videos: Path | None = None,
    ) -> None:
        self.out, self.hooks, self.videos = out, hooks or Hooks(), videos
        self.stores = [stores] if isinstance(stores, Store) else list(stores)
        joined = Stores(self.stores)
        self.store: Store | Stores = joined if len(self.stores) > 1 else self.stores[0]
        self._sets = _training_sets(config, self.stores)
        self.protocols = [one.protocol for one in self._sets]
        self.labels = np.concatenate(
            [joined.offset_labels(n, one.labels) for n, one in enumerate(self._sets)]
        )
        self.rows = np.concatenate([joined.first_clip[n] + one.rows for n, one in enumerate(self._sets)])
        self.group = join(config.run.device == "cpu")
        self.group.check_shares(min(config.optim.batch_size, len(self.rows)))
        self.device = _prepared_device(config.run, self.group)
        self.generator = torch.Generator(self.device)
        self.config = config
        self._seed(0)
        self.phase = make_phase(config, self.store, self.protocols, videos, self.group)
        self.config, spec = self.phase.config, self.phase.model.spec
        each = [clip_length(one.store, one.rows, videos) for one in self._sets]
        heads = tuple(
            dataclasses.replace(head, clip_frames=frames, clip_rate=rate)
            for head, (frames, rate) in zip(spec.heads, each, strict=False)
        )
        frames, rate = (None, None) if heads else each[0]
        extent = None if heads else body_size(self.stores[0], self.rows)
        self.spec = dataclasses.replace(
            spec, clip_frames=frames, clip_rate=rate, heads=heads, body_size=extent, confidence={}
        )
        self._given = self._other_confidence(config.calibration) if config.calibration else []
        self.learner = Learner(self.config, self.phase, self.device, self.group)
        self.network = self.learner.network
        self.dataset = self.phase.dataset(self.rows)
        part, size = (self.group.rank, self.group.size), config.optim.batch_size
        self.sampler = EpochSampler(len(self.rows), size, config.run.seed, part)
        self._labels = torch.from_numpy(self.labels).to(self.device)
        # By class, which classes belong to another head than its own.
        number = np.repeat(range(len(self.stores)), [len(one.class_names) for one in self.stores])
        self._others = torch.from_numpy(number[:, None] != number).to(self.device)
        self.step, self.seconds = 0, 0.0
        # Loss and accuracy of every step of the epoch that has begun, and the time of its earlier slices.
        self._figures: list[Tensor] = []
        self._epoch_seconds = 0.0
        # Clips of the steps whose losses nobody has looked at yet: each reading makes the device wait.
        self._unchecked: list[Tensor] = []
        self._stop = False
        # Positions of the clips that came without a picture: a loader's processes keep to themselves what is wrong.
        self.blind = set[int]()

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.optim.epochs * len(self.sampler)

    @property
    def result(self) -> ActionModel:
        """The model as it stands: the moving average where there is one."""
        return ActionModel(self.learner.result, self.spec)

    def resume(self) -> None:
        """Go on from the run folder's checkpoint; raises CheckpointError or TrainingError."""
        changed = checkpoint.differing_fields(self._identity(), checkpoint.read_progress(self.out).config)
        if changed:
            raise TrainingError(
                f"{self.out}: the run was started with another {', '.join(changed)}; "
                "give the same values to resume it, or another folder to start anew"
            )
        progress = checkpoint.load(self.out, self.learner.modules, self.learner.optimizer)
        self.step, self.seconds = progress.step, progress.seconds
        self._figures = [torch.tensor(figures, device=self.device) for figures in progress.figures]
        self._epoch_seconds = progress.epoch_seconds

    def train(self, time_limit: float | None = None) -> ActionModel:
        """Train to the end and save the model.

        Args:
            time_limit: seconds after which to checkpoint and stop.

        Raises:
            Interrupted: at the time limit or after Ctrl-C or SIGTERM; the checkpoint is written.
            TrainingError: when the loss is no longer finite; names the clips of the batch.
            ProcessLost: another process of the run has ended.
        """
        began, before = time.monotonic(), self.seconds
        end = math.inf if time_limit is None else began + time_limit
        # Local, so that its workers end with it: in garbage collection each of them would be waited for.
        loader = make_loader(self.dataset, self.sampler, self.config.run.workers, self.device.type == "cuda")
        with naming_the_lost(self.group), self._stopping_at_signals():
            goes_on = True
            while goes_on and self.step < self.total_steps:
                goes_on = self._epoch(loader, end)
                self.seconds = before + time.monotonic() - began
            self._checkpoint()
            if self.step < self.total_steps:
                raise Interrupted(f"stopped after step {self.step} of {self.total_steps}; --resume goes on")
            if self._given or self.config.fold is not None:
                self._fit_confidence()
            model = self.result.eval()
            with self.group.together():
                if self.group.is_main:
                    model.save_pretrained(self.out)
            return model

    def _epoch(self, loader: DataLoader[RawBatch], end: float) -> bool:
        """Train to the end of the current epoch; false if the run is to stop, perhaps before."""
        per_epoch = len(self.sampler)
        self.sampler.epoch, self.sampler.start = divmod(self.step, per_epoch)
        epoch, start, stopping = self.sampler.epoch + 1, time.monotonic(), False
        self.network.train()
        for batch in loader:
            if batch.video is not None:
                seen = batch.video.part_mask.flatten(1).any(1) | batch.video.scene_mask.any(1)
                self.blind.update(batch.index[~seen].tolist())
            self.train_step(batch.to(self.device))
            self.step += 1
            self.hooks.on_step(self.step, self.total_steps)
            if self.device.type == "cpu" or len(self._figures) % 50 == 0:
                self._check()
            stopping = self.group.any(time.monotonic() > end or self._stop)
            if stopping:
                break
        self._check()
        self._epoch_seconds += time.monotonic() - start
        if self.step % per_epoch:
            return False
        loss, accuracy = torch.stack(self._figures).mean(0).tolist()
        log = EpochLog(
            epoch=epoch,
            loss=loss,
            accuracy=100 * accuracy,
            lr=learning_rate(self.step - 1, self.total_steps, per_epoch, self.config.optim),
            samples_per_second=per_epoch * self.config.optim.batch_size / self._epoch_seconds,
            seconds=self._epoch_seconds,
            val_top1=self._validate(epoch),
        )
        self._figures, self._epoch_seconds = [], 0.0
        with self.group.together():
            self.hooks.on_epoch(log)
        if epoch % self.config.run.checkpoint_every == 0:
            self._checkpoint()
        return not stopping

    def train_step(self, batch: RawBatch) -> None:
        """One optimiser step on a batch, on the device."""
        learner, optim = self.learner, self.config.optim
        set_rate(learner.optimizer, learning_rate(self.step, self.total_steps, len(self.sampler), optim))
        if learner.average is not None:
            learner.average.set_step(self.step)
        self._seed(self.step + 1)
        labels = self._labels[batch.index]
        classes = functional.one_hot(labels, len(self.store.class_names)).float()
        inputs, classes = self.phase.inputs(batch, classes, self.generator)
        loss, logits = learner.update(*inputs, classes)
        if len(self.stores) > 1:
            logits = logits.masked_fill(self._others[labels], float("-inf"))
        accuracy = (logits.argmax(1) == labels).float().mean()
        self._figures.append(self.group.mean(torch.stack([loss.float(), accuracy])))
        self._unchecked.append(batch.index)

    def _check(self) -> None:
        """Stop at a loss that isn't finite, before it reaches a checkpoint."""
        if not self._unchecked:
            return
        fresh = torch.stack(self._figures[-len(self._unchecked) :])[:, 0].tolist()
        for loss, rows in zip(fresh, self._unchecked, strict=True):
            if not math.isfinite(loss):
                places = np.concatenate(self.group.everyone(rows.cpu().numpy()))
                raise TrainingError(
                    f"the loss is {loss} at or before step {self.step}, with the clips "
                    f"{', '.join(self.store.sample_ids[places])}"
                )
        self._unchecked.clear()

    def _validate(self, epoch: int) -> float | None:
        last = epoch == self.config.optim.epochs
        if self.config.fold is None or not (last or epoch % self.config.run.validate_every == 0):
            return None
        return float(np.mean([evaluate(scores)["top1"] for scores in self._scored(self._held_out())]))

    def _held_out(self) -> list[np.ndarray]:
        """Positions of each set's held-out clips."""
        return [one.protocol.indices(one.store, "val", self.config.fold) for one in self._sets]

    def _scored(self, rows: Sequence[np.ndarray], modalities: Sequence[str] = MODALITIES) -> list[Scores]:
        """Scores of some clips of each set by its own head, with corrected labels."""
        heads = [self.result.head(head.name) for head in self.spec.heads] or [self.result]
        found = []
        for model, one, own in zip(heads, self._sets, rows, strict=True):
            about = one.store, own, self.device, self.videos, modalities
            scores = score_together(self.group, model, *about)[""]
            found.append(dataclasses.replace(scores, labels=one.labels[own]))
        return found

    def _fit_confidence(self) -> None:
        """By the held-out clips; or as the run of ``calibration`` found it, with this run's training clips."""
        learned = [one.rows[kept(len(one.rows), len(one.store.class_names))] for one in self._sets]
        found: list[dict[str, Confidence]] = [{} for _ in self.stores]
        for modalities in [("skeleton",), ("video",), MODALITIES] if self.spec.roi else [("skeleton",)]:
            name = "+".join(modalities)
            near = [scores.answered.logits for scores in self._scored(learned, modalities)]
            if self._given:
                for one, other, own in zip(found, self._given, near, strict=True):
                    if name in other:
                        one[name] = dataclasses.replace(other[name], neighbours=as_neighbours(own))
            else:
                held_out = [scores.answered for scores in self._scored(self._held_out(), modalities)]
                for one, scores, own in zip(found, held_out, near, strict=True):
                    one[name] = fit_confidence(scores.logits, scores.labels, own)
        self.spec = self.spec.with_confidences(found)

    def _other_confidence(self, name: str) -> list[dict[str, Confidence]]:
        """Another model's, of the same classes, of each head."""
        other = from_pretrained(name, all_heads=True).spec
        if other.class_names != self.spec.class_names or len(other.heads) != len(self.spec.heads):
            raise TrainingError(f"field 'calibration', {name}: it tells other classes apart than this run")
        if not all(other.confidences()):
            raise TrainingError(f"field 'calibration', {name}: no fold was held out there, so it can't say")
        return other.confidences()

    def _checkpoint(self) -> None:
        figures = [step.tolist() for step in self._figures]
        progress = checkpoint.Progress(
            self.step, self.seconds, self._identity(), figures, self._epoch_seconds
        )
        self.blind = set[int]().union(*self.group.everyone(self.blind))
        with self.group.together():
            if self.group.is_main:
                checkpoint.save(self.out, progress, self.learner.modules, self.learner.optimizer)

    def _identity(self) -> str:
        """What must not change over a resume: all but how often the run looks at itself."""
        fields = dataclasses.asdict(self.config) | self.phase.identity
        del fields["phase"], fields["calibration"]  # what phase says, `phase1` says too
        fields["run"] = {name: value for name, value in fields["run"].items() if name not in _FREE}
        return json.dumps(fields | {"training clips": len(self.rows)}, sort_keys=True)

    def _seed(self, step: int) -> None:
        """Every step draws from generators of its own, so a run can be cut anywhere and go on as if it hadn't been.

        Processes augment by the same numbers, those of the whole batch, and drop out by their own.
        """
        rank = self.group.rank if step else 0
        # Two numbers: dropout and augmentation must not draw the same stream.
        numbers = (
            np.random.SeedSequence((self.config.run.seed, step)).generate_state(2 + rank, np.uint64) >> 1
        )
        torch.manual_seed(int(numbers[1 + rank if rank else 0]))
        self.generator.manual_seed(int(numbers[1]))

    @contextmanager
    def _stopping_at_signals(self) -> Iterator[None]:
        self._stop = False
        handlers = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        # The second Ctrl-C doesn't wait; but torchrun makes two of one.
        if self._stop and number == signal.SIGINT and self.group.size == 1:
            raise KeyboardInterrupt
        self._stop = True


class _TrainingSet(NamedTuple):
    """A store, its protocol, the corrected labels of all its clips, and the positions of those to train on."""

    store: Store
    protocol: Protocol
    labels: np.ndarray
    rows: np.ndarray


def _training_sets(config: TrainConfig, stores: Sequence[Store]) -> list[_TrainingSet]:
    names = [config.protocol] if len(stores) == 1 else config.protocol.split("+")
    names = names if config.protocol else [""] * len(stores)
    if len(names) != len(stores):
        raise TrainingError(
            f"field 'protocol' names {len(names)} for {len(stores)} stores: join one for each by +, in the order of "
            "--data; an empty one is the store's own"
        )
    found = []
    for name, store in zip(names, stores, strict=True):
        protocol = get_protocol(name or store.protocol)
        labels = protocol.labels(store, config.relabel)
        rows = protocol.indices(store, "train", config.fold)
        rows = rows[labels[rows] >= 0]
        if len(rows) == 0:
            raise TrainingError(f"{store.path}: protocol {protocol.name} leaves no labelled clip to train on")
        if config.fold is not None and (labels[protocol.indices(store, "val", config.fold)] < 0).all():
            raise TrainingError(
                f"{store.path}: fold {config.fold} of protocol {protocol.name} holds out no labelled clip"
            )
        if len(store.class_names) < 2:
            raise TrainingError(f"{store.path}: it has one class; there is nothing to tell apart")
        found.append(_TrainingSet(store, protocol, labels, rows))
    return found


def _prepared_device(config: RuntimeConfig, group: ProcessGroup) -> torch.device:
    """The device that this process trains on, with torch's settings for it."""
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("field 'run.device' is cuda, but torch sees no GPU here; use auto or cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if config.device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", group.local_rank)
    keep_freed_memory()
    return torch.device("cpu")
