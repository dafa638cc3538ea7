"""Runs that start from another model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from short_run import (
    assert_same_runs,
    made_samples,
    make_config,
    make_run,
    make_video_config,
    train_in_slices,
    write_phase1,
    write_video_store,
)

from hhmnet.config import RuntimeConfig, TrainConfig
from hhmnet.models.pretrained import ActionModel, from_pretrained
from hhmnet.skeleton import COCO17
from hhmnet.store import Store
from hhmnet.training.engine import Trainer
from hhmnet.training.phases import PhaseError


@pytest.fixture
def init(tmp_path: Path, tiny_store: Store) -> Path:
    return write_phase1(tmp_path / "init", tiny_store, class_names=("one", "other"))


def weights(model: ActionModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def test_a_run_is_resumed_from_what_it_started_from(tmp_path: Path, tiny_store: Store, init: Path) -> None:
    config = make_config(init=str(init), stream="joint+bone", encoder_lr=0.3)
    for folder, stops in ((tmp_path / "whole", []), (tmp_path / "cut", [2, 5])):
        train_in_slices(folder, config, tiny_store, stops)
    assert_same_runs(tmp_path / "whole", tmp_path / "cut")


def test_network_and_preprocessing_are_the_models_where_nobody_gives_others(
    tmp_path: Path, tiny_store: Store, init: Path
) -> None:
    config = TrainConfig(init=str(init), run=RuntimeConfig(device="cpu"))
    spec = make_run(tmp_path / "run", config, tiny_store).spec
    source = from_pretrained(init).spec
    assert (spec.model, spec.data) == (source.model, source.data)
    assert spec.class_names == tiny_store.class_names


def test_a_video_network_starts_from_another(tmp_path: Path) -> None:
    store = write_video_store(tmp_path, made_samples())
    phase1 = write_phase1(tmp_path / "phase1", store)
    first = make_run(tmp_path / "first", make_video_config(phase1), store)
    first.train()
    second = Trainer(make_video_config(phase1, init=str(tmp_path / "first")), store, tmp_path / "second")
    source = weights(from_pretrained(tmp_path / "first"))
    taken = [name for name, value in weights(second.result).items() if np.array_equal(value, source[name])]
    assert {name.partition(".")[0] for name in taken} >= {"video", "skeleton"}
    assert not [name for name in taken if "head.weight" in name]
    with pytest.raises(PhaseError, match="model of skeletons alone"):
        Trainer(make_video_config(phase1, init=str(phase1)), store, tmp_path / "third")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"stream": "joint_motion"},
            "'init'.*it has the streams joint, bone; field 'data.stream' is joint_motion",
        ),
        ({"widths": (16, 24)}, r"'init'.*its '.*' has the shape .*the section 'model'"),
    ],
)
def test_what_cannot_start_is_one_line(
    tmp_path: Path, tiny_store: Store, init: Path, changed: dict[str, object], message: str
) -> None:
    with pytest.raises(PhaseError, match=message):
        make_run(tmp_path / "run", make_config(init=str(init), **changed), tiny_store)
    flat = write_phase1(tmp_path / "flat", tiny_store, layout=COCO17)
    with pytest.raises(PhaseError, match="its joints have 2 coordinates, the store's 3"):
        make_run(tmp_path / "run", make_config(init=str(flat)), tiny_store)
