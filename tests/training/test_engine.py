from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from hhmnet.config import OptimConfig, RuntimeConfig, TrainConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.dataset import ClipDataset
from hhmnet.data.transform import DataConfig, prepare
from hhmnet.evaluation.metrics import evaluate
from hhmnet.evaluation.scores import score
from hhmnet.models.pretrained import from_pretrained
from hhmnet.models.stst import STSTConfig
from hhmnet.sample import Sample
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.checkpoint import CheckpointError
from hhmnet.training.engine import EpochLog, Hooks, Interrupted, Trainer, TrainingError

OFF = AugmentConfig(
    **{field.name: 0.0 for field in dataclasses.fields(AugmentConfig)} | {"crop": 1.0}  # type: ignore[arg-type]
)
EVERYTHING = AugmentConfig(mirror=0.5, limb=0.3, joint_drop=0.5, axis_drop=0.3)
CERTAIN = {
    "dropout": 0.0,
    "drop_path": 0.0,
    "attention_dropout": 0.0,
    "mixup": 0.0,
    "ema": 0.0,
    "augment": OFF,
}


def make_config(*, persons: int = 1, fold: int | None = None, **changed: Any) -> TrainConfig:
    """A short run with every source of randomness in use; three epochs of three steps on ``tiny_store``.

    ``changed`` holds fields of any part: ``lr=0.1`` or ``dropout=0.0``.
    """
    model: dict[str, Any] = {"widths": (16, 16), "strides": (1, 2), "head_width": 8}
    model |= {"dropout": 0.3, "drop_path": 0.2, "attention_dropout": 0.1}
    optim: dict[str, Any] = {"epochs": 3, "batch_size": 6, "lr": 0.01, "warmup_epochs": 1.0}
    optim |= {"mixup": 0.4, "ema": 0.9}
    run: dict[str, Any] = {"device": "cpu", "checkpoint_every": 1, "validate_every": 1}
    for fields, kind in ((model, STSTConfig), (optim, OptimConfig), (run, RuntimeConfig)):
        fields |= {f.name: changed.pop(f.name) for f in dataclasses.fields(kind) if f.name in changed}
    return TrainConfig(
        fold=fold,
        model=STSTConfig(**model),
        data=DataConfig(frames=8, persons=persons, views=2),
        augment=changed.pop("augment", EVERYTHING),
        optim=OptimConfig(**optim),
        run=RuntimeConfig(**run),
        **changed,
    )


def make_run(folder: Path, config: TrainConfig, store: Store, hooks: Hooks | None = None) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(config, store, folder, hooks)


def train_in_slices(
    folder: Path,
    config: TrainConfig,
    store: Store,
    stops: list[int],
    on_epoch: Callable[[EpochLog], None] = lambda log: None,
) -> list[int]:
    """Train, stop after each of these steps, resume in a new trainer; returns the steps it stopped at."""
    reached = []
    for number, stop in enumerate([*stops, -1]):
        # Whatever else drew random numbers meanwhile must not matter.
        torch.manual_seed(1000 + number)
        np.random.seed(number)  # noqa: NPY002
        trainer = make_run(folder, config, store)

        def ask(step: int, total: int, trainer: Trainer = trainer, stop: int = stop) -> None:
            if step == stop:
                trainer._ask_to_stop(signal.SIGTERM, None)

        trainer.hooks = Hooks(ask, on_epoch)
        if number:
            trainer.resume()
        try:
            trainer.train()
        except Interrupted:
            reached.append(trainer.step)
    return reached


def assert_same_runs(a: Path, b: Path) -> None:
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert (a / "config.json").read_bytes() == (b / "config.json").read_bytes()
    ours, theirs = load_file(a / checkpoint.FILE), load_file(b / checkpoint.FILE)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    assert checkpoint.read_progress(a).step == checkpoint.read_progress(b).step
    assert checkpoint.read_progress(a).config == checkpoint.read_progress(b).config


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps the first run's precision and device for the life of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


