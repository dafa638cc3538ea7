from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import COCO17, KINECT20, NTU25, SkeletonLayout

LAYOUTS = pytest.mark.parametrize("layout", [KINECT20, NTU25, COCO17], ids=lambda layout: layout.name)
VARIANTS: list[dict[str, object]] = [
    {},
    {"mask": "none"},
    {"mask": "threshold"},
    {"mask": "random"},
    {"reranking": "none"},
    {"reranking": "reciprocal"},
    {"chunks": 2},
    {"max_pool": True},
    {"select": False},
    {"norm": "layer"},
    {"dilations": (1,)},
    {"kernel": 3},
    {"k2": 1},
    {"bottleneck": 1.0},
]


def build(layout: SkeletonLayout = KINECT20, *, seed: int = 0, **changed: object) -> STST:
    """A small network in eval mode, without dropout, its running statistics drawn too."""
    fields: dict[str, object] = {
        "widths": (16, 16, 32),
        "strides": (1, 2, 2),
        "head_width": 8,
        "drop_path": 0.0,
        "dropout": 0.0,
        "density": (1.0, 0.4),
    }
    torch.manual_seed(seed)
    network = STST(STSTConfig(**(fields | changed)), layout, 5)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return network.eval()


def clips(
    count: int = 3, frames: int = 8, persons: int = 2, layout: SkeletonLayout = KINECT20, seed: int = 0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, layout.dims, frames, layout.num_joints, persons, generator=generator)


