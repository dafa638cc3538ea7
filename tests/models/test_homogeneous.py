"""The homogeneous network: streams side by side, taken apart and put together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hhmnet.data.transform import STREAMS, DataConfig, SkeletonBatch
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork, stream_parts
from hhmnet.models.pretrained import (
    ActionModel,
    ModelSpec,
)
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20

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


def test_bad_settings_are_named() -> None:
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
