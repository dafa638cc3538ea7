"""``hhmnet train``: a store → a run folder with a trained model."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from hhmnet.commands.configuration import CONFIG_FILE, format_help, read_config, write_config
from hhmnet.commands.crops import cut_crops
from hhmnet.commands.prepare import warnings_of_split
from hhmnet.commands.terminal import Parser, console, counting, duration
from hhmnet.config import TrainConfig
from hhmnet.files import locked, made, remedy, remove_leftovers, write_json
from hhmnet.prepare import WorkerLost
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.distributed import ProcessGroup, join
from hhmnet.training.engine import Hooks, Interrupted, Trainer
from hhmnet.training.logs import ENVIRONMENT_FILE, EpochLog, RunLog, environment, is_finished
from hhmnet.training.phases import VideoPhase

WEIGHTS_FILE = "model.safetensors"
FINISHED, STOPPED = 0, 130
SHOWN_CLIPS = 10
_LOST_WORKER = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)")


class RunError(ValueError):
    """A run folder or a machine that a run can't have."""


def main(words: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    options, flags = parser.parse_known_args(words)
    file = options.config
    if file is None and options.resume and options.out is not None and (options.out / CONFIG_FILE).exists():
        file = options.out / CONFIG_FILE
    config = read_config(file, flags, parser.names)
    for name in ("data", "out"):
        if getattr(options, name) is None and not options.dry_run:
            parser.error(f"the following arguments are required: --{name}")
    group = join(config.run.device == "cpu")
    log = console(stderr=not options.dry_run) if group.is_main else Console(quiet=True)
    if options.dry_run:
        from hhmnet.commands.bench import dry_run

        dry_run(config, options.data, log)
        code = FINISHED
    else:
        with group.together():
            stores = [Store(folder) for folder in options.data]
        own = {name: getattr(options, name) for name in ("resume", "time_limit", "videos")}
        code = train(config, stores, options.out, **own, log=log)
    group.leave()
    return code


def _parser() -> Parser:
    parser = Parser(
        "hhmnet train",
        "Train a model. Any field of the configuration can be given as a flag, such as --optim.lr 1e-3.",
        lambda: f"Fields of the configuration, in FILE or as flags:\n\n{format_help()}",
        usage="hhmnet train --config FILE --data STORE... --out RUN [options] [--key value ...]",
    )
    add = parser.add_argument
    recipe = (
        "YAML file with the configuration, or a packaged recipe such as nw_ucla/homogeneous; what it leaves out has "
        "its default. With --resume the run's own file is taken if none is given"
    )
    add("--config", type=Path, metavar="FILE", help=recipe)
    data = "store that `hhmnet prepare` made; of several, one encoder learns from all, with a head for each"
    add("--data", type=Path, nargs="+", metavar="STORE", help=data)
    add("--out", type=Path, metavar="RUN", help="folder of the run")
    parser.add_shared("videos")
    add("--resume", action="store_true", help="go on from RUN's checkpoint; start if there is none")
    add("--time-limit", type=duration, metavar="TIME", help="checkpoint and stop after 90s, 9m, 1.5h")
    dry = "time a few steps and say what the recipe costs here; without --data on made clips of full shape"
    add("--dry-run", action="store_true", help=dry)
    return parser


def train(
    config: TrainConfig,
    stores: Sequence[Store],
    out: Path,
    *,
    resume: bool,
    time_limit: float | None,
    videos: Path | None = None,
    log: Console,
) -> int:
    """Train into a run folder, with its log, its progress bar and its lock; ``time_limit`` is in seconds.

    Of several processes that ``torchrun`` started, all call it; the first has the folder, and says why if all stop.

    Returns 0 when the model is trained or the time is up, 130 after Ctrl-C or SIGTERM. Raises RunError where the folder
    holds a run already, or the machine is at its end; UsageError in phase 2, where not one video can be read;
    WorkerLost, ProcessGroupError and ProcessLost; and as :class:`~hhmnet.training.engine.Trainer`.
    """
    group = join(config.run.device == "cpu")
    with ExitStack() as held:
        with group.together():
            if group.is_main:
                held.enter_context(made(out))
                held.enter_context(locked(out, "training"))
                remove_leftovers(out)
                taken = any((out / name).exists() for name in (CONFIG_FILE, checkpoint.FILE, WEIGHTS_FILE))
                if taken and not resume:
                    raise RunError(
                        f"{out}: holds a run already; add --resume to go on with it, or name another folder"
                    )
        with group.together():
            trainer = Trainer(config, stores, out, videos=videos)
            begun = (out / checkpoint.FILE).exists()
            if begun:
                trainer.resume()
        with group.together():
            group.check_same("the step to go on from", trainer.step)
        finished = begun and trainer.step >= trainer.total_steps and is_finished(out)
        if finished and (out / WEIGHTS_FILE).exists():
            log.print(f"{out}: this run has finished already")
            return FINISHED
        provenance = [store.provenance for store in stores]
        facts = environment(trainer.device) | {
            "seed": trainer.config.run.seed,
            "clips": len(trainer.rows),
            "store": {
                "name": "+".join(store.path.resolve().name for store in stores),
                "clips": sum(map(len, stores)),
                "provenance": provenance if len(stores) > 1 else provenance[0],
            },
        }
        for own, protocol in zip(stores, trainer.protocols, strict=True):
            for line in warnings_of_split(own, protocol):
                log.print(f"{own.path}: {line}")
        for line in () if begun else trainer.phase.started:
            log.print(f"from {config.init}, {line}")
        problems = _cut_crops(trainer, group, log)
        with group.together():
            if group.is_main:
                write_config(trainer.config, out / CONFIG_FILE)
        if not group.is_main:
            with _explained(trainer), suppress(Interrupted):
                trainer.train(time_limit)
            return FINISHED
        try:
            return _train(trainer, time_limit, facts, log)
        finally:
            _name_lost_videos(trainer, problems, log)


def _cut_crops(trainer: Trainer, group: ProcessGroup, log: Console) -> dict[str, str]:
    """Cut what the run will look at out of its videos, of clips held out too; returns what is wrong, by clip."""
    phase, rows, problems = trainer.phase, trainer.rows, dict[str, str]()
    if not isinstance(phase, VideoPhase):
        return problems
    if trainer.config.fold is not None:
        rows = np.union1d(rows, trainer.protocols[0].indices(phase.store, "val", trainer.config.fold))
    # First one process of all, then one of each other machine, which finds them unless its folder is another.
    for is_next in (group.is_main, group.local_rank == 0 and not group.is_main):
        with group.together():
            if is_next:
                problems = cut_crops(phase.cache, phase.store, rows, phase.videos, log)
    return problems


def _name_lost_videos(trainer: Trainer, known: dict[str, str], log: Console) -> None:
    """Name the clips whose crops were there before training, and weren't in it."""
    if not isinstance(trainer.phase, VideoPhase):
        return
    clips = [trainer.phase.store.sample(i) for i in sorted(trainer.blind)]
    lost = [clip.sample_id for clip in clips if clip.video is not None and clip.sample_id not in known]
    if lost:
        shown = ", ".join(lost[:SHOWN_CLIPS]) + (", ..." if len(lost) > SHOWN_CLIPS else "")
        count = f"{len(lost):,} of {len(trainer.rows):,} clips"
        log.print(f"{count} lost their video during training, and were then seen without: {shown}")


def _train(trainer: Trainer, time_limit: float | None, facts: dict[str, Any], log: Console) -> int:
    out, began = trainer.out, time.monotonic()
    data = " ".join(str(store.path) for store in trainer.stores)
    videos = "" if trainer.videos is None else f" --videos {trainer.videos}"
    write_json(out / ENVIRONMENT_FILE, facts)
    run_log = RunLog(out, trainer.step // len(trainer.sampler))
    if run_log.writer is None:
        log.print("TensorBoard events are left out: pip install 'hhmnet[tensorboard]' adds them")
    try:
        with counting(log, "", "steps") as show, _explained(trainer):
            epochs, about = trainer.config.optim.epochs, ""

            def on_step(step: int, total: int, last: bool = False) -> None:
                epoch = min((step - 1) * epochs // total + 1, epochs)
                show(step, total, f"epoch {epoch}/{epochs} step {step}/{total}{about}", last)

            def on_epoch(figures: EpochLog) -> None:
                nonlocal about
                run_log.add(figures)
                about = f" loss {figures.loss:.3f} accuracy {figures.accuracy:.1f} %"
                about += f" {figures.samples_per_second:.0f} clips/s"
                about += "" if figures.val_top1 is None else f" validation {figures.val_top1:.2f} %"
                on_step(trainer.step, trainer.total_steps, figures.epoch == epochs)

            trainer.hooks = Hooks(on_step, on_epoch)
            trainer.train(time_limit)
    except Interrupted:
        late = time_limit is not None and time.monotonic() - began > time_limit
        reason = "the time is up" if late else "interrupted"
        log.print(
            f"{reason} after step {trainer.step} of {trainer.total_steps}; go on with: "
            f"hhmnet train --data {data}{videos} --out {out} --resume"
        )
        return FINISHED if late else STOPPED
    finally:
        run_log.close()
        took = {"steps": trainer.step, "training_seconds": round(trainer.seconds, 2)}
        write_json(out / ENVIRONMENT_FILE, facts | took)
    for store in trainer.stores:
        measure = f"hhmnet evaluate {out} --data {store.path}{videos}"
        log.print(f"the model is in {out}; measure it with: {measure}")
    return FINISHED


@contextmanager
def _explained(trainer: Trainer) -> Iterator[None]:
    """Say in one line what to do where the machine, and not the program, is at its end."""
    try:
        yield
    except torch.OutOfMemoryError:
        size = trainer.config.optim.batch_size
        raise RunError(
            f"the GPU's memory can't hold {size} clips at once; lower --optim.batch_size"
        ) from None
    except OSError as error:
        raise RunError(
            f"{error.filename or trainer.out}: {error.strerror or error}{remedy(error)}; the last checkpoint is "
            f"unharmed, --resume goes on from it"
        ) from None
    except RuntimeError as error:
        if not _LOST_WORKER.match(str(error)):
            raise
        hint = "; the system does that when memory runs out" if "Killed" in str(error) else ""
        raise WorkerLost(
            f"a process that loads clips was killed{hint}; --resume goes on from the last checkpoint"
        ) from None
