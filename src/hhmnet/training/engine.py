"""The training loop."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from hhmnet.allocator import keep_freed_memory
from hhmnet.config import TrainConfig
from hhmnet.data.dataset import EpochSampler, RawBatch, clip_length, make_loader
from hhmnet.data.protocols import get_protocol
from hhmnet.evaluation.metrics import evaluate
from hhmnet.models.homogeneous import stream_parts
from hhmnet.models.pretrained import ActionModel, Network
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.distributed import join, naming_the_lost
from hhmnet.training.graph import GraphedUpdate
from hhmnet.training.optim import MovingAverage, learning_rate, make_optimizer, set_rate
from hhmnet.training.phases import Phase, make_phase
from hhmnet.training.scoring import score_together
from hhmnet.training.synchronised import synchronise_norms


class TrainingError(ValueError):
    """A run that can't start or go on."""


class Interrupted(Exception):
    """The run checkpointed and stopped before its end; the message says how to go on."""


@dataclass
class EpochLog:
    """Figures of one epoch, as the log file and the progress bar show them."""

    epoch: int
    loss: float
    accuracy: float
    lr: float
    samples_per_second: float
    seconds: float
    val_top1: float | None = None


@dataclass
class Hooks:
    """What wants to hear of a run's progress; the loop itself prints nothing."""

    on_step: Callable[[int, int], None] = lambda step, total: None
    on_epoch: Callable[[EpochLog], None] = lambda log: None


@dataclass
class _Window:
    """Losses not yet read back from the device: reading each at once would make a GPU wait for Python."""

    losses: list[Tensor] = field(default_factory=list)
    right: list[Tensor] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0  # of the steps before the run was stopped

    @classmethod
    def of(cls, figures: checkpoint.Figures, device: torch.device) -> _Window:
        losses, right = (
            list(torch.tensor(values, device=device)) for values in (figures.losses, figures.right)
        )
        return cls(losses, right, seconds=figures.seconds)

    def figures(self) -> checkpoint.Figures:
        losses, right = ([float(value) for value in values] for values in (self.losses, self.right))
        return checkpoint.Figures(losses, right, self.seconds)


