"""What two processes train is what one trains; both run all of :func:`all_of_it`, as ``torchrun`` would start it."""

from __future__ import annotations

import dataclasses
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
from safetensors.torch import load_file, save_file
from short_run import make_config, make_run, make_video_config
from torch import distributed, multiprocessing

from hhmnet.cli import main
from hhmnet.config import TrainConfig
from hhmnet.evaluation.scores import score_streams
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.distributed import ProcessGroup, join, score_together
from hhmnet.training.engine import Hooks, Interrupted
from hhmnet.training.logs import EpochLog, read_log

pytestmark = [
    pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo"),
    pytest.mark.xdist_group("two processes"),
]


def start(rank: int, port: int, folder: Path, paths: dict[str, Path]) -> None:
    """One of the two processes."""
    torch.set_num_threads(1)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    all_of_it(folder, paths)


def phase_1_config(**changed: Any) -> TrainConfig:
    """Six steps of two streams with everything random but dropout, whose masks each process draws for itself.

    Without adaptive steps and hard choices of neighbours, which make large differences of rounding errors.
    """
    certain = dict.fromkeys(("dropout", "drop_path"), 0.0)
    settings = {"optimizer": "sgd", "batch_size": 6, "persons": 2, "stream": "joint+bone"} | certain
    return make_config(**settings | {"mask": "none", "reranking": "none"} | changed)


def phase_2_config(phase1: Path, **changed: Any) -> TrainConfig:
    """Four steps of phase 2 with everything random but dropout; a clip has no video, and then a process no picture."""
    settings = {"optimizer": "sgd", "epochs": 1, "batch_size": 2}
    config = make_video_config(phase1, **settings | changed)
    config.heterogeneous.dropout = 0.0
    return config


def run(
    folder: Path, config: TrainConfig, store: Store | Sequence[Store], stop: int = 0, resume: bool = False
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
    config = phase_2_config(paths["phase1"], backbone="efficientnet_lite0", pretrained=False)
    config.roi = dataclasses.replace(config.roi, cell=40, scene=72)
    config.video = dataclasses.replace(config.video, cell=32, scene=64)
    trainer = make_run(folder / "norms", config, videos)
    trainer.train()
    state = {name: value.contiguous() for name, value in trainer.network.state_dict().items()}
    save_file(state, folder / f"norms-{rank}.safetensors")
    notes["refused"] = _error(lambda: run(folder / "odd", phase_1_config(batch_size=5), patchy))
    notes["not finite"] = _error(lambda: _spoilt(folder / "nan", patchy))
    notes["alone wrong"] = _error(lambda: _fails(group, "the disk is full", (1,)))
    notes["both wrong"] = _error(lambda: _fails(group, "there is no such store", (0, 1)))
    model = from_pretrained(folder / "two phase 1")
    for count in (11, 1):
        scores = score_together(group, model, patchy, np.arange(count), device)
        logits = {name or "all": part.logits for name, part in scores.items()}
        np.savez(folder / f"scores-{count}-{rank}.npz", **logits)
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory, patchy_store, tiny_store, store, phase1, recipe, store_folder):
    """What two processes have left behind."""
    folder = tmp_path_factory.mktemp("pair")
    run(folder / "begun", phase_1_config(), patchy_store, stop=2)
    paths = {"patchy": patchy_store.path, "videos": store.path, "tiny": tiny_store.path, "phase1": phase1}
    paths |= {"recipe": recipe, "sample": store_folder}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    multiprocessing.start_processes(start, args=(port, folder, paths), nprocs=2, start_method="spawn")
    return folder


