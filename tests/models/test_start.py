"""Encoders that start from another model's."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from hhmnet.data.transform import DataConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec
from hhmnet.models.start import start_from
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import KINECT20, NTU25, SkeletonLayout

SMALL = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8, mask="threshold")


def made_model(stream: str = "joint", layout: SkeletonLayout = KINECT20, **changed: Any) -> ActionModel:
    fields = {"model": SMALL, "data": DataConfig(stream=stream, frames=8), "class_names": ("a", "b")}
    spec = ModelSpec(layout=layout, **fields | changed)
    model = ActionModel(spec.build(), spec)
    for value in model.network.state_dict().values():  # norms too are of no other model
        if value.is_floating_point():
            value.uniform_(0.1, 1.0)
    return model.eval()


def encoder(model: ActionModel, stream: str = "joint") -> STST:
    network = model.single(stream).network
    assert isinstance(network, STST)
    return network


def embeddings(model: ActionModel, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return encoder(model)(x).embedding


def test_an_encoder_goes_on_as_the_other_ended_with_a_new_head() -> None:
    source, model = made_model("joint+bone"), made_model("joint+bone_motion", class_names=("x", "y", "z"))
    anew = encoder(model, "bone_motion").embed.weight.clone()
    lines = start_from(model, source)
    x = torch.randn(2, 3, 8, 20, 1)
    assert torch.equal(embeddings(model, x), embeddings(source, x))
    assert not encoder(model).classifier.weight.any()
    assert torch.equal(encoder(model, "bone_motion").embed.weight, anew)
    assert lines[0].startswith("joint: ")
    assert lines[1] == "bone_motion: new; the model has joint, bone"


def test_joints_go_by_name() -> None:
    mutual = {"model": dataclasses.replace(SMALL, mutual=True)}
    source, model = made_model(layout=NTU25, **mutual), made_model(layout=KINECT20, **mutual)
    before = encoder(model).joint_embedding.clone()
    (line,) = start_from(model, source)
    ours, theirs = KINECT20.joints, NTU25.joints
    pairs = [(i, theirs.index(name)) for i, name in enumerate(ours) if name in theirs]
    assert 10 < len(pairs) <= 20
    new, old = encoder(model), encoder(source)
    graph, known = new.blocks[0].spatial.graph, old.blocks[0].spatial.graph
    scale, known_scale = (net.input_norm.norm.weight.view(3, -1) for net in (new, old))
    for i, place in pairs:
        assert torch.equal(new.joint_embedding[:, i], old.joint_embedding[:, place])
        assert torch.equal(scale[:, i], known_scale[:, place])
        for j, other in pairs:
            assert torch.equal(graph[:, i, j], known[:, place, other])
    for i in set(range(20)) - {place for place, _ in pairs}:
        assert torch.equal(new.joint_embedding[:, i], before[:, i])
        assert ours[i] in line


def test_a_part_that_the_model_was_built_without_is_new() -> None:
    source = made_model(model=dataclasses.replace(SMALL, mask="none"))
    (line,) = start_from(made_model(), source)
    assert "threshold" in line