class Trainer:
    """Trains one encoder on one store, into one run folder.

    Of the processes that ``torchrun`` starts each makes one; :mod:`hhmnet.training.distributed` says what they share.

    Args:
        config: the run's configuration.
        store: opened store.
        out: run folder; it exists.
        hooks: receivers of progress.
        videos: folder of the store's videos; the store's own note if None. Phase 2 needs it.

    Raises:
        TrainingError: where the configuration doesn't fit the store or the machine.
        TeamError: where the processes can't share a batch, or a GPU, evenly.
        PhaseError, VideoFolderError: where phase 2 can't begin.
    """

    def __init__(
        self,
        config: TrainConfig,
        store: Store,
        out: Path,
        hooks: Hooks | None = None,
        videos: Path | None = None,
    ) -> None:
        self.config, self.store, self.out, self.hooks = config, store, out, hooks or Hooks()
        self.videos = videos
        self.protocol = get_protocol(config.protocol or store.protocol)
        self.labels = self.protocol.labels(store, config.relabel)
        self.rows = self.protocol.indices(store, "train", config.fold)
        self.rows = self.rows[self.labels[self.rows] >= 0]
        if len(self.rows) == 0:
            raise TrainingError(
                f"{store.path}: protocol {self.protocol.name} leaves no labelled clip to train on"
            )
        if len(store.class_names) < 2:
            raise TrainingError(f"{store.path}: it has one class; there is nothing to tell apart")
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        if config.run.device == "cuda" and not torch.cuda.is_available():
            raise TrainingError("field 'run.device' is cuda, but torch sees no GPU here; use auto or cpu")
        self.team = join(config.run.device == "cpu")
        self.team.check_shares(min(config.optim.batch_size, len(self.rows)))
        # Accelerate keeps the first run's device and precision for the whole process.
        AcceleratorState._reset_state(True)
        precision = "bf16" if config.run.precision == "bfloat16" else "no"
        on_cpu = config.run.device == "cpu" or (self.team.size > 1 and not torch.cuda.is_available())
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision=precision)
        self.device = self.accelerator.device
        if self.device.type == "cpu":
            keep_freed_memory()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.generator = torch.Generator(self.device)
        self._labels = torch.from_numpy(self.labels).to(self.device)
        self._seed(0)
        self.phase: Phase = make_phase(config, store, self.protocol, videos, self.team)
        frames, rate = clip_length(store, self.rows, videos)
        self.spec = dataclasses.replace(self.phase.model.spec, clip_frames=frames, clip_rate=rate)
        self.network = self.phase.model.network.to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        synchronise_norms(self.network, self.team)
        self.ema = MovingAverage(self.network, config.optim.ema) if config.optim.ema else None
        self.optimizer = make_optimizer(self.network, config.optim)
        self.forward = torch.compile(self.network) if config.run.compile else self.network
        graphed = config.run.graph and self.device.type == "cuda" and self.team.size == 1
        self.update: Callable[..., tuple[Tensor, Tensor]]
        self.update = GraphedUpdate(self._update) if graphed else self._update
        self.dataset = self.phase.dataset(self.rows)
        part, size = (self.team.rank, self.team.size), config.optim.batch_size
        self.sampler = EpochSampler(len(self.rows), size, config.run.seed, drop_last=True, part=part)
        self.step = 0
        self.seconds = 0.0
        self._window = _Window()
        self._stop = False

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.optim.epochs * len(self.sampler)

    @property
    def result(self) -> ActionModel:
        """The model as it stands: the moving average where there is one."""
        return ActionModel(self._average or self.network, self.spec)

    @property
    def _average(self) -> Network | None:
        return None if self.ema is None else self.ema.module

    def resume(self) -> None:
        """Go on from the run folder's checkpoint; raises CheckpointError or TrainingError."""
        changed = checkpoint.differing_fields(self._identity(), checkpoint.read_progress(self.out).config)
        if changed:
            raise TrainingError(
                f"{self.out}: the run was started with another {', '.join(changed)}; "
                "give the same values to resume it, or another folder to start anew"
            )
        progress = checkpoint.load(self.out, self.network, self._average, self.optimizer)
        self.step, self.seconds = progress.step, progress.seconds
        self._window = _Window.of(progress.epoch, self.device)

    def train(self, time_limit: float | None = None) -> ActionModel:
        """Train to the end and save the model.

        Args:
            time_limit: seconds after which to checkpoint and stop.

        Raises:
            Interrupted: at the time limit or after Ctrl-C or SIGTERM; the checkpoint is written.
            TrainingError: when the loss is no longer finite; names the clips of the batch.
            TeamError: the processes don't begin at the same step.
            ProcessLost: another process of the run has ended.
        """
        with naming_the_lost(self.team):
            return self._train(time_limit)

    def _train(self, time_limit: float | None) -> ActionModel:
        self.team.check_same("the step to go on from", self.step)
        began, before = time.monotonic(), self.seconds
        self._stop = False
        handlers = {s: signal.signal(s, self._ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        # Local, so that its workers end with it: in garbage collection each of them would be waited for.
        loader = make_loader(self.dataset, self.sampler, self.config.run.workers, self.device.type == "cuda")
        try:
            while self.step < self.total_steps:
                finished = self._epoch(loader, began, time_limit)
                self.seconds = before + time.monotonic() - began
                if not finished:
                    self._checkpoint()
                    raise Interrupted(
                        f"stopped after step {self.step} of {self.total_steps}; --resume goes on"
                    )
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self._checkpoint()
        model = self.result.eval()
        with self.team.together():
            if self.team.is_main:
                model.save_pretrained(self.out)
        return model

    def _epoch(self, loader: DataLoader[RawBatch], began: float, time_limit: float | None) -> bool:
        """Train to the end of the current epoch; false if the run is to stop before its end."""
        per_epoch = len(self.sampler)
        epoch, self.sampler.start = divmod(self.step, per_epoch)
        self.sampler.epoch = epoch
        window, start = self._window, time.monotonic()
        self.network.train()
        stopping = False
        for batch in loader:
            self.phase.note(batch)
            self._train_step(batch.to(self.device), window)
            self.step += 1
            self.hooks.on_step(self.step, self.total_steps)
            if self.device.type == "cpu" or len(window.losses) % 50 == 0:
                self._check(window)
            late = time_limit is not None and time.monotonic() - began > time_limit
            stopping = self.team.any(late or self._stop)
            if stopping and self.step % per_epoch:
                self._check(window)
                window.seconds += time.monotonic() - start
                return False
        self._check(window)
        seconds = window.seconds + time.monotonic() - start
        count = len(window.losses) * self.config.optim.batch_size
        log = EpochLog(
            epoch=epoch + 1,
            loss=float(torch.stack(window.losses).mean()),
            accuracy=100 * float(torch.stack(window.right).float().mean()),
            lr=learning_rate(self.step - 1, self.total_steps, per_epoch, self.config.optim),
            samples_per_second=count / seconds,
            seconds=seconds,
            val_top1=self._validate(epoch + 1),
        )
        self._window = _Window()
        with self.team.together():
            self.hooks.on_epoch(log)
        if (epoch + 1) % self.config.run.checkpoint_every == 0:
            self._checkpoint()
        return not stopping or self.step == self.total_steps

    def _train_step(self, batch: RawBatch, window: _Window) -> None:
        config = self.config
        rate = learning_rate(self.step, self.total_steps, len(self.sampler), config.optim)
        set_rate(self.optimizer, rate)
        if self.ema is not None:
            self.ema.set_step(self.step)
        self._seed(self.step + 1, self.team.rank)
        labels = self._labels[batch.index]
        classes = functional.one_hot(labels, len(self.store.class_names)).float()
        inputs, classes = self.phase.inputs(batch, classes, self.generator)
        loss, logits = self.update(*inputs, classes)
        window.losses.append(self.team.mean(loss))
        window.right.append(self.team.mean((logits.argmax(1) == labels).float().mean()))
        window.rows.append(batch.index)

    def _update(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """One optimiser step on the network's inputs, then class shares; the loss and the logits ``(N, classes)``."""
        *given, classes = inputs
        self.optimizer.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            output = self.forward(*given)
        logits = self.phase.answer(output)
        loss = self.phase.loss(output, classes)
        self.accelerator.backward(loss)
        self.team.average_gradients(self.network.parameters())
        if self.config.optim.clip_norm:
            for part in stream_parts(self.network):
                torch.nn.utils.clip_grad_norm_(part, self.config.optim.clip_norm)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        return loss.detach(), logits.detach()

    def _check(self, window: _Window) -> None:
        """Stop at a loss that isn't finite, before it reaches a checkpoint."""
        if not window.rows:
            return
        fresh = torch.stack(window.losses[-len(window.rows) :]).tolist()
        for loss, rows in zip(fresh, window.rows, strict=True):
            if not np.isfinite(loss):
                names = ", ".join(self.store.sample_ids[self.team.gather(rows).cpu().numpy()])
                raise TrainingError(
                    f"the loss is {loss} at or before step {self.step}, with the clips {names}"
                )
        window.rows.clear()

    def _validate(self, epoch: int) -> float | None:
        last = epoch == self.config.optim.epochs
        if self.config.fold is None or not (last or epoch % self.config.run.validate_every == 0):
            return None
        rows = self.protocol.indices(self.store, "val", self.config.fold)
        scores = score_together(self.team, self.result, self.store, rows, self.device, self.videos)[""]
        return float(evaluate(dataclasses.replace(scores, labels=self.labels[rows]))["top1"])

    def _checkpoint(self) -> None:
        progress = checkpoint.Progress(self.step, self.seconds, self._identity(), self._window.figures())
        self.phase.compare_notes()
        with self.team.together():
            if self.team.is_main:
                checkpoint.save(self.out, progress, self.network, self._average, self.optimizer)

    def _identity(self) -> str:
        """What must not change over a resume: all but how often the run looks at itself."""
        fields = dataclasses.asdict(self.config) | self.phase.identity
        del fields["phase"]  # what it says, `phase1` says too
        for name in (
            "checkpoint_every",
            "validate_every",
            "workers",
            "threads",
            "device",
            "compile",
            "graph",
        ):
            del fields["run"][name]
        return json.dumps(fields | {"training clips": len(self.rows)}, sort_keys=True)

    def _seed(self, step: int, rank: int = 0) -> None:
        """Every step draws from generators of its own, so a run can be cut anywhere and go on as if it hadn't been.

        Processes augment by the same numbers, those of the whole batch, and drop out by their own.
        """
        # Two numbers: dropout and augmentation must not draw the same stream.
        numbers = (
            np.random.SeedSequence((self.config.run.seed, step)).generate_state(2 + rank, np.uint64) >> 1
        )
        torch.manual_seed(int(numbers[1 + rank if rank else 0]))
        self.generator.manual_seed(int(numbers[1]))

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self._stop and number == signal.SIGINT and self.team.size == 1:  # torchrun makes two of one Ctrl-C
            raise KeyboardInterrupt
        self._stop = True
