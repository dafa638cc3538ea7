"""ST&ST: what is missing has no influence, every way of computing gives one answer, every setting counts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hhmnet.losses import stream_contrast
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import KINECT20, NTU25, SkeletonLayout

VARIANTS: list[dict[str, object]] = [{}, {"mutual": True}, {"mask": "none", "select": False}]
EACH = pytest.mark.parametrize("variant", VARIANTS, ids=str)
TRAINING = pytest.mark.parametrize("training", [False, True])


def build(**changed: object) -> STST:
    """A small network in eval mode, without dropout, its running statistics drawn too."""
    fields: dict[str, object] = {"widths": (16, 16, 32), "strides": (1, 2, 2), "head_width": 8}
    fields |= {"drop_path": 0.0, "dropout": 0.0}
    torch.manual_seed(0)
    network = STST(STSTConfig(**(fields | changed)), KINECT20, 5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return network.eval()


def clips(count: int = 3, frames: int = 8, persons: int = 2, layout: SkeletonLayout = KINECT20) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, layout.dims, frames, layout.num_joints, persons, generator=generator)


def patchy(count: int = 3, frames: int = 8, persons: int = 2) -> Tensor:
    """A mask with gaps, in which every clip has somebody and the last clip's second person is never there."""
    mask = torch.rand(count, frames, persons, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[:, 2, 0] = True
    mask[-1, :, 1:] = False
    return mask


@EACH
def test_every_variant_learns_also_in_bfloat16(variant):
    network = build(**variant).train()
    out = network(clips(), patchy())
    assert out.logits.shape == (3, 5)
    assert out.features[0].shape == (3, 2, 2, 20, 32)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(clips(), patchy())
    assert half.embeddings[0].dtype == torch.float32
    for logits in (out.logits, half.logits.float()):
        network.zero_grad()
        logits.square().mean().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@EACH
@TRAINING
def test_leaving_absent_persons_out_and_computing_them_is_the_same(variant, training):
    """The way of a CUDA graph and of an exported file, beside the usual one."""
    plain, static = (build(**variant).train(training) for _ in range(2))
    static.static_shapes, mask = True, patchy()
    mask[1] = False  # nobody is there in the whole clip
    found, expected = static(clips(), mask), plain(clips(), mask)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert not found.features[0][1].any()
    torch.testing.assert_close(found.logits[1], static.classifier.bias)
    found.logits.square().mean().backward()
    expected.logits.square().mean().backward()
    for (name, a), b in zip(static.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4, msg=name)
        assert a.grad.isfinite().all(), name
    for (name, value), other in zip(static.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, atol=1e-5, rtol=1e-5, msg=name)
    nobody = plain(clips(), torch.zeros(3, 8, 2).bool())
    torch.testing.assert_close(nobody.logits, plain.classifier.bias.expand(3, 5))


class Loss(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = STSTConfig(widths=(16,), strides=(2,), head_width=8, mutual=True)
        self.network = HomogeneousNetwork(config, FusionConfig(8), KINECT20, 5, ("joint", "bone"))

    def forward(self, x: Tensor, mask: Tensor, classes: Tensor) -> Tensor:
        output = self.network(x, mask)
        loss = torch.stack([functional.cross_entropy(each, classes) for each in output.each]).sum()
        return loss + stream_contrast(output.projections, classes, 0.07)


def test_a_masked_training_step_has_no_operation_that_depends_on_data():
    """Else a CUDA graph couldn't record it. Export has symbols for data: a size that hangs on a value ends it."""
    x, classes = clips().repeat(1, 2, 1, 1, 1), torch.eye(5)[:3]
    program = torch.export.export(Loss().train(), (x, patchy(), classes), strict=False)
    for node in program.graph.nodes:
        assert torch.Tag.data_dependent_output not in getattr(node.target, "tags", ()), node
        assert not node.meta.get("unbacked_bindings"), node  # sizes that are known only when it runs


def test_compiles_in_one_piece_also_under_autocast():
    network = build(widths=(16,), strides=(2,))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(clips(), patchy()).logits, network(clips(), patchy()).logits)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(clips()).logits, network(clips()).logits)


