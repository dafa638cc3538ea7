"""The homogeneous network: streams side by side, taken apart and put together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hhmnet.data.transform import STREAMS, DataConfig, SkeletonBatch
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork, stream_parts
from hhmnet.models.pretrained import (
    ActionModel,
    ModelSpec,
    PretrainedError,
    SpecError,
    assemble,
    from_pretrained,
)
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import BLAZEPOSE33, KINECT20

SMALL = STSTConfig(widths=(16, 32), strides=(1, 2), dropout=0.0, drop_path=0.0)
CLASSES = ("sit", "stand", "walk")
ALL = "+".join(STREAMS)


def spec(stream: str = ALL, **fusion: Any) -> ModelSpec:
    return ModelSpec(
        SMALL, DataConfig(stream=stream, frames=8), KINECT20, CLASSES, fusion=FusionConfig(**fusion)
    )


def model(stream: str = ALL, seed: int = 0, **fusion: Any) -> ActionModel:
    torch.manual_seed(seed)
    wanted = spec(stream, **fusion)
    return ActionModel(wanted.build(), wanted).eval()


def clips(seed: int = 3) -> SkeletonBatch:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([5, 9, 2])
    return SkeletonBatch(torch.randn(16, 1, 20, 3, generator=generator), None, lengths)


@torch.no_grad()
def test_every_stream_answers_as_it_does_alone() -> None:
    whole = model()
    found = whole.streams(clips())
    assert found.shape == (5, 3, 3)
    for place, name in enumerate(STREAMS, start=1):
        single = whole.single(name)
        assert single.spec.data.stream == name
        torch.testing.assert_close(single(clips()), found[place])
        assert single.streams(clips()).shape == (1, 3, 3)


@torch.no_grad()
def test_the_answer_is_the_weighted_sum_of_raw_logits() -> None:
    found = model(weights=(0.6, 0.6, 0.4, 0.0)).streams(clips())
    expected = (0.6 * found[1] + 0.6 * found[2] + 0.4 * found[3]) / 1.6
    torch.testing.assert_close(found[0], expected)
    alike = model().streams(clips())
    torch.testing.assert_close(alike[0], alike[1:].mean(0))


@torch.no_grad()
def test_singles_make_the_model_they_were_taken_from(tmp_path: Path) -> None:
    whole = model(weights=(0.6, 0.6, 0.4, 0.4))
    for name in STREAMS:
        whole.single(name).save_pretrained(tmp_path / name)
    again = assemble([from_pretrained(tmp_path / name) for name in STREAMS], (0.6, 0.6, 0.4, 0.4))
    assert again.spec == whole.spec
    torch.testing.assert_close(again(clips()), whole(clips()))


@torch.no_grad()
def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    whole = model(weights=(1.0, 2.0, 0.0, 0.5), projection=7)
    whole.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert isinstance(again.network, HomogeneousNetwork)
    assert again.spec == whole.spec
    torch.testing.assert_close(again.streams(clips()), whole.streams(clips()))


@torch.no_grad()
def test_what_it_returns_has_the_promised_shapes() -> None:
    network = model(projection=7).network.eval()
    x = torch.randn(2, 12, 8, 20, 2)
    mask = torch.rand(2, 8, 2) < 0.7
    mask[:, 0, 0] = True
    output = network(x, mask)
    assert output.logits.shape == (2, 3)
    assert output.each.shape == (4, 2, 3)
    assert [part.shape for part in output.embeddings] == [(2, 32)] * 4
    assert [part.shape for part in output.projections] == [(2, 7)] * 4
    assert [part.shape for part in output.features] == [(2, 2, 4, 20, 32)] * 4


def test_every_parameter_belongs_to_one_stream() -> None:
    network = model().network
    parts = stream_parts(network)
    assert len(parts) == 4
    listed = [id(parameter) for part in parts for parameter in part]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())
    single = model("bone").network
    assert [len(part) for part in stream_parts(single)] == [len(list(single.parameters()))]


def test_one_streams_loss_moves_that_stream_alone() -> None:
    network = model().network.train()
    x: Tensor = torch.randn(4, 12, 8, 20, 1)
    network(x).each[1].sum().backward()
    moved = [any(p.grad is not None and p.grad.any() for p in part) for part in stream_parts(network)]
    assert moved == [False, True, False, False]


BAD_SETS: list[tuple[list[ActionModel], tuple[float, ...], str]] = [
    ([model("joint"), model("joint")], (), "stands twice"),
    ([model("joint"), model("joint+bone")], (), "model 1 has several streams"),
    ([model("joint"), model("bone")], (1.0,), "1 numbers"),
]


@pytest.mark.parametrize(("models", "weights", "message"), BAD_SETS)
def test_what_does_not_go_together_is_refused(
    models: list[ActionModel], weights: tuple[float, ...], message: str
) -> None:
    with pytest.raises(PretrainedError, match=message):
        assemble(models, weights)


def test_singles_that_differ_are_refused_by_the_field() -> None:
    other = model("bone")
    other = ActionModel(other.network, replace(other.spec, class_names=("a", "b", "c")))
    with pytest.raises(PretrainedError, match="another class_names"):
        assemble([model("joint"), other])


def test_bad_settings_are_named() -> None:
    with pytest.raises(SpecError, match=r"'fusion.weights' has 2 numbers.*4 streams"):
        spec(weights=(1.0, 1.0))
    with pytest.raises(SpecError, match="must be stored: the trunk can be derived in kinect20 and ntu25"):
        replace(spec(), layout=BLAZEPOSE33, data=DataConfig(trunk="derived"))
    with pytest.raises(ValueError, match="not be all zero"):
        FusionConfig(weights=(0.0, 0.0))
    for field, value in (
        ("weights", (1.0, -1.0)),
        ("projection", 0),
    ):
        with pytest.raises(ValueError, match=f"field '{field}'"):
            FusionConfig(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'fusion.weights' has 1 numbers for 2 streams"):
        HomogeneousNetwork(SMALL, FusionConfig(weights=(1.0,)), KINECT20, 3, ("joint", "bone"))
    with pytest.raises(ValueError, match="field 'stream': unknown stream 'bones'"):
        DataConfig(stream="joint+bones")
    with pytest.raises(PretrainedError, match="no stream 'knee'; the model has joint, bone"):
        model("joint+bone").single("knee")
