"""The homogeneous network: streams side by side, taken apart and put together."""

from __future__ import annotations

from typing import Any

import torch

from hhmnet.data.transform import STREAMS, DataConfig, SkeletonBatch
from hhmnet.models.homogeneous import FusionConfig, stream_parts
from hhmnet.models.pretrained import (
    ActionModel,
    ModelSpec,
)
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20

SMALL = STSTConfig(widths=(16, 32), strides=(1, 2), dropout=0.0, drop_path=0.0)
ALL = "+".join(STREAMS)


def model(stream: str = ALL, **fusion: Any) -> ActionModel:
    torch.manual_seed(0)
    data = DataConfig(stream=stream, frames=8)
    spec = ModelSpec(SMALL, data, KINECT20, ("sit", "stand", "walk"), fusion=FusionConfig(**fusion))
    return ActionModel(spec.build(), spec).eval()


def clips() -> SkeletonBatch:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([5, 9, 2])
    return SkeletonBatch(torch.randn(16, 1, 20, 3, generator=generator), None, lengths)


@torch.no_grad()
def test_every_stream_answers_as_alone_and_the_answer_is_their_weighted_sum() -> None:
    whole = model(weights=(0.6, 0.6, 0.4, 0.0))
    found = whole.streams(clips())
    assert found.shape == (5, 3, 3)
    for place, name in enumerate(STREAMS, start=1):
        torch.testing.assert_close(whole.single(name)(clips()), found[place])
    torch.testing.assert_close(found[0], (0.6 * found[1] + 0.6 * found[2] + 0.4 * found[3]) / 1.6)
    alike = model().streams(clips())
    torch.testing.assert_close(alike[0], alike[1:].mean(0))


def test_every_parameter_belongs_to_one_stream_and_learns_from_that_alone() -> None:
    network = model().network.train()
    parts = stream_parts(network)
    listed = [id(parameter) for part in parts for parameter in part]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())
    network(torch.randn(4, 12, 8, 20, 1)).each[1].sum().backward()
    moved = [any(p.grad is not None and p.grad.any() for p in part) for part in parts]
    assert moved == [False, True, False, False]
    single = model("bone").network
    assert [len(part) for part in stream_parts(single)] == [len(list(single.parameters()))]