# Resuming.


@pytest.mark.parametrize("stops", [[1], [3], [4], [8], [1, 2, 3, 6, 7]], ids=str)
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
        {"norm": "layer", "mask": "threshold"},
        {"mask": "random", "max_pool": True},
        {"precision": "bfloat16"},
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


def test_a_time_limit_stops_and_resuming_goes_on(tiny_store: Store, tmp_path: Path, whole_run: Path) -> None:
    slices, seconds, messages = 0, 0.0, list[str]()
    while True:
        trainer = make_run(tmp_path / "run", make_config(), tiny_store)
        if slices:
            trainer.resume()
            assert trainer.step == slices
            assert trainer.seconds > seconds
            seconds = trainer.seconds
        try:
            trainer.train(time_limit=0)
            break
        except Interrupted as stop:
            slices += 1
            messages.append(str(stop))
            assert not (tmp_path / "run" / "model.safetensors").exists()
    assert messages == [f"stopped after step {step} of 9; --resume goes on" for step in range(1, 9)]
    assert_same_runs(tmp_path / "run", whole_run)


def test_workers_threads_and_checkpoints_do_not_change_a_run(
    tiny_store: Store, tmp_path: Path, whole_run: Path
) -> None:
    config = make_config(workers=2, checkpoint_every=2)
    assert train_in_slices(tmp_path / "run", config, tiny_store, [4]) == [4]
    resumed = make_run(tmp_path / "run", make_config(), tiny_store)
    resumed.resume()
    assert_same_runs(tmp_path / "run", whole_run)


def test_the_seed_changes_a_run(tiny_store: Store, tmp_path: Path, whole_run: Path) -> None:
    make_run(tmp_path / "other", make_config(seed=1), tiny_store).train()
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (
        whole_run / "model.safetensors"
    ).read_bytes()


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
        ({"seed": 5}, "run.seed"),
        ({"widths": (16, 32)}, "model.widths"),
        ({"ema": 0.0}, "optim.ema"),
        ({"fold": 0}, "fold"),
        ({"augment": OFF}, "augment.mirror"),
        ({"protocol": "nw_ucla_cross_view"}, "protocol"),
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
    with pytest.raises(TrainingError, match="was started with another clips"):
        make_run(whole_run, make_config(), smaller).resume()


def test_without_a_checkpoint_there_is_nothing_to_resume(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        make_run(tmp_path, make_config(), tiny_store).resume()


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


# What a step does.


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_steps_match_a_plain_training_loop(tiny_store: Store, tmp_path: Path, clip_norm: float) -> None:
    """Without chance, a run is order, cross-entropy and SGD with Nesterov momentum: written out here."""
    config = make_config(
        **CERTAIN,
        epochs=2,
        batch_size=7,
        warmup_epochs=0.0,
        optimizer="sgd",
        lr=0.05,
        min_lr=0.05,
        weight_decay=0.01,
        label_smoothing=0.2,
        clip_norm=clip_norm,
        seed=3,
    )
    trainer = make_run(tmp_path, config, tiny_store)
    network = copy.deepcopy(trainer.network).train()
    trained = trainer.train().network

    rows = np.flatnonzero(tiny_store.cameras != "3")
    momentum: dict[str, torch.Tensor] = {}
    for epoch in range(2):
        order = np.random.default_rng((3, epoch)).permutation(20)
        for start in (0, 7):  # the last six clips don't fill a batch
            chosen = rows[order[start : start + 7]]
            x, _ = prepare(
                ClipDataset(tiny_store, chosen, 1).__getitems__(list(range(7))).clips,
                tiny_store.layout,
                config.data,
            )
            logits = network(x).logits
            labels = torch.from_numpy(tiny_store.labels[chosen])
            loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
            named = dict(network.named_parameters())
            slopes = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
            length = torch.stack([slope.square().sum() for slope in slopes.values()]).sum().sqrt()
            shrink = min(1.0, clip_norm / float(length)) if clip_norm else 1.0
            with torch.no_grad():
                for module_name, module in network.named_modules():
                    for name, parameter in module.named_parameters(recurse=False):
                        full = f"{module_name}.{name}".lstrip(".")
                        slope = slopes[full] * shrink
                        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and name == "weight":
                            slope = slope + 0.01 * parameter
                        momentum[full] = 0.9 * momentum[full] + slope if full in momentum else slope
                        parameter -= 0.05 * (slope + 0.9 * momentum[full])
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], atol=1e-4, rtol=1e-3, msg=name)