def test_a_clip_has_no_neighbours():
    network = build()
    together, alone = network(clips(4), patchy(4)), network(clips(4)[1:2], patchy(4)[1:2])
    torch.testing.assert_close(together.logits[1:2], alone.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.features[0][1:2], alone.features[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("missing", ["other values", "no numbers", "a person more", "frames more"])
@pytest.mark.parametrize(
    ("variant", "static"), [({"mask": "none"}, False), ({"mutual": True}, True)], ids=str
)
@TRAINING
def test_what_is_missing_has_no_influence(variant, training, static, missing):
    x, mask = clips().double(), patchy()  # the order of a sum is other with more frames
    y, other_mask = clips().double(), mask
    if missing == "a person more":
        y = torch.cat([x, clips(persons=1).double()], -1)
        other_mask = torch.cat([mask, torch.zeros(3, 8, 1).bool()], 2)
    elif missing == "frames more":
        y = torch.cat([x, clips(frames=4).double()], 2)
        other_mask = torch.cat([mask, torch.zeros(3, 4, 2).bool()], 1)
    else:
        y.permute(0, 2, 4, 1, 3)[~mask] = 7.0 if missing == "other values" else float("nan")
    plain, other = (build(**variant).double().train(training) for _ in range(2))
    plain.static_shapes = other.static_shapes = static
    expected, found = plain(x, mask), other(y, other_mask)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.embeddings, expected.embeddings)
    (features,), (wanted,) = found.features, expected.features
    persons, frames = wanted.shape[1:3]
    torch.testing.assert_close(features[:, :persons, :frames], wanted)
    assert not features[:, persons:].any()
    assert not features[:, :, frames:].any()
    for (name, a), b in zip(plain.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("masked", [False, True])
def test_embedding_is_the_mean_over_what_is_there(masked):
    mask = patchy() if masked else torch.ones(3, 8, 2).bool()
    network = build()
    out = network(clips(), mask)
    if not masked:  # a whole mask is no mask
        for a, b in zip(network(clips()), out, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    for n in range(3):
        total, count = torch.zeros(20, 32), 0
        for m, t in itertools.product(range(2), range(2)):  # 8 frames and two strides of 2
            if mask[n, 4 * t : 4 * t + 4, m].any():
                total += out.features[0][n, m, t]
                count += 1
            else:
                assert not out.features[0][n, m, t].any()
        torch.testing.assert_close(out.embeddings[0][n], total.mean(0) / count, atol=1e-5, rtol=1e-4)
        seen = (total / count).T.flatten()
        torch.testing.assert_close(network.classifier(seen), out.logits[n], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", [{}, {"strides": (3, 1, 4)}, {"mutual": True}], ids=str)
def test_one_frame_is_enough_wherever_it_is(variant):
    network = build(**variant)
    for place in range(8):
        mask = torch.zeros(2, 8, 2).bool()
        mask[:, place, 0] = True
        logits = network(clips(2), mask).logits
        assert logits.abs().max() < 1e4
        assert (logits[0] - logits[1]).abs().max() > 1e-5  # the body was looked at


def test_a_shortcut_does_not_see_masked_frames():
    """A strided frame may stand at a masked one: there its shortcut has only a bias to add."""
    block = build().blocks[1]
    with torch.no_grad():
        block.temporal.expand.weight.zero_()
        block.temporal.expand.bias.zero_()
    mask = torch.tensor([[False, True, True, False], [True, True, False, True]])
    x = torch.randn(2, 16, 20, 4, generator=torch.Generator().manual_seed(5))
    found = block(x * mask[:, None, None], mask)
    for clip, frame in ((0, 0), (1, 1)):
        torch.testing.assert_close(found[clip, :, :, frame], block.shortcut.bias[:, None].expand(16, 20))
    assert found[0, :, :, 1].std(1).max() > 0.1


def two_persons(count: int, seed: int, layout: SkeletonLayout) -> tuple[Tensor, Tensor]:
    """Two persons who each raise a hand, early or late by chance; the class is whether they do so together."""
    generator = torch.Generator().manual_seed(seed)
    late = torch.randint(2, (count, 2), generator=generator)
    x = 0.1 * torch.randn(count, layout.dims, 4, layout.num_joints, 2, generator=generator)
    for clip, person in itertools.product(range(count), range(2)):
        start = 2 * int(late[clip, person])
        x[clip, 1, start : start + 2, -1, person] += 1
    return x, (late[:, 0] == late[:, 1]).long()


@pytest.mark.parametrize("mutual", [True, False])
def test_actions_that_no_single_person_tells_apart_take_persons_who_see_each_other(chain, mutual):
    torch.manual_seed(0)
    shape = {"widths": (16,), "strides": (1,), "head_width": 8, "mutual": mutual}
    network = STST(STSTConfig(drop_path=0.0, dropout=0.0, **shape), chain, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2)
    for step in range(100):
        x, classes = two_persons(32, step, chain)
        optimizer.zero_grad()
        functional.cross_entropy(network(x).logits, classes).backward()
        optimizer.step()
    x, classes = two_persons(200, 1000, chain)
    right = (network.eval()(x).logits.argmax(1) == classes).float().mean()
    assert (right > 0.95) if mutual else (right < 0.65)


def test_later_blocks_are_dropped_more_often():
    blocks = build(widths=(16,) * 4, strides=(1,) * 4, drop_path=0.3).blocks
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_joints_of_another_skeleton_are_refused():
    with pytest.raises(ValueError, match=r"takes 20 joints \(kinect20\), the clip has 25"):
        build()(clips(layout=NTU25))
