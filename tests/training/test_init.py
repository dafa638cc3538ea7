"""Runs that start from another model."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from short_run import (
    SMALL_MODEL,
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
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import COCO17, KINECT20, NTU25
from hhmnet.store import Store
from hhmnet.training.engine import Trainer
from hhmnet.training.phases import PhaseError


@pytest.fixture
def init(tmp_path, tiny_store):
    return write_phase1(tmp_path / "init", tiny_store, class_names=("one", "other"))


def other_model(folder: Path, store: Store, **changed: Any) -> ActionModel:
    """A model in ``folder`` whose norms too are of no other model."""
    model = from_pretrained(write_phase1(folder, store, **{"class_names": ("one", "other")} | changed))
    for value in model.network.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1.0)
    model.save_pretrained(folder)
    return model


def test_an_encoder_goes_on_as_the_other_ended_with_a_new_head(tmp_path, tiny_store):
    source = other_model(tmp_path / "init", tiny_store)
    config = make_config(init=str(tmp_path / "init"), stream="joint+bone_motion")
    trainer = make_run(tmp_path / "run", config, tiny_store)
    new, old = trainer.network.eval().encoders["joint"], source.network.encoders["joint"]
    x = torch.randn(2, 3, 8, 20, 1)
    assert torch.equal(new(x).embeddings[0], old(x).embeddings[0])
    assert not new.classifier.weight.any()
    assert trainer.phase.started[0].startswith("joint: ")
    assert trainer.phase.started[1] == "bone_motion: new; the model has joint, bone"


@pytest.mark.parametrize("kept", [True, False])
def test_a_head_of_the_same_classes_comes_along(tmp_path, tiny_store, kept):
    """As of a model that `hhmnet enroll` fitted to the store's own clips."""
    names = tiny_store.class_names if kept else ("one", "other", "third")
    source = other_model(tmp_path / "init", tiny_store, class_names=names)
    config = make_config(init=str(tmp_path / "init"))
    trainer = make_run(tmp_path / "run", config, tiny_store)
    head = trainer.network.classifier
    assert bool(head.weight.any()) == kept
    assert ("classifier" in trainer.phase.started[0]) != kept
    if kept:
        assert torch.equal(head.weight, source.single("joint").network.classifier.weight)


def test_joints_go_by_name_and_what_the_model_was_built_without_is_new(tmp_path, tiny_store):
    shape = STSTConfig(**SMALL_MODEL, mutual=True, mask="none")
    source = other_model(tmp_path / "init", tiny_store, layout=NTU25, model=shape)
    config = make_config(init=str(tmp_path / "init"), mutual=True)
    trainer = make_run(tmp_path / "run", config, tiny_store)
    (line,) = trainer.phase.started
    ours, theirs = KINECT20.joints, NTU25.joints
    pairs = [(i, theirs.index(name)) for i, name in enumerate(ours) if name in theirs]
    assert 10 < len(pairs) < 20
    new, old = trainer.network, source.single("joint").network
    scale, known_scale = (net.input_norm.norm.weight.view(3, -1) for net in (new, old))
    for i, place in pairs:
        assert torch.equal(new.joint_embedding[:, i], old.joint_embedding[:, place])
        assert torch.equal(scale[:, i], known_scale[:, place])
        for (j, other), name in itertools.product(pairs, ("graph", "others_graph")):
            graph, known = (getattr(net.blocks[0].spatial, name) for net in (new, old))
            assert torch.equal(graph[:, i, j], known[:, place, other])
    for i in set(range(20)) - {place for place, _ in pairs}:
        assert ours[i] in line
        assert new.joint_embedding[:, i].abs().max() < 0.1  # as it was drawn
    assert "threshold" in line


def test_a_run_is_resumed_from_what_it_started_from(tmp_path, tiny_store, init):
    config = make_config(init=str(init), stream="joint+bone", encoder_lr=0.3)
    for folder, stops in ((tmp_path / "whole", []), (tmp_path / "cut", [2, 5])):
        train_in_slices(folder, config, tiny_store, stops)
    assert_same_runs(tmp_path / "whole", tmp_path / "cut")


def test_network_and_preprocessing_are_the_models_where_nobody_gives_others(tmp_path, tiny_store, init):
    config = TrainConfig(init=str(init), run=RuntimeConfig(device="cpu"))
    spec = make_run(tmp_path / "run", config, tiny_store).spec
    source = from_pretrained(init).spec
    assert (spec.model, spec.data) == (source.model, source.data)
    assert spec.class_names == tiny_store.class_names


def test_a_video_network_starts_from_another(tmp_path):
    store = write_video_store(tmp_path, made_samples())
    phase1 = write_phase1(tmp_path / "phase1", store)
    first = make_run(tmp_path / "first", make_video_config(phase1), store)
    first.train()
    second = Trainer(make_video_config(phase1, init=str(tmp_path / "first")), store, tmp_path / "second")
    source = from_pretrained(tmp_path / "first").network.state_dict()
    taken = [name for name, value in second.network.state_dict().items() if torch.equal(value, source[name])]
    assert {name.partition(".")[0] for name in taken} >= {"video", "skeleton"}
    assert not [name for name in taken if "head.weight" in name]
    with pytest.raises(PhaseError, match="model of skeletons alone"):
        Trainer(make_video_config(phase1, init=str(phase1)), store, tmp_path / "third")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"stream": "joint_motion"},
            "'init'.*has the streams joint, bone; field 'data.stream' is joint_motion",
        ),
        ({"widths": (16, 24)}, r"'init'.*its '.*' has the shape .*the section 'model'"),
    ],
)
def test_what_cannot_start_is_one_line(tmp_path, tiny_store, init, changed, message):
    with pytest.raises(PhaseError, match=message):
        make_run(tmp_path / "run", make_config(init=str(init), **changed), tiny_store)
    flat = write_phase1(tmp_path / "flat", tiny_store, layout=COCO17)
    with pytest.raises(PhaseError, match="its joints have 2 coordinates, the store's 3"):
        make_run(tmp_path / "run", make_config(init=str(flat)), tiny_store)
