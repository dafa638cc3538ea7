from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from short_run import OFF, assert_same_runs, make_config, make_run, train_in_slices

from hhmnet.sample import Sample
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.engine import Hooks, Interrupted, TrainingError
from hhmnet.training.logs import EpochLog


@pytest.mark.parametrize("stops", [[4], [1, 2, 3, 6, 7]], ids=str)
def test_an_interrupted_run_ends_bit_by_bit_like_a_whole_one(
    tiny_store: Store, tmp_path: Path, whole_run: Path, stops: list[int]
) -> None:
    assert train_in_slices(tmp_path / "run", make_config(), tiny_store, stops) == stops
    assert_same_runs(tmp_path / "run", whole_run)


@pytest.fixture(scope="module")
def whole_run(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    make_run(folder, make_config(), tiny_store).train()
    return folder


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": "sgd", "ema": 0.0, "clip_norm": 0.0},
        {"mask": "random", "max_pool": True, "precision": "bfloat16"},
    ],
    ids=str,
)
def test_other_runs_resume_bit_by_bit_too(
    patchy_store: Store, tmp_path: Path, changed: dict[str, Any]
) -> None:
    config = make_config(persons=2, batch_size=4, **changed)
    make_run(tmp_path / "whole", config, patchy_store).train()
    assert train_in_slices(tmp_path / "cut", config, patchy_store, [2, 5]) == [2, 5]
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")


def test_an_epoch_that_was_cut_has_a_row_of_all_its_steps(tiny_store: Store, tmp_path: Path) -> None:
    rows: dict[str, list[EpochLog]] = {"whole": [], "cut": []}
    make_run(tmp_path / "whole", make_config(), tiny_store, Hooks(on_epoch=rows["whole"].append)).train()
    ended = False
    while not ended:
        trainer = make_run(tmp_path / "cut", make_config(), tiny_store, Hooks(on_epoch=rows["cut"].append))
        if (tmp_path / "cut" / checkpoint.FILE).exists():
            trainer.resume()
        try:
            trainer.train(time_limit=0)
            ended = True
        except Interrupted:
            pass
    assert len(rows["cut"]) == 3
    for cut, whole in zip(rows["cut"], rows["whole"], strict=True):
        assert (cut.epoch, cut.loss, cut.accuracy, cut.lr) == (
            whole.epoch,
            whole.loss,
            whole.accuracy,
            whole.lr,
        )
        assert cut.samples_per_second == pytest.approx(18 / cut.seconds)  # three steps of six clips


def test_workers_threads_and_checkpoints_do_not_change_a_run(
    tiny_store: Store, tmp_path: Path, whole_run: Path
) -> None:
    config = make_config(workers=2, checkpoint_every=2)
    assert train_in_slices(tmp_path / "run", config, tiny_store, [4]) == [4]
    resumed = make_run(tmp_path / "run", make_config(), tiny_store)
    resumed.resume()
    assert_same_runs(tmp_path / "run", whole_run)


def test_a_finished_run_resumes_to_the_same_model(tiny_store: Store, whole_run: Path) -> None:
    before = (whole_run / "model.safetensors").read_bytes()
    trainer = make_run(whole_run, make_config(), tiny_store)
    trainer.resume()
    assert trainer.step == trainer.total_steps == 9
    trainer.train()
    assert (whole_run / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"lr": 0.02}, "optim.lr"),
        ({"widths": (16, 32)}, "model.widths"),
        ({"fold": 0}, "fold"),
        ({"augment": OFF}, "augment.mirror"),
    ],
)
def test_a_changed_configuration_is_refused_by_name(
    tiny_store: Store, whole_run: Path, changed: dict[str, Any], name: str
) -> None:
    trainer = make_run(whole_run, make_config(**changed), tiny_store)
    with pytest.raises(TrainingError, match=rf"was started with another .*{name}.*; give the same values"):
        trainer.resume()


def test_another_store_is_refused(
    tmp_path: Path, whole_run: Path, make_sample: Callable[..., Sample], write_clips: Callable[..., Store]
) -> None:
    smaller = write_clips(tmp_path, [make_sample(n) for n in range(27)])
    with pytest.raises(TrainingError, match="was started with another training clips"):
        make_run(whole_run, make_config(), smaller).resume()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_after_its_step(
    tiny_store: Store, tmp_path: Path, number: signal.Signals
) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    hooks = Hooks(on_step=lambda step, total: os.kill(os.getpid(), number) if step == 2 else None)
    trainer = make_run(tmp_path, make_config(), tiny_store, hooks)
    with pytest.raises(Interrupted, match="stopped after step 2 of 9"):
        trainer.train()
    assert checkpoint.read_progress(tmp_path).step == 2
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_does_not_wait(tiny_store: Store, tmp_path: Path) -> None:
    trainer = make_run(tmp_path, make_config(), tiny_store)
    trainer._ask_to_stop(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        trainer._ask_to_stop(signal.SIGINT, None)


@pytest.mark.parametrize("stops", [[3, 4]], ids=str)
def test_no_epoch_is_left_untold_by_a_run_in_slices(
    tiny_store: Store, tmp_path: Path, stops: list[int]
) -> None:
    logs: list[EpochLog] = []
    config = make_config(fold=0, batch_size=3)  # three steps an epoch here too
    assert train_in_slices(tmp_path / "run", config, tiny_store, stops, logs.append) == stops
    assert [log.epoch for log in logs] == [1, 2, 3]
    assert all(log.val_top1 is not None for log in logs)