def test_ten_clips_are_learnt_by_heart(
    tmp_path: Path, make_sample: Callable[..., Sample], write_clips: Callable[..., Store]
) -> None:
    store = write_clips(tmp_path / "store", [make_sample(n, camera="1", label=n % 3) for n in range(10)])
    logs: list[EpochLog] = []
    config = make_config(
        **CERTAIN, epochs=60, batch_size=10, label_smoothing=0.0, lr=0.01, checkpoint_every=100
    )
    config.data.views = 1  # the one that it learns
    model = make_run(tmp_path / "run", config, store, Hooks(on_epoch=logs.append)).train()
    assert logs[0].accuracy < 100
    assert logs[-1].accuracy == 100
    assert logs[-1].loss < 0.1 * logs[0].loss
    assert evaluate(score(model, store, np.arange(10)))["top1"] == 100
    assert evaluate(score(from_pretrained(tmp_path / "run"), store, np.arange(10)))["top1"] == 100


def test_the_result_is_the_moving_average(tiny_store: Store, tmp_path: Path) -> None:
    trainer = make_run(tmp_path, make_config(), tiny_store)
    model = trainer.train()
    assert not model.training
    saved, tensors = load_file(tmp_path / "model.safetensors"), load_file(tmp_path / checkpoint.FILE)
    for name, value in saved.items():
        assert torch.equal(value, tensors[f"ema.{name}"])
    assert any(not torch.equal(value, tensors[f"network.{name}"]) for name, value in saved.items())
    loaded = from_pretrained(tmp_path)
    np.testing.assert_array_equal(
        score(loaded, tiny_store, np.arange(6)).logits, score(model, tiny_store, np.arange(6)).logits
    )
    assert loaded.spec.protocol == "nw_ucla_cross_view"
    assert loaded.spec.fold is None


@pytest.mark.parametrize("step", [2, 4])
def test_a_loss_that_is_not_finite_names_its_clips(tiny_store: Store, tmp_path: Path, step: int) -> None:
    trainer = make_run(tmp_path, make_config(checkpoint_every=100), tiny_store)

    def spoil(done: int, total: int) -> None:
        if done == step - 1:
            with torch.no_grad():
                trainer.network.classifier.bias[0] = float("nan")

    trainer.hooks.on_step = spoil
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    epoch, batch = divmod(step - 1, 3)
    order = np.random.default_rng((0, epoch)).permutation(20)[6 * batch : 6 * batch + 6]
    names = tiny_store.sample_ids[np.flatnonzero(tiny_store.cameras != "3")[order]]
    assert str(caught.value) == f"the loss is nan at or before step {step}, with the clips {', '.join(names)}"
    assert not (tmp_path / checkpoint.FILE).exists()


# What a run looks at, and what it tells.


