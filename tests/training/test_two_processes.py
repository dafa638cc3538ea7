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
from two_processes import Places, all_of_it, in_pair, normed, phase_1_config, phase_2_config, run

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
def places(
    tmp_path_factory: pytest.TempPathFactory,
    patchy_store: Store,
    store: Store,
    phase1: Path,
    recipe: Path,
    store_folder: Path,
) -> Places:
    """What two processes have left behind."""
    folder = tmp_path_factory.mktemp("pair")
    run(folder / "begun", phase_1_config(), patchy_store, stop=2)
    found = Places(folder, patchy_store.path, store.path, phase1, recipe, store_folder)
    in_pair(all_of_it, found)
    return found


@pytest.fixture(scope="module")
def notes(places: Places) -> list[dict[str, Any]]:
    """What each process says of it."""
    return [json.loads((places.folder / f"notes-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(places: Places) -> tuple[Path, list[float]]:
    """The same run of phase 1 by one process, and its losses."""
    folder = places.folder / "one-1"
    return folder, run(folder, phase_1_config(), Store(places.patchy))


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


def test_phase_1_has_the_losses_and_weights_of_one_process(
    places: Places, notes: list[dict[str, Any]], alone: tuple[Path, list[float]]
) -> None:
    folder, losses = alone
    assert len(set(losses)) == 3
    for said in notes:
        assert said["phase 1"] == pytest.approx(losses, rel=1e-5)
    assert_close_runs(folder, places.folder / "two-1", 1e-5)


@pytest.mark.long
def test_phase_2_has_them_too_with_a_clip_that_has_no_video(
    places: Places, notes: list[dict[str, Any]]
) -> None:
    folder = places.folder / "one-2"
    losses = run(folder, phase_2_config(places.phase1), Store(places.videos))
    for said in notes:
        assert said["phase 2"] == pytest.approx(losses, rel=1e-4)
    assert_close_runs(folder, places.folder / "two-2", 1e-4)


def test_two_stop_where_one_is_asked_to_and_one_goes_on(
    places: Places, alone: tuple[Path, list[float]]
) -> None:
    folder, losses = alone
    cut = places.folder / "cut"
    assert checkpoint.read_progress(cut).step == 3
    # What an epoch's log says counts from where the run went on; the next epoch is whole again.
    assert run(cut, phase_1_config(), Store(places.patchy), resume=True)[-1] == pytest.approx(
        losses[-1], rel=1e-5
    )
    assert_close_runs(folder, cut, 1e-5)


def test_two_go_on_where_one_has_stopped(
    places: Places, notes: list[dict[str, Any]], alone: tuple[Path, list[float]]
) -> None:
    folder, losses = alone
    for said in notes:
        assert said["resumed"] == pytest.approx(losses[1:], rel=1e-5)
    assert_close_runs(folder, places.folder / "begun", 1e-5)


def test_each_clip_is_scored_once_and_has_its_place(places: Places) -> None:
    model = from_pretrained(places.folder / "two-1")
    expected = score_streams(model, Store(places.patchy), np.arange(11))
    for rank in range(2):
        with np.load(places.folder / f"scores-{rank}.npz") as found:
            assert set(found) == {"all", "joint", "bone"}
            for name, part in expected.items():
                np.testing.assert_allclose(found[name or "all"], part.logits, atol=1e-5)


def test_more_processes_than_clips(places: Places, notes: list[dict[str, Any]]) -> None:
    model = from_pretrained(places.folder / "two-1")
    expected = score_streams(model, Store(places.patchy), np.arange(1))[""].logits
    for said in notes:
        np.testing.assert_allclose(said["one clip"], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["norms", "norms-one"])
def test_norms_take_the_statistics_of_all_rows(places: Places, name: str) -> None:
    """Two and five rows, and seven and none."""
    halves = [torch.load(places.folder / f"{name}-{rank}.pt") for rank in range(2)]
    whole = normed(ProcessGroup(), slice(None))
    assert len(whole) > 10
    for key, value in whole.items():
        if key in ("y", "x"):
            torch.testing.assert_close(torch.cat([half[key] for half in halves]), value)
            continue
        for half in halves:
            # Slopes are averaged over the processes, each of which has summed its own rows.
            torch.testing.assert_close(half[key] * (2 if key.startswith("slope") else 1), value, msg=key)


def test_a_batch_that_can_not_be_shared_is_refused(notes: list[dict[str, Any]]) -> None:
    for said in notes:
        assert said["refused"] == (
            "ProcessGroupError: field 'optim.batch_size': a batch of 5 clips can't be shared evenly by 2 processes; "
            "make it a multiple of 2, or start another number of them"
        )


def test_a_loss_that_is_not_finite_in_one_ends_both_and_names_the_whole_batch(
    places: Places, notes: list[dict[str, Any]]
) -> None:
    assert notes[0]["not finite"] == notes[1]["not finite"]
    message = notes[0]["not finite"]
    assert message.startswith("TrainingError: the loss is nan at or before step 2, with the clips clip")
    assert message.count("clip0") == 6
    assert not (places.folder / "nan" / checkpoint.FILE).exists()


def test_what_is_wrong_is_said_once_and_ends_both(notes: list[dict[str, Any]]) -> None:
    assert [said["alone wrong"] for said in notes] == ["SystemExit: 2", "ValueError: the disk is full"]
    assert [said["both wrong"] for said in notes] == ["ValueError: there is no such store", "SystemExit: 2"]


def test_the_command_has_one_folder_and_one_log(places: Places, notes: list[dict[str, Any]]) -> None:
    folder = places.folder / "command"
    assert [log.epoch for log in read_log(folder / "log.csv")] == [1, 2]
    assert from_pretrained(folder).spec.protocol == "nw_ucla_cross_view"
    assert [said["command"] for said in notes] == [[0, 2, 0], [0, 2, 0]]
    assert not [file.name for file in folder.iterdir() if file.name.endswith((".lock", ".tmp"))]
