"""What two processes train is what one trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed
from two_processes import all_of_it, in_pair, normed, phase_1_config, phase_2_config, run

from hhmnet.evaluation.scores import score_streams
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.distributed import ProcessGroup
from hhmnet.training.logs import read_log

pytestmark = [
    pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo"),
    pytest.mark.xdist_group("two processes"),
]


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    patchy_store: Store,
    tiny_store: Store,
    store: Store,
    phase1: Path,
    recipe: Path,
    store_folder: Path,
) -> Path:
    """What two processes have left behind."""
    folder = tmp_path_factory.mktemp("pair")
    run(folder / "begun", phase_1_config(), patchy_store, stop=2)
    paths = {"patchy": patchy_store.path, "videos": store.path, "tiny": tiny_store.path, "phase1": phase1}
    in_pair(all_of_it, folder, paths | {"recipe": recipe, "sample": store_folder})
    return folder


@pytest.fixture(scope="module")
def notes(folder: Path) -> list[dict[str, Any]]:
    """What each process says of it."""
    return [json.loads((folder / f"notes-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(folder: Path, patchy_store: Store) -> list[float]:
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
    folder: Path,
    notes: list[dict[str, Any]],
    alone: list[float],
    patchy_store: Store,
    tiny_store: Store,
    store: Store,
    phase1: Path,
    kind: str,
    tolerance: float,
) -> None:
    losses = alone
    if kind == "two sets":
        losses = run(folder / "one two sets", phase_1_config(mixup=0.0), [patchy_store, tiny_store])
    elif kind == "phase 2":  # with a clip that has no video
        losses = run(folder / "one phase 2", phase_2_config(phase1), store)
    assert losses
    for noted in notes:
        assert noted[kind] == pytest.approx(losses, rel=tolerance)
    assert_close_runs(folder / f"one {kind}", folder / f"two {kind}", tolerance)


def test_two_stop_and_one_goes_on_and_the_other_way_round(
    folder: Path, notes: list[dict[str, Any]], alone: list[float], patchy_store: Store
) -> None:
    assert checkpoint.read_progress(folder / "cut").step == 3
    losses = run(folder / "cut", phase_1_config(), patchy_store, resume=True)
    for resumed in (losses, *(noted["resumed"] for noted in notes)):
        assert resumed == pytest.approx(alone[1:], rel=1e-5)
    for name in ("cut", "begun"):
        assert_close_runs(folder / "one phase 1", folder / name, 1e-5)


@pytest.mark.parametrize("count", [11, 1])
def test_each_clip_is_scored_once_and_has_its_place(folder: Path, patchy_store: Store, count: int) -> None:
    expected = score_streams(from_pretrained(folder / "two phase 1"), patchy_store, np.arange(count))
    for rank in range(2):
        with np.load(folder / f"scores-{count}-{rank}.npz") as found:
            assert set(found) == {"all", "joint", "bone"}
            for name, part in expected.items():
                np.testing.assert_allclose(found[name or "all"], part.logits, atol=1e-5)


def test_norms_take_the_statistics_of_all_rows_also_of_a_process_without_any(folder: Path) -> None:
    halves = [torch.load(folder / f"norms-{rank}.pt") for rank in range(2)]
    for key, value in normed(ProcessGroup(), slice(None)).items():
        both = [half[key] for half in halves]
        for found in [torch.cat(both)] if key in ("y", "x") else both:
            torch.testing.assert_close(found, value, msg=key)


def test_what_goes_wrong_ends_both_and_is_said_once(folder: Path, notes: list[dict[str, Any]]) -> None:
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


def test_the_command_has_one_folder_and_one_log(folder: Path, notes: list[dict[str, Any]]) -> None:
    run = folder / "command"
    assert [log.epoch for log in read_log(run / "log.csv")] == [1, 2]
    assert from_pretrained(run).spec.protocol == "nw_ucla_cross_view"
    assert [noted["command"] for noted in notes] == [[0, 2, 0], [0, 2, 0]]
    assert not [file.name for file in run.iterdir() if file.name.endswith((".lock", ".tmp"))]