@pytest.mark.parametrize("fold", [None, 0, 1])
def test_test_clips_are_never_touched(
    tiny_store: Store, tmp_path: Path, fold: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = Store(tiny_store.path), set[str]()
    read = store.joints
    monkeypatch.setattr(store, "joints", lambda i: (seen.add(str(store.cameras[i])), read(i))[1])
    logs: list[EpochLog] = []
    trainer = make_run(tmp_path, make_config(fold=fold, batch_size=5), store, Hooks(on_epoch=logs.append))
    assert set(store.cameras[trainer.rows]) == {None: {"1", "2"}, 0: {"1"}, 1: {"2"}}[fold]
    trainer.train()
    assert seen == {"1", "2"}
    assert [log.val_top1 is None for log in logs] == [fold is None] * 3


def test_validation_is_the_accuracy_on_the_fold_that_was_held_out(tiny_store: Store, tmp_path: Path) -> None:
    logs: list[EpochLog] = []
    config = make_config(fold=0, validate_every=2)
    model = make_run(tmp_path, config, tiny_store, Hooks(on_epoch=logs.append)).train()
    rows = np.flatnonzero(tiny_store.cameras == "2")
    assert logs[0].val_top1 is None
    assert logs[1].val_top1 is not None
    assert logs[2].val_top1 == evaluate(score(model, tiny_store, rows))["top1"]


def test_validating_does_not_change_the_run(tiny_store: Store, tmp_path: Path) -> None:
    for name, every in (("often", 1), ("once", 100)):
        make_run(tmp_path / name, make_config(fold=1, validate_every=every), tiny_store).train()
    assert_same_runs(tmp_path / "often", tmp_path / "once")


@pytest.mark.parametrize("stops", [[3], [4], [3, 6]], ids=str)
def test_no_epoch_is_left_untold_by_a_run_in_slices(
    tiny_store: Store, tmp_path: Path, stops: list[int]
) -> None:
    logs: list[EpochLog] = []
    config = make_config(fold=0, batch_size=3)  # three steps an epoch here too
    assert train_in_slices(tmp_path / "run", config, tiny_store, stops, logs.append) == stops
    assert [log.epoch for log in logs] == [1, 2, 3]
    assert all(log.val_top1 is not None for log in logs)


def test_no_loader_process_outlives_the_training(tiny_store: Store, tmp_path: Path) -> None:
    trainer = make_run(tmp_path, make_config(workers=2), tiny_store)
    trainer.train()
    assert trainer.step == 9
    assert multiprocessing.active_children() == []


def test_epochs_and_steps_are_told_in_order(tiny_store: Store, tmp_path: Path) -> None:
    logs: list[EpochLog] = []
    steps: list[tuple[int, int]] = []
    hooks = Hooks(on_step=lambda step, total: steps.append((step, total)), on_epoch=logs.append)
    make_run(tmp_path, make_config(min_lr=0.001), tiny_store, hooks).train()
    assert steps == [(step, 9) for step in range(1, 10)]
    assert [log.epoch for log in logs] == [1, 2, 3]
    assert all(0 <= log.accuracy <= 100 and 0 < log.loss < 10 for log in logs)
    assert all(log.seconds > 0 and log.samples_per_second > 0 for log in logs)
    assert logs[0].lr == pytest.approx(0.01)  # the last step of the warm-up
    assert logs[0].lr > logs[1].lr > logs[2].lr > 0.001


def test_clips_without_a_label_are_left_out(
    tmp_path: Path, make_sample: Callable[..., Sample], write_clips: Callable[..., Store]
) -> None:
    samples = [make_sample(n, camera="1") for n in range(8)]
    samples[3] = dataclasses.replace(samples[3], label=-1)
    trainer = make_run(tmp_path / "run", make_config(batch_size=4), write_clips(tmp_path / "store", samples))
    assert trainer.rows.tolist() == [0, 1, 2, 4, 5, 6, 7]


def test_a_store_without_training_clips_is_refused(
    tmp_path: Path, make_sample: Callable[..., Sample], write_clips: Callable[..., Store]
) -> None:
    store = write_clips(tmp_path / "store", [make_sample(n, camera="3") for n in range(4)])
    with pytest.raises(TrainingError, match="nw_ucla_cross_view leaves no labelled clip to train on"):
        make_run(tmp_path / "run", make_config(), store)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"field 'run\.device' is cuda, but torch sees no GPU"):
        make_run(tmp_path, make_config(device="cuda"), tiny_store)
