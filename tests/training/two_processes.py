"""Two processes that train together, as ``torchrun`` would start them, and what tests let them do."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from short_run import make_config, make_run
from short_video_run import make_video_config
from torch import Tensor, multiprocessing, nn

from hhmnet.cli import main
from hhmnet.config import TrainConfig
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store
from hhmnet.training.distributed import ProcessGroup, join, score_together, synchronise_norms
from hhmnet.training.engine import Hooks, Interrupted
from hhmnet.training.logs import EpochLog


class Places(NamedTuple):
    """What two processes work on.

    Attributes:
        folder: where runs and notes go.
        patchy: store of clips with absent bodies and frames.
        videos: store with videos.
        phase1: model of skeletons for ``videos``.
        recipe: configuration file of a short run.
        sample: store for it.
    """

    folder: Path
    patchy: Path
    videos: Path
    phase1: Path
    recipe: Path
    sample: Path


def in_pair(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in two processes that know of each other; what one raises is raised here."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    multiprocessing.start_processes(_one, args=(port, work, arguments), nprocs=2, start_method="spawn")


def _one(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    work(*arguments)


def phase_1_config(**changed: Any) -> TrainConfig:
    """Six steps of two streams with everything random but dropout, whose masks each process draws for itself.

    Without adaptive steps and hard choices of neighbours, which make large differences of rounding errors.
    """
    certain = {
        "dropout": 0.0,
        "drop_path": 0.0,
        "attention_dropout": 0.0,
        "mask": "none",
        "reranking": "none",
    }
    settings = certain | {"optimizer": "sgd", "batch_size": 6, "persons": 2} | changed
    config = make_config(**settings)
    config.data.stream = "joint+bone"
    return config


def phase_2_config(phase1: Path, **changed: Any) -> TrainConfig:
    """Four steps of phase 2 with everything random but dropout."""
    config = make_video_config(phase1, **{"modality_dropout": 0.0, "optimizer": "sgd"} | changed)
    config.heterogeneous.dropout = 0.0
    return config


def run(folder: Path, config: TrainConfig, store: Store, stop: int = 0, resume: bool = False) -> list[float]:
    """Train, perhaps up to a step; the epochs' losses."""
    logs: list[EpochLog] = []
    trainer = make_run(folder, config, store, Hooks(on_epoch=logs.append))

    def ask(step: int, total: int) -> None:
        if step == stop and trainer.group.rank == trainer.group.size - 1:  # one of them is enough
            trainer._ask_to_stop(signal.SIGTERM, None)

    trainer.hooks.on_step = ask
    if resume:
        trainer.resume()
    if stop:
        with pytest.raises(Interrupted, match=f"stopped after step {stop} of"):
            trainer.train()
    else:
        trainer.train()
    return [log.loss for log in logs]


def norms() -> nn.Sequential:
    """A network with a batch norm that learns, one without weights, and one that stays as it is."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GELU(), nn.Conv2d(4, 5, 1)
    network = nn.Sequential(*layers, nn.BatchNorm2d(5, affine=False, momentum=0.1), nn.BatchNorm2d(5))
    network[5].eval()
    return network.double()


def norm_inputs() -> tuple[Tensor, Tensor]:
    """Seven clips, and how much each value of what comes of them counts."""
    source = torch.Generator().manual_seed(1)
    return tuple(  # type: ignore[return-value]
        torch.randn(shape, generator=source, dtype=torch.double) for shape in ((7, 3, 2, 2), (7, 5, 2, 2))
    )


def normed(group: ProcessGroup, rows: slice) -> dict[str, Tensor]:
    """Output, slopes and statistics after two rounds; of several processes those of all rows together."""
    network = norms()
    if group.size > 1:
        synchronise_norms(network)
    x, weight = (part[rows] for part in norm_inputs())
    x.requires_grad_()
    network(x)
    y = network(x)
    (y * weight).sum().backward()
    found = {"y": y.detach(), "x": x.grad}
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad = group.mean(parameter.grad)
    slopes = {f"slope of {name}": p.grad for name, p in network.named_parameters() if p.grad is not None}
    return found | slopes | network.state_dict()  # type: ignore[return-value]


def all_of_it(places: Places) -> None:
    """Everything that the tests look at, in one go: a process takes seconds to start."""
    group = join(cpu=True)
    folder, rank = places.folder, group.rank
    patchy, videos = Store(places.patchy), Store(places.videos)
    notes: dict[str, Any] = {}
    notes["phase 1"] = run(folder / "two-1", phase_1_config(), patchy)
    notes["cut"] = run(folder / "cut", phase_1_config(), patchy, stop=3)
    notes["resumed"] = run(folder / "begun", phase_1_config(), patchy, resume=True)
    notes["phase 2"] = run(folder / "two-2", phase_2_config(places.phase1), videos)
    notes["refused"] = _error(lambda: run(folder / "odd", phase_1_config(batch_size=5), patchy))
    notes["not finite"] = _error(lambda: _spoilt(folder / "nan", patchy))
    notes["alone wrong"] = _error(lambda: _fails_in_one(group))
    notes["both wrong"] = _error(lambda: _fails_in_all(group))
    scores = score_together(
        group, from_pretrained(folder / "two-1"), patchy, np.arange(11), torch.device("cpu")
    )
    np.savez(folder / f"scores-{rank}.npz", **{name or "all": part.logits for name, part in scores.items()})
    few = score_together(group, from_pretrained(folder / "two-1"), patchy, np.arange(1), torch.device("cpu"))
    notes["one clip"] = few[""].logits.tolist()
    torch.save(normed(group, (slice(0, 7), slice(7, 7))[rank]), folder / f"norms-one-{rank}.pt")
    torch.save(normed(group, (slice(0, 2), slice(2, 7))[rank]), folder / f"norms-{rank}.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ProcessGroup, "leave", lambda self: None
        )  # each command ends a process, and here three are in one
        notes["command"] = _commands(places)
    group.leave()
    (folder / f"notes-{rank}.json").write_text(json.dumps(notes))


def _commands(places: Places) -> list[int]:
    """Exit codes of a command, of the same once more, and of one that goes on."""
    words = ["train", "--config", places.recipe, "--data", places.sample, "--out", places.folder / "command"]
    return [main([*map(str, words), *more]) for more in ([], [], ["--resume"])]


def _error(work: Callable[[], Any]) -> str:
    try:
        work()
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _spoilt(folder: Path, store: Store) -> None:
    """A run in which one process goes wrong."""
    trainer = make_run(folder, phase_1_config(), store)

    def spoil(step: int, total: int) -> None:
        if step == 1 and trainer.group.rank == 1:
            with torch.no_grad():
                next(trainer.network.parameters()).fill_(float("nan"))

    trainer.hooks.on_step = spoil
    trainer.train()


def _fails_in_one(group: ProcessGroup) -> None:
    with group.together():
        if group.rank == 1:
            raise ValueError("the disk is full")


def _fails_in_all(group: ProcessGroup) -> None:
    with group.together():
        raise ValueError("there is no such store")
