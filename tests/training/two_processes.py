"""Two processes that train together, as ``torchrun`` would start them, and what tests let them do."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_run import make_config, make_run, make_video_config
from torch import Tensor, multiprocessing, nn

from hhmnet.cli import main
from hhmnet.config import TrainConfig
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store
from hhmnet.training.distributed import ProcessGroup, join, score_together, synchronise_norms
from hhmnet.training.engine import Hooks, Interrupted
from hhmnet.training.logs import EpochLog


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
    certain = dict.fromkeys(("dropout", "drop_path"), 0.0)
    settings = {"optimizer": "sgd", "batch_size": 6, "persons": 2, "stream": "joint+bone"} | certain
    return make_config(**settings | {"mask": "none", "reranking": "none"} | changed)


def phase_2_config(phase1: Path, **changed: Any) -> TrainConfig:
    """Two steps of phase 2 with everything random but dropout; a clip has no video."""
    settings = {"modality_dropout": 0.0, "optimizer": "sgd", "epochs": 1}
    config = make_video_config(phase1, **settings | changed)
    config.heterogeneous.dropout = 0.0
    return config


def run(
    folder: Path,
    config: TrainConfig,
    store: Store | Sequence[Store],
    stop: int = 0,
    resume: bool = False,
) -> list[float]:
    """Train, perhaps up to a step; the epochs' losses."""
    logs: list[EpochLog] = []
    trainer = make_run(folder, config, store)

    def on_step(step: int, total: int) -> None:
        if step == stop and trainer.group.rank == trainer.group.size - 1:  # one of them is enough
            signal.raise_signal(signal.SIGTERM)

    trainer.hooks = Hooks(on_step, logs.append)
    if resume:
        trainer.resume()
    try:
        trainer.train()
    except Interrupted:
        assert trainer.step == stop
    return [log.loss for log in logs]


def normed(group: ProcessGroup, rows: slice) -> dict[str, Tensor]:
    """What two rounds through three kinds of batch norm do to these of seven clips.

    Their output, slopes and statistics; of several processes the slopes of all rows together.
    """
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GELU(), nn.Conv2d(4, 5, 1)
    network = nn.Sequential(*layers, nn.BatchNorm2d(5, affine=False), nn.BatchNorm2d(5)).double()
    network[5].eval()
    clips, weight = torch.randn(7, 3, 2, 2, dtype=torch.double), torch.randn(7, 5, 2, 2, dtype=torch.double)
    if group.size > 1:
        synchronise_norms(network)
    x = clips[rows].requires_grad_()
    network(x)
    y = network(x)
    (y * weight[rows]).sum().backward()
    slopes = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    summed = {f"slope of {name}": group.mean(slope) * group.size for name, slope in slopes.items()}
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad} | summed | network.state_dict()


def all_of_it(folder: Path, paths: dict[str, Path]) -> None:
    """Everything that the tests look at, in one go: a process takes seconds to start."""
    group = join(cpu=True)
    rank, device = group.rank, torch.device("cpu")
    patchy, videos = Store(paths["patchy"]), Store(paths["videos"])
    notes: dict[str, Any] = {}
    notes["phase 1"] = run(folder / "two phase 1", phase_1_config(), patchy)
    notes["two sets"] = run(
        folder / "two two sets", phase_1_config(mixup=0.0), [patchy, Store(paths["tiny"])]
    )
    notes["cut"] = run(folder / "cut", phase_1_config(), patchy, stop=3)
    notes["resumed"] = run(folder / "begun", phase_1_config(), patchy, resume=True)
    notes["phase 2"] = run(folder / "two phase 2", phase_2_config(paths["phase1"]), videos)
    notes["refused"] = _error(lambda: run(folder / "odd", phase_1_config(batch_size=5), patchy))
    notes["not finite"] = _error(lambda: _spoilt(folder / "nan", patchy))
    notes["alone wrong"] = _error(lambda: _fails(group, "the disk is full", (1,)))
    notes["both wrong"] = _error(lambda: _fails(group, "there is no such store", (0, 1)))
    model = from_pretrained(folder / "two phase 1")
    for count in (11, 1):
        scores = score_together(group, model, patchy, np.arange(count), device)
        logits = {name or "all": part.logits for name, part in scores.items()}
        np.savez(folder / f"scores-{count}-{rank}.npz", **logits)
    torch.save(normed(group, (slice(0, 7), slice(7, 7))[rank]), folder / f"norms-{rank}.pt")
    words = ["train", "--config", paths["recipe"], "--data", paths["sample"], "--out", folder / "command"]
    with pytest.MonkeyPatch.context() as patch:
        # Each command ends a process, and here three are in one.
        patch.setattr(ProcessGroup, "leave", lambda self: None)
        notes["command"] = [main([*map(str, words), *more]) for more in ([], [], ["--resume"])]
    group.leave()
    (folder / f"notes-{rank}.json").write_text(json.dumps(notes))


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


def _fails(group: ProcessGroup, why: str, ranks: tuple[int, ...]) -> None:
    with group.together():
        if group.rank in ranks:
            raise ValueError(why)
