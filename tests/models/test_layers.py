from __future__ import annotations

import pytest
import torch

from hhmnet.models.layers import DropPath, Norm, stride_mask


@pytest.mark.parametrize("frames", [5, 6, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_strided_frame_counts_if_any_frame_it_stands_for_does(frames: int, stride: int) -> None:
    mask = torch.rand(4, frames, generator=torch.Generator().manual_seed(2)) < 0.4
    found = stride_mask(mask, stride)
    assert found is not None
    for b in range(4):
        expected = [bool(mask[b, t : t + stride].any()) for t in range(0, frames, stride)]
        assert found[b].tolist() == expected
    assert stride_mask(None, stride) is None


def test_drop_path_drops_whole_samples_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    y = drop(torch.ones(4000, 2, 3, 4)).flatten(1)
    assert ((y == 0).all(1) | (y == 1 / 0.75).all(1)).all()
    assert y.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(5, 2, 3, 4)), torch.ones(5, 2, 3, 4))


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_norm_in_training_matches_its_definition(kind: str) -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 5, 4, 6, generator=generator) * 2 + 1
    mask = torch.rand(3, 6, generator=generator) < 0.6
    found = Norm(5, kind).train()(x, mask)
    real = x.permute(0, 3, 2, 1)[mask]
    if kind == "batch":
        centre, variance = real.mean((0, 1)), real.var((0, 1), correction=0)
    else:
        centre, variance = real.mean(-1, keepdim=True), real.var(-1, correction=0, keepdim=True)
    expected = (real - centre) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(found.permute(0, 3, 2, 1)[mask], expected, atol=1e-5, rtol=1e-4)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm must be 'batch' or 'layer', got 'group'"):
        Norm(4, "group")