@pytest.fixture(scope="module")
def notes(folder):
    """What each process says of it."""
    return [json.loads((folder / f"notes-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(folder, patchy_store):
    """The losses of the same run of phase 1 by one process."""
    return run(folder / "one phase 1", phase_1_config(), patchy_store)


def assert_close_runs(a: Path, b: Path, tolerance: float) -> None:
    for name in (checkpoint.FILE, "model.safetensors"):
        ours, theirs = load_file(a / name), load_file(b / name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(
                value, theirs[key], atol=tolerance, rtol=tolerance, msg=f"{name} {key}"
            )
    assert checkpoint.read_progress(a).step == checkpoint.read_progress(b).step
    assert checkpoint.read_progress(a).config == checkpoint.read_progress(b).config


@pytest.mark.parametrize(("kind", "tolerance"), [("phase 1", 1e-5), ("two sets", 1e-5), ("phase 2", 1e-4)])
def test_two_have_the_losses_and_weights_of_one(
    folder, notes, alone, patchy_store, tiny_store, store, phase1, kind, tolerance
):
    losses = alone
    if kind == "two sets":
        losses = run(folder / "one two sets", phase_1_config(mixup=0.0), [patchy_store, tiny_store])
    elif kind == "phase 2":  # with a clip that has no video
        losses = run(folder / "one phase 2", phase_2_config(phase1), store)
    assert losses
    for noted in notes:
        assert noted[kind] == pytest.approx(losses, rel=tolerance)
    assert_close_runs(folder / f"one {kind}", folder / f"two {kind}", tolerance)


def test_batch_norms_of_a_video_network_wait_for_nobody_without_a_picture(folder, notes):
    """A clip a process: the one without a video leaves its process without pictures."""
    first, second = (load_file(folder / f"norms-{rank}.safetensors") for rank in range(2))
    weights = [name for name in first if "running" not in name and "batches" not in name]
    assert any("video.backbone" in name for name in weights)
    for name in weights:  # statistics are of each process's own clips
        torch.testing.assert_close(first[name], second[name], atol=1e-5, rtol=0, msg=name)


def test_two_stop_and_one_goes_on_and_the_other_way_round(folder, notes, alone, patchy_store):
    assert checkpoint.read_progress(folder / "cut").step == 3
    losses = run(folder / "cut", phase_1_config(), patchy_store, resume=True)
    for resumed in (losses, *(noted["resumed"] for noted in notes)):
        assert resumed == pytest.approx(alone[1:], rel=1e-5)
    for name in ("cut", "begun"):
        assert_close_runs(folder / "one phase 1", folder / name, 1e-5)


@pytest.mark.parametrize("count", [11, 1])
def test_each_clip_is_scored_once_and_has_its_place(folder, patchy_store, count):
    expected = score_streams(from_pretrained(folder / "two phase 1"), patchy_store, np.arange(count))
    for rank in range(2):
        with np.load(folder / f"scores-{count}-{rank}.npz") as found:
            assert set(found) == {"all", "joint", "bone"}
            for name, part in expected.items():
                np.testing.assert_allclose(found[name or "all"], part.logits, atol=1e-5)


def test_what_goes_wrong_ends_both_and_is_said_once(folder, notes):
    for noted in notes:
        assert noted["refused"] == (
            "ProcessGroupError: field 'optim.batch_size': a batch of 5 clips can't be shared evenly by 2 processes; "
            "make it a multiple of 2, or start another number of them"
        )
    message = notes[0]["not finite"]
    assert message == notes[1]["not finite"]
    assert message.startswith("TrainingError: the loss is nan at or before step 2, with the clips clip")
    assert message.count("clip0") == 6
    assert not (folder / "nan" / checkpoint.FILE).exists()
    assert [noted["alone wrong"] for noted in notes] == ["SystemExit: 2", "ValueError: the disk is full"]
    assert [noted["both wrong"] for noted in notes] == ["ValueError: there is no such store", "SystemExit: 2"]


def test_the_command_has_one_folder_and_one_log(folder, notes):
    run = folder / "command"
    assert [log.epoch for log in read_log(run / "log.csv")] == [1, 2]
    assert from_pretrained(run).spec.protocol == "nw_ucla_cross_view"
    assert [noted["command"] for noted in notes] == [[0, 2, 0], [0, 2, 0]]
    assert not [file.name for file in run.iterdir() if file.name.endswith((".lock", ".tmp"))]