def patchy(count: int = 3, frames: int = 8, persons: int = 2) -> Tensor:
    """A mask with gaps, in which every clip has somebody and the last clip's second person is never there."""
    mask = torch.rand(count, frames, persons, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[:, 2, 0] = True
    mask[-1, :, 1:] = False
    return mask


@LAYOUTS
@pytest.mark.parametrize("frames", [4, 7, 16])
def test_shapes(layout: SkeletonLayout, frames: int) -> None:
    x = clips(frames=frames, layout=layout)
    for mask in (None, patchy(frames=frames)):
        out = build(layout)(x, mask)
        late = -(-frames // 4)
        assert out.logits.shape == (3, 5)
        assert out.embedding.shape == (3, 32)
        assert out.features.shape == (3, 2, late, layout.num_joints, 32)


@LAYOUTS
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_learns(layout: SkeletonLayout, variant: dict[str, object]) -> None:
    """With its running statistics: batch statistics cancel some biases to nearly nothing."""
    network = build(layout, **variant)
    network(clips(layout=layout), patchy()).logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_every_variant_learns_in_training_mode(variant: dict[str, object], masked: bool) -> None:
    network = build(**variant, drop_path=0.1, dropout=0.3, attention_dropout=0.1).train()  # type: ignore[arg-type]
    network(clips(), patchy() if masked else None).logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_variants_differ() -> None:
    reference = build().state_dict()
    answers = []
    for variant in VARIANTS:
        network = build(**variant)
        own = network.state_dict()
        fitting = {k: v for k, v in reference.items() if k in own and own[k].shape == v.shape}
        network.load_state_dict(fitting, strict=False)
        answers.append(network(clips(), patchy()).logits)
    for a, b in itertools.combinations(answers, 2):
        assert (a - b).abs().max() > 1e-4


def test_every_setting_reaches_the_blocks() -> None:
    config = STSTConfig(
        widths=(16, 16),
        strides=(1, 1),
        head_width=8,
        mask="threshold",
        reranking="reciprocal",
        k1=7,
        k2=2,
        balance=0.3,
        chunks=3,
        attention_dropout=0.15,
        kernel=7,
        dilations=(1, 2, 4),
        max_pool=True,
        bottleneck=1.0,
        reduction=2,
        norm="layer",
    )
    for block in STST(config, KINECT20, 3).blocks:
        spatial, temporal = block.spatial, block.temporal
        assert (spatial.mask, spatial.reranking, spatial.k1, spatial.k2) == ("threshold", "reciprocal", 7, 2)
        assert (spatial.heads, spatial.chunks, spatial.dropout.p) == (2, 3, 0.15)
        assert [branch.kernel_size[1] for branch in temporal.branches] == [7] * 3
        assert [branch.dilation[1] for branch in temporal.branches] == [1, 2, 4]
        assert temporal.max_pool
        assert temporal.reduce.out_channels == 16
        assert isinstance(block.spatial_norm.norm, torch.nn.LayerNorm)
        assert isinstance(temporal.reduce_norm.norm, torch.nn.LayerNorm)
    plain = STST(STSTConfig(widths=(16, 16), strides=(1, 1), select=False), KINECT20, 3)
    assert all(block.temporal.squeeze is None for block in plain.blocks)


def test_by_default_time_is_halved_twice_and_distances_are_not_saved() -> None:
    network = STST(STSTConfig(), KINECT20, 3)
    assert [block.stride for block in network.blocks] == [1, 1, 1, 2, 1, 1, 2, 1]
    assert not [name for name in network.state_dict() if "hops" in name]


def test_widths_below_that_of_a_head_have_one() -> None:
    network = STST(STSTConfig(widths=(5, 5), strides=(1, 1), head_width=16), KINECT20, 3)
    assert [block.spatial.heads for block in network.blocks] == [1, 1]


def test_stochastic_depth_drops_branches_and_never_the_way_around_them() -> None:
    torch.manual_seed(0)
    config = STSTConfig(widths=(16, 16, 16), strides=(1, 2, 1))
    for block in STST(config, KINECT20, 3).train().blocks[1:]:
        block.drop_path.rate = 0.9
        x = torch.randn(40, 16, 20, 8)
        same = torch.isclose(block(x).flatten(1), block.shortcut(x).flatten(1), atol=1e-5).all(1)
        assert 20 < same.sum() < 40  # both branches are gone in 0.81 of 40


def test_density_falls_from_the_first_block_to_the_last() -> None:
    network = build(widths=(16,) * 4, strides=(1,) * 4, density=(1.0, 0.4))
    assert [block.spatial.kept for block in network.blocks] == [20, 16, 12, 8]


def test_drop_path_rises_from_the_first_block_to_the_last() -> None:
    network = build(widths=(16,) * 3, strides=(1,) * 3, drop_path=0.2)
    assert [block.drop_path.rate for block in network.blocks] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_permuted_batch_gives_the_permuted_answer(norm: str, training: bool, masked: bool) -> None:
    order = torch.tensor([2, 0, 3, 1])
    x, mask = clips(4), patchy(4) if masked else None
    plain, permuted = (build(norm=norm).train(training) for _ in range(2))
    expected = plain(x, mask)
    found = permuted(x[order], None if mask is None else mask[order])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b[order], atol=1e-5, rtol=1e-4)
    for (name, a), b in zip(permuted.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("masked", [False, True])
def test_an_answer_does_not_depend_on_the_other_clips(norm: str, masked: bool) -> None:
    x, mask = clips(4), patchy(4) if masked else None
    network = build(norm=norm)
    together = network(x, mask)
    for i in range(4):
        alone = network(x[i : i + 1], None if mask is None else mask[i : i + 1])
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", [{}, {"norm": "layer"}, {"max_pool": True}, {"chunks": 2}], ids=str)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("value", [7.0, float("nan")])
def test_what_stands_in_masked_places_does_not_matter(
    variant: dict[str, object], training: bool, value: float
) -> None:
    x, y, mask = clips(), clips(), patchy()
    y.permute(0, 2, 4, 1, 3)[~mask] = value
    plain, other = (build(**variant).train(training) for _ in range(2))
    for a, b in zip(other(y, mask), plain(x, mask), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    for (name, a), b in zip(other.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize(
    "variant", [{}, {"norm": "layer"}, {"max_pool": True}, {"mask": "threshold"}], ids=str
)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("added", ["person", "frames"])
def test_absent_persons_and_padded_frames_change_nothing(
    variant: dict[str, object], training: bool, added: str
) -> None:
    x, mask = clips().double(), patchy()  # the order of a sum is other with more frames
    if added == "person":
        wide, wide_mask = (
            torch.cat([x, clips(persons=1).double()], -1),
            torch.cat([mask, torch.zeros(3, 8, 1).bool()], 2),
        )
    else:
        wide, wide_mask = (
            torch.cat([x, clips(frames=4).double()], 2),
            torch.cat([mask, torch.zeros(3, 4, 2).bool()], 1),
        )
    plain, other = (build(**variant).double().train(training) for _ in range(2))
    expected, found = plain(x, mask), other(wide, wide_mask)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.embedding, expected.embedding)
    persons, frames = expected.features.shape[1:3]
    torch.testing.assert_close(found.features[:, :persons, :frames], expected.features)
    assert not found.features[:, persons:].any()
    assert not found.features[:, :, frames:].any()
    for (name, a), b in zip(other.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("training", [False, True])
def test_a_whole_mask_is_no_mask(training: bool) -> None:
    plain, other = (build().train(training) for _ in range(2))
    for a, b in zip(plain(clips()), other(clips(), torch.ones(3, 8, 2).bool()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_embedding_is_the_mean_over_what_is_there(masked: bool) -> None:
    x, mask = clips(), patchy() if masked else torch.ones(3, 8, 2).bool()
    out = build()(x, mask if masked else None)
    for n in range(3):
        total, count = torch.zeros(32), 0
        for m, t in itertools.product(range(2), range(2)):  # 8 frames and two strides of 2
            if mask[n, 4 * t : 4 * t + 4, m].any():
                total += out.features[n, m, t].sum(0)
                count += 20
            else:
                assert not out.features[n, m, t].any()
        torch.testing.assert_close(out.embedding[n], total / count, atol=1e-5, rtol=1e-4)
    network = build()
    torch.testing.assert_close(network.classifier(out.embedding), out.logits)


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("variant", [{}, {"max_pool": True}, {"chunks": 2}, {"strides": (3, 1, 4)}], ids=str)
def test_one_frame_is_enough_wherever_it_is(place: int, variant: dict[str, object]) -> None:
    mask = torch.zeros(2, 8, 2).bool()
    mask[:, place, 0] = True
    network = build(**variant)
    logits = network(clips(2), mask).logits
    assert logits.isfinite().all()
    assert logits.abs().max() < 1e4
    assert (logits[0] - logits[1]).abs().max() > 1e-5  # the body was looked at


@pytest.mark.parametrize("training", [False, True])
def test_a_shortcut_does_not_see_masked_frames(training: bool) -> None:
    """A strided frame may stand at a masked one: there its shortcut has only a bias to add."""
    block = build().blocks[1].train(training)
    with torch.no_grad():
        block.temporal.expand.weight.zero_()
        block.temporal.expand.bias.zero_()
    mask = torch.tensor([[False, True, True, False], [True, True, False, True]])
    x = torch.randn(2, 16, 20, 4, generator=torch.Generator().manual_seed(5))
    found = block(x * mask[:, None, None], mask)
    for clip, frame in ((0, 0), (1, 1)):
        torch.testing.assert_close(found[clip, :, :, frame], block.shortcut.bias[:, None].expand(16, 20))
    assert found[0, :, :, 1].std(1).max() > 0.1


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_clip_without_anybody_has_a_finite_answer(variant: dict[str, object], training: bool) -> None:
    network = build(**variant).train(training)
    mask = patchy()
    mask[1] = False
    out = network(clips(), mask)
    assert all(value.isfinite().all() for value in out)
    assert not out.features[1].any()
    torch.testing.assert_close(out.logits[1], network.classifier.bias)
    nobody = network(clips(), torch.zeros(3, 8, 2).bool())
    assert nobody.features.shape == out.features.shape
    torch.testing.assert_close(nobody.logits, network.classifier.bias.expand(3, 5))


def test_input_norm_has_a_scale_for_every_joint_and_coordinate() -> None:
    """Whatever unit each coordinate of each joint is in, training sees the same."""
    x = clips(6)
    scale = torch.rand(1, 3, 1, 20, 1, generator=torch.Generator().manual_seed(3)) * 5 + 0.5
    first, second = (build().train() for _ in range(2))
    torch.testing.assert_close(first(x).logits, second(x * scale + 3).logits, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_bfloat16_is_close(masked: bool, norm: str) -> None:
    # Without masks and reranking, whose choices may rightly flip with the rounding of their input.
    network = build(norm=norm, mask="none", reranking="none")
    mask = patchy() if masked else None
    expected = network(clips(), mask).logits
    with torch.autocast("cpu", torch.bfloat16):
        found = network(clips(), mask)
    assert found.embedding.dtype == torch.float32
    torch.testing.assert_close(found.logits.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_trains_in_bfloat16(variant: dict[str, object]) -> None:
    network = build(**variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(clips(), patchy()).logits
    logits.float().square().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_whole_clips_need_no_data_dependent_shapes() -> None:
    """Export traces with symbols for data: a size that hangs on a value would end it."""
    network = build()
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(network, (clips(),), strict=False, dynamic_shapes={"x": {0: batch}})
    for count in (3, 5):
        found = program.module()(clips(count))
        for a, b in zip(found, network(clips(count)), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_compiles_in_one_piece_also_under_autocast() -> None:
    network = build(widths=(16,), strides=(2,))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(clips()).logits, network(clips()).logits)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(clips()).logits, network(clips()).logits)


@pytest.mark.parametrize("variant", [{}, {"mask": "random", "norm": "layer"}, {"mask": "threshold"}], ids=str)
def test_weights_survive_a_file(variant: dict[str, object], tmp_path: Path) -> None:
    first, second = build(**variant, seed=0), build(**variant, seed=1)  # type: ignore[arg-type]
    assert (first(clips()).logits - second(clips()).logits).abs().max() > 1e-3
    save_file({name: value.contiguous() for name, value in first.state_dict().items()}, tmp_path / "weights")
    second.load_state_dict(load_file(tmp_path / "weights"))
    assert torch.equal(first(clips()).logits, second(clips()).logits)


def test_channels_last_gives_the_same_answer() -> None:
    network = build()
    expected = network(clips(), patchy()).logits
    found = network.to(memory_format=torch.channels_last)(clips(), patchy()).logits
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_with_respect_to_the_clip(chain: SkeletonLayout, masked: bool) -> None:
    network = build(
        chain, widths=(8, 8), strides=(1, 2), head_width=4, k1=3, k2=2, density=(1.0, 0.6)
    ).double()
    mask = torch.tensor([[[1], [1], [0], [1]]]).bool() if masked else None
    x = clips(1, 4, 1, chain).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network(x, mask).logits, x, eps=1e-6, atol=1e-6)


def test_another_skeleton_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes 20 joints \(kinect20\), the clip has 25"):
        build()(clips(layout=NTU25))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strides", (1, 2)),
        ("density", (0.0, 0.4)),
        ("density", (1.2, 0.4)),
        ("density", (0.4,)),
        ("k1", 0),
        ("k2", 0),
        ("chunks", 0),
        ("drop_path", 1.0),
        ("dropout", -0.1),
        ("attention_dropout", 1.0),
        ("balance", 1.5),
        ("kernel", 4),
        ("widths", ()),
        ("head_width", 20),
        ("mask", "soft"),
        ("reranking", "best"),
        ("norm", "group"),
    ],
)
def test_impossible_shapes_are_refused_by_name(field: str, value: object) -> None:
    fields = {field: value} | ({"strides": ()} if value == () else {})
    with pytest.raises(ValueError, match=f"field '{field}'"):
        STSTConfig(**fields)  # type: ignore[arg-type]


# Layers.
