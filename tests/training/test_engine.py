from __future__ import annotations

import copy
import dataclasses
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from short_run import CERTAIN, make_config, make_run

from hhmnet.data.dataset import ClipDataset
from hhmnet.data.transform import prepare
from hhmnet.evaluation.metrics import evaluate
from hhmnet.evaluation.scores import score
from hhmnet.models.pretrained import from_pretrained
from hhmnet.sample import Sample
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.engine import Hooks, TrainingError
from hhmnet.training.logs import EpochLog

# What a step does.


def test_steps_match_a_plain_training_loop(tiny_store: Store, tmp_path: Path) -> None:
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
        clip_norm=0.5,
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
            shrink = min(1.0, 0.5 / length.item())
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
    trainer = make_run(tmp_path, make_config(ema=0.45), tiny_store)
    weights: list[dict[str, torch.Tensor]] = []

    def copies() -> dict[str, torch.Tensor]:
        state = trainer.network.state_dict()
        return {name: value.clone() for name, value in state.items() if value.is_floating_point()}

    before = copies()
    trainer.hooks.on_step = lambda step, total: weights.append(copies())
    model = trainer.train()
    assert not model.training
    saved, tensors = load_file(tmp_path / "model.safetensors"), load_file(tmp_path / checkpoint.FILE)
    for name, value in saved.items():
        assert torch.equal(value, tensors[f"ema.{name}"])
    assert any(not torch.equal(value, tensors[f"network.{name}"]) for name, value in saved.items())
    expected = before
    for step, after in enumerate(weights):
        share = min(0.45, (1 + step) / (10 + step))
        expected = {name: share * expected[name] + (1 - share) * after[name] for name in expected}
    for name, value in expected.items():
        torch.testing.assert_close(saved[name], value, atol=1e-5, rtol=1e-4, msg=name)
    loaded = from_pretrained(tmp_path)
    np.testing.assert_array_equal(
        score(loaded, tiny_store, np.arange(6)).logits, score(model, tiny_store, np.arange(6)).logits
    )
    assert loaded.spec.protocol == "nw_ucla_cross_view"
    assert loaded.spec.fold is None


def test_a_loss_that_is_not_finite_names_its_clips(tiny_store: Store, tmp_path: Path) -> None:
    trainer = make_run(tmp_path, make_config(checkpoint_every=100), tiny_store)

    def spoil(done: int, total: int) -> None:
        if done == 3:
            with torch.no_grad():
                trainer.network.classifier.bias[0] = float("nan")

    trainer.hooks.on_step = spoil
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    order = np.random.default_rng((0, 1)).permutation(20)[:6]
    names = tiny_store.sample_ids[np.flatnonzero(tiny_store.cameras != "3")[order]]
    assert str(caught.value) == f"the loss is nan at or before step 4, with the clips {', '.join(names)}"
    assert not (tmp_path / checkpoint.FILE).exists()


# What a run looks at, and what it tells.


@pytest.mark.parametrize("fold", [None, 0])
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


def test_the_length_of_the_training_clips_is_noted(tiny_store: Store, tmp_path: Path) -> None:
    trainer = make_run(tmp_path, make_config(), tiny_store)
    assert trainer.spec.clip_frames == round(float(np.median(tiny_store.lengths[trainer.rows])))
    assert trainer.spec.clip_rate is None  # the store has no videos


def test_clips_without_a_label_are_left_out(
    tmp_path: Path, make_sample: Callable[..., Sample], write_clips: Callable[..., Store]
) -> None:
    samples = [make_sample(n, camera="1") for n in range(8)]
    samples[3] = dataclasses.replace(samples[3], label=-1)
    trainer = make_run(tmp_path / "run", make_config(batch_size=4), write_clips(tmp_path / "store", samples))
    assert trainer.rows.tolist() == [0, 1, 2, 4, 5, 6, 7]


def test_corrected_labels_hold_in_training_and_in_validation(tiny_store: Store, tmp_path: Path) -> None:
    first, second = np.flatnonzero(tiny_store.cameras == "1")[:2]
    held = np.flatnonzero(tiny_store.cameras == "2")
    wrong = {str(name): "nod" for name in tiny_store.sample_ids[held]}
    config = make_config(fold=0, validate_every=1, batch_size=5)
    config.relabel = {
        str(tiny_store.sample_ids[first]): "",
        str(tiny_store.sample_ids[second]): "nod",
    } | wrong
    logs: list[EpochLog] = []
    trainer = make_run(tmp_path, config, tiny_store, Hooks(on_epoch=logs.append))
    assert first not in trainer.rows
    assert second in trainer.rows
    assert trainer.labels[second] == tiny_store.class_names.index("nod")
    model = trainer.train()
    answers = score(model, tiny_store, held).logits.argmax(1)
    assert logs[-1].val_top1 == pytest.approx(100 * np.mean(answers == tiny_store.class_names.index("nod")))


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
