"""Runs of phase 2: what stays as it is, stopping and going on, what is refused."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from short_run import assert_same_runs, make_run, train_in_slices
from short_video_run import (
    make_video_config,
    state,
    video_phase,
    write_phase1,
)

from hhmnet.data.protocols import get_protocol
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import PretrainedError, from_pretrained
from hhmnet.store import Store
from hhmnet.training.engine import Hooks, TrainingError
from hhmnet.training.phases import PhaseError, SkeletonPhase, VideoPhase, make_phase

# The teacher stays as it is.


def test_the_skeleton_network_stays_bit_by_bit(store: Store, phase1: Path, tmp_path: Path) -> None:
    config = make_video_config(phase1, ema=0.9, lr=0.1, weight_decay=0.5)
    given = copy.deepcopy(config)
    fresh = make_run(tmp_path / "fresh", config, store).network.state_dict()
    assert train_in_slices(tmp_path / "run", config, store, [1, 3]) == [1, 3]
    assert config == given
    before, after = load_file(phase1 / "model.safetensors"), load_file(tmp_path / "run/model.safetensors")
    assert len(before) > 20
    for name, value in before.items():
        assert torch.equal(value, after[f"skeleton.{name}"]), name
    assert torch.equal(after["teacher_projection"], fresh["teacher_projection"])
    for name, parameter in HeterogeneousNetwork.named_parameters(from_pretrained(tmp_path / "run").network):
        changed = not torch.equal(fresh[name], parameter)
        assert changed != name.startswith("skeleton."), name


def test_a_frozen_backbone_stays_too(store: Store, phase1: Path, tmp_path: Path) -> None:
    config = make_video_config(phase1, frozen=1.0, weight_decay=0.5)
    config.heterogeneous.norm = "batch"
    trainer = make_run(tmp_path, config, store)
    assert isinstance(trainer.network, HeterogeneousNetwork)
    before = state(trainer.network.video.backbone)
    head = trainer.network.video.part_head.weight.clone()
    trainer.train()
    for name, value in state(trainer.network.video.backbone).items():
        assert np.array_equal(value, before[name]), name
    assert not torch.equal(trainer.network.video.part_head.weight, head)


# Stopping and going on.


def test_an_interrupted_run_ends_bit_by_bit_like_a_whole_one(
    store: Store, phase1: Path, tmp_path: Path, whole_run: Path
) -> None:
    assert train_in_slices(tmp_path / "run", make_video_config(phase1), store, [1, 2, 3]) == [1, 2, 3]
    assert_same_runs(tmp_path / "run", whole_run)


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": "sgd", "ema": 0.0, "guidance": "input", "scene": False, "precision": "bfloat16"},
        {"guidance": "none", "part_contrast": 0.0, "distill": 0.0, "workers": 1},
    ],
    ids=str,
)
def test_other_runs_resume_bit_by_bit_too(
    store: Store, phase1: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    make_run(tmp_path / "whole", make_video_config(phase1, **changed), store).train()
    assert train_in_slices(tmp_path / "cut", make_video_config(phase1, **changed), store, [1, 3]) == [1, 3]
    assert_same_runs(tmp_path / "cut", tmp_path / "whole")


def test_a_moved_phase_1_is_the_same_one_and_another_is_not(
    store: Store, phase1: Path, tmp_path: Path, whole_run: Path
) -> None:
    moved = shutil.copytree(phase1, tmp_path / "moved")
    trainer = make_run(whole_run, make_video_config(moved), store)
    trainer.resume()
    assert trainer.step == 4
    weights = load_file(moved / "model.safetensors")
    weights = {name: value + 1 if value.is_floating_point() else value for name, value in weights.items()}
    save_file(weights, moved / "model.safetensors")
    with pytest.raises(TrainingError, match="was started with another phase1"):
        make_run(whole_run, make_video_config(moved), store).resume()


def test_validation_measures_the_joint_answer_on_the_fold(store: Store, tmp_path: Path) -> None:
    first = write_phase1(tmp_path / "phase1", store, fold=0)
    logs = []
    config = make_video_config(first, fold=0, batch_size=2)
    trainer = make_run(tmp_path / "run", config, store, Hooks(on_epoch=logs.append))
    model = trainer.train()
    rows = trainer.protocol.indices(store, "val", 0)
    with torch.no_grad():
        batch = video_phase(trainer).dataset(rows).__getitems__(list(range(len(rows))))
        right = (model(batch.clips, batch.video).argmax(1) == batch.labels).float().mean()
    assert logs[-1].val_top1 == pytest.approx(100 * right.item())


# What is refused.


def test_a_phase_1_of_another_store_is_refused(store: Store, tmp_path: Path) -> None:
    for number, changed in enumerate(({"class_names": ("sit", "run")}, {"class_names": ("a", "b", "c")})):
        first = write_phase1(tmp_path / str(number), store, **changed)
        with pytest.raises(PhaseError, match=r"tells \d classes apart.*train phase 1 on this store"):
            make_run(tmp_path / "run", make_video_config(first), store)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"fold": 0}, {}),
        ({"fold": 1}, {"fold": 0}),
        ({"protocol": "utd_mhad"}, {}),
    ],
    ids=str,
)
def test_a_phase_1_that_has_seen_other_clips_is_refused(
    store: Store, tmp_path: Path, theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    first = write_phase1(tmp_path / "phase1", store, **theirs)
    with pytest.raises(PhaseError, match="measured on clips that phase 1 has seen"):
        make_run(tmp_path / "run", make_video_config(first, **ours), store)


@pytest.mark.parametrize("changed", [{"mixup": 0.2}, {"graph": True}], ids=str)
def test_settings_of_phase_1_are_refused(
    store: Store, phase1: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(PhaseError, match=rf"'\w+\.{next(iter(changed))}' is of phase 1"):
        make_run(tmp_path, make_video_config(phase1, **changed), store)


def test_a_model_with_a_video_side_is_no_phase_1(store: Store, whole_run: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match="has a video side already"):
        make_run(tmp_path, make_video_config(whole_run), store)


def test_phase_2_without_phase_1_is_refused_and_not_taken_for_phase_1(store: Store, phase1: Path) -> None:
    split = get_protocol(store.protocol)
    for phase, first, message in (
        (2, "", "field 'phase' is 2, but 'phase1' is empty: give --phase1 RUN"),
        (None, "", "field 'heterogeneous' is of phase 2, but 'phase1' is empty"),
        (1, phase1, "'phase' is 1, but 'phase1' is given"),
    ):
        with pytest.raises(PhaseError, match=message):
            make_phase(make_video_config(first, phase=phase), store, split)
    assert isinstance(make_phase(make_video_config("", phase=1), store, split), SkeletonPhase)
    assert isinstance(make_phase(make_video_config(phase1, phase=2), store, split), VideoPhase)
    with pytest.raises(ValueError, match="field 'phase' must be 1 or 2; got 3"):
        make_video_config("", phase=3)
