"""Runs of phase 1: what a step does, stopping and going on, what is refused."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from short_run import CERTAIN, assert_same_runs, make_config, make_run, train_in_slices, write_phase1

from hhmnet.data.dataset import ClipDataset
from hhmnet.data.transform import prepare
from hhmnet.evaluation.scores import score
from hhmnet.losses import LossConfig
from hhmnet.models.pretrained import from_pretrained
from hhmnet.store import Store
from hhmnet.training import checkpoint
from hhmnet.training.engine import Hooks, TrainingError
from hhmnet.training.logs import EpochLog
from hhmnet.training.phases import PhaseError


def test_steps_match_a_plain_training_loop(tiny_store, tmp_path):
    """Without chance, a run is order, cross-entropy, clipped slopes and SGD with Nesterov momentum."""
    rates = {"optimizer": "sgd", "lr": 0.05, "min_lr": 0.05, "warmup_epochs": 0.0, "weight_decay": 0.01}
    config = make_config(
        **CERTAIN, **rates, epochs=2, batch_size=7, label_smoothing=0.2, clip_norm=0.5, seed=3
    )
    trainer = make_run(tmp_path, config, tiny_store)
    network = copy.deepcopy(trainer.network).train()
    trained = trainer.train().network

    rows = np.flatnonzero(tiny_store.cameras != "3")
    matrices = [m.weight for m in network.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    others = {*network.parameters()} - {*matrices}
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": list(others)}]
    optimizer = torch.optim.SGD(groups, 0.05, momentum=0.9, nesterov=True)
    for epoch in range(2):
        order = np.random.default_rng((3, epoch)).permutation(20)
        for start in (0, 7):  # the last six clips don't fill a batch
            chosen = rows[order[start : start + 7]]
            clips = ClipDataset(tiny_store, chosen, 1).__getitems__(list(range(7))).clips
            logits = network(prepare(clips, tiny_store.layout, config.data)[0]).logits
            labels = torch.from_numpy(tiny_store.labels[chosen])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            optimizer.step()
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], atol=1e-4, rtol=1e-3, msg=name)


def test_the_result_is_the_moving_average(tiny_store, tmp_path):
    trainer = make_run(tmp_path, make_config(ema=0.45), tiny_store)

    def copies() -> dict[str, torch.Tensor]:
        state = trainer.network.state_dict()
        return {name: value.clone() for name, value in state.items() if value.is_floating_point()}

    weights = [copies()]
    trainer.hooks.on_step = lambda step, total: weights.append(copies())
    model = trainer.train()
    assert not model.training
    expected = weights[0]
    for step, after in enumerate(weights[1:]):
        share = min(0.45, (1 + step) / (10 + step))
        expected = {name: share * expected[name] + (1 - share) * after[name] for name in expected}
    saved = load_file(tmp_path / "model.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(saved[name], value, atol=1e-5, rtol=1e-4, msg=name)
    loaded = from_pretrained(tmp_path)
    np.testing.assert_array_equal(
        score(loaded, tiny_store, np.arange(6)).logits, score(model, tiny_store, np.arange(6)).logits
    )
    assert (loaded.spec.protocol, loaded.spec.fold) == ("nw_ucla_cross_view", None)
    assert loaded.spec.clip_frames == round(float(np.median(tiny_store.lengths[trainer.rows])))
    spans = [np.ptp(tiny_store.joints(row)[0], axis=1).max(1) for row in trainer.rows]
    assert loaded.spec.body_size == pytest.approx(np.median([np.median(span) for span in spans]), rel=1e-3)


@pytest.mark.parametrize(
    ("stops", "changed", "free"),
    [
        ([1, 2, 3, 6, 7], {}, {}),
        ([4], {"fold": 0, "batch_size": 3}, {"workers": 2, "checkpoint_every": 2}),
        ([2, 5], {"persons": 2, "optimizer": "sgd", "ema": 0.0, "clip_norm": 0.0}, {}),
        ([3], {"persons": 2, "mutual": True, "precision": "bfloat16"}, {}),
    ],
    ids=str,
)
def test_an_interrupted_run_ends_bit_by_bit_like_a_whole_one(
    tiny_store, patchy_store, tmp_path, stops, changed, free
):
    """And so do its rows of the log, also of the epochs that were cut."""
    store = patchy_store if "persons" in changed else tiny_store
    changed = {"batch_size": 4} | changed if "persons" in changed else changed
    rows: dict[str, list[EpochLog]] = {"whole": [], "cut": []}
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    others = set(multiprocessing.active_children())
    make_run(tmp_path / "whole", make_config(**changed), store, Hooks(on_epoch=rows["whole"].append)).train()
    config = make_config(**changed, **free)
    assert train_in_slices(tmp_path / "cut", config, store, stops, rows["cut"].append) == stops
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")
    for row in (*rows["whole"], *rows["cut"]):
        clips = 3 * config.optim.batch_size
        assert row.samples_per_second == pytest.approx(clips / row.seconds)
        row.seconds = row.samples_per_second = 0.0
    assert rows["cut"] == rows["whole"]
    assert [row.epoch for row in rows["cut"]] == [1, 2, 3]
    assert all((row.val_top1 is not None) == ("fold" in changed) for row in rows["cut"])
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert set(multiprocessing.active_children()) <= others


@pytest.mark.parametrize("fold", [None, 0])
def test_test_clips_are_never_touched(tiny_store, tmp_path, fold, monkeypatch):
    store, seen = Store(tiny_store.path), set[str]()
    read = store.joints
    monkeypatch.setattr(store, "joints", lambda i: (seen.add(str(store.cameras[i])), read(i))[1])
    trainer = make_run(tmp_path, make_config(fold=fold, batch_size=5, epochs=1), store)
    assert set(store.cameras[trainer.rows]) == {None: {"1", "2"}, 0: {"1"}}[fold]
    trainer.train()
    assert seen == {"1", "2"}


def test_corrected_labels_hold_in_training_and_in_validation(tmp_path, make_sample, write_clips):
    samples = [make_sample(n) for n in range(30)]
    samples[6] = dataclasses.replace(samples[6], label=-1)
    store = write_clips(tmp_path / "store", samples)
    first, second, _ = np.flatnonzero(store.cameras == "1")[:3]
    held = np.flatnonzero(store.cameras == "2")
    config = make_config(fold=0, batch_size=5, epochs=1)
    config.relabel = {str(store.sample_ids[first]): "", str(store.sample_ids[second]): "nod"}
    config.relabel |= {str(name): "nod" for name in store.sample_ids[held]} | {"of another store": "nod"}
    logs: list[EpochLog] = []
    trainer = make_run(tmp_path / "run", config, store, Hooks(on_epoch=logs.append))
    assert not {first, 6} & set(trainer.rows)
    assert second in trainer.rows
    assert trainer.labels[second] == store.class_names.index("nod")
    answers = score(trainer.train(), store, held).logits.argmax(1)
    assert logs[-1].val_top1 == pytest.approx(100 * np.mean(answers == store.class_names.index("nod")))


def test_a_loss_that_is_not_finite_names_its_clips(tiny_store, tmp_path):
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


def test_what_is_refused(tiny_store, tmp_path, make_sample, write_clips):
    untrainable = write_clips(tmp_path / "test only", [make_sample(n, camera="3") for n in range(4)])
    with pytest.raises(TrainingError, match="nw_ucla_cross_view leaves no labelled clip to train on"):
        make_run(tmp_path / "run", make_config(), untrainable)
    one_view = write_clips(tmp_path / "one view", [make_sample(n, camera="1") for n in range(8)])
    with pytest.raises(TrainingError, match="fold 0 of protocol nw_ucla_cross_view holds out no labelled"):
        make_run(tmp_path / "run", make_config(fold=0), one_view)
    whole = str(write_phase1(tmp_path / "whole", tiny_store))
    with pytest.raises(TrainingError, match=f"field 'calibration', {whole}: no fold was held out there"):
        make_run(tmp_path / "run", make_config(calibration=whole), tiny_store)
    with pytest.raises(PhaseError, match=r"field 'loss\.distill' is of several streams; with one"):
        make_run(tmp_path / "run", make_config(stream="joint", loss=LossConfig(distill=1.0)), tiny_store)
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match=r"field 'run\.device' is cuda, but torch sees no GPU"):
            make_run(tmp_path / "run", make_config(device="cuda"), tiny_store)
    make_run(tmp_path / "run", make_config(), tiny_store)._checkpoint()
    smaller = write_clips(tmp_path / "smaller", [make_sample(n) for n in range(27)])
    for changed, store, name in (
        ({"lr": 0.02, "widths": (16, 32)}, tiny_store, "model.widths, optim.lr"),
        ({"fold": 0}, tiny_store, "fold"),
        ({}, smaller, "training clips"),
    ):
        with pytest.raises(TrainingError, match=rf"was started with another {name}.*; give the same values"):
            make_run(tmp_path / "run", make_config(**changed), store).resume()


def test_a_second_ctrl_c_does_not_wait(tiny_store, tmp_path):
    trainer = make_run(tmp_path, make_config(), tiny_store)
    trainer.hooks.on_step = lambda step, total: [signal.raise_signal(signal.SIGINT) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
