"""The contrastive losses, against their definitions written out clip by clip."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn import functional

from hhmnet.losses import distillation, gathered, info_nce, part_contrast, positive_shares, stream_contrast


def one_hot(*labels: int, classes: int = 4) -> Tensor:
    return functional.one_hot(torch.tensor(labels), classes).float()


def embeddings(count: int, streams: int = 4, width: int = 6, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, width, generator=generator) for _ in range(streams)]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


def plain_direction(one: Tensor, other: Tensor, labels: list[int], temperature: float, by: str) -> float:
    """The mean over clips i of -1/|P(i)| · Σ over p in P(i) of log softmax_p(cos(one_i, other_·) / T)."""
    total = 0.0
    for i in range(len(labels)):
        exponentials = [math.exp(cosine(one[i], other[j]) / temperature) for j in range(len(labels))]
        same = [j for j in range(len(labels)) if j == i or (by == "class" and labels[j] == labels[i])]
        total -= sum(math.log(exponentials[p] / sum(exponentials)) for p in same) / len(same)
    return total / len(labels)


def plain_contrast(parts: list[Tensor], labels: list[int], temperature: float, by: str) -> float:
    losses = []
    for a in range(len(parts)):
        for b in range(a + 1, len(parts)):
            there = plain_direction(parts[a], parts[b], labels, temperature, by)
            back = plain_direction(parts[b], parts[a], labels, temperature, by)
            losses.append((there + back) / 2)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("by", ["class", "clip"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 1, 0, 3], [2, 2, 2, 2], [1], [0, 1, 2, 3]])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_the_contrast_is_that_of_the_definition(by: str, labels: list[int], temperature: float) -> None:
    parts = embeddings(len(labels))
    found = stream_contrast(parts, one_hot(*labels), temperature, by)
    assert float(found) == pytest.approx(plain_contrast(parts, labels, temperature, by), rel=1e-5, abs=1e-6)


def test_a_batch_of_one_clip_has_nothing_to_tell_apart() -> None:
    parts = [x.requires_grad_() for x in embeddings(1)]
    loss = stream_contrast(parts, one_hot(2), 0.07)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(torch.count_nonzero(x.grad) == 0 for x in parts if x.grad is not None)


@pytest.mark.parametrize("by", ["class", "clip"])
def test_equal_embeddings_are_as_hard_as_guessing(by: str) -> None:
    parts = [torch.ones(5, 3, requires_grad=True) for _ in range(4)]
    loss = stream_contrast(parts, one_hot(0, 0, 1, 2, 1), 0.07, by)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5), rel=1e-5)
    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in parts)


def test_zero_embeddings_have_finite_gradients() -> None:
    parts = [torch.zeros(3, 3, requires_grad=True) for _ in range(2)]
    stream_contrast(parts, one_hot(0, 1, 2), 0.07).backward()
    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in parts)


def test_agreeing_streams_cost_less_than_disagreeing_ones() -> None:
    one, other = embeddings(6, 2)
    classes = one_hot(0, 1, 2, 3, 0, 1)
    assert stream_contrast([one, one], classes, 0.5, "clip") < stream_contrast(
        [one, other], classes, 0.5, "clip"
    )


def test_it_is_symmetric_and_blind_to_length_and_order() -> None:
    one, other = embeddings(6, 2)
    classes = one_hot(0, 1, 2, 1, 0, 3)
    shares = positive_shares(classes)
    loss = info_nce(one, other, shares, 0.07)
    torch.testing.assert_close(info_nce(other, one, shares, 0.07), loss)
    torch.testing.assert_close(info_nce(3 * one, 0.1 * other, shares, 0.07), loss)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = info_nce(one[order], other[order], positive_shares(classes[order]), 0.07)
    torch.testing.assert_close(shuffled, loss)


def test_shares_of_mixed_clips_lie_between_those_of_whole_ones() -> None:
    classes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.75, 0.25]])
    shares = positive_shares(classes)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    torch.testing.assert_close(shares[0], torch.tensor([1.0, 0.0, 0.75]) / 1.75)
    torch.testing.assert_close(shares[2], torch.tensor([0.75, 0.25, 1.0]) / 2.0)


def test_without_a_word_all_clips_of_a_class_are_positives() -> None:
    classes = one_hot(0, 1, 0)
    torch.testing.assert_close(positive_shares(classes), positive_shares(classes, "class"))
    one, other = embeddings(3, 2)
    by_class, by_clip = (stream_contrast([one, other], classes, 0.5, by) for by in ("class", "clip"))
    assert stream_contrast([one, other], classes, 0.5) == by_class != by_clip
    with pytest.raises(ValueError, match="positives must be class or clip, got 'all'"):
        positive_shares(classes, "all")


@pytest.mark.parametrize("by", ["class", "clip"])
def test_shares_are_as_exact_as_the_classes(by: str) -> None:
    assert positive_shares(one_hot(0, 1, 0).double(), by).dtype == torch.float64


def test_half_precision_is_compared_in_single_precision() -> None:
    """As autocast hands it over: eight bits of a similarity over a temperature of 0.07 would tell nothing."""
    one, other = (x.bfloat16() for x in embeddings(6, 2))
    classes = one_hot(0, 1, 2, 1, 0, 3)
    students, teachers = (x.bfloat16() for x in parts(6))
    for loss, arguments, more in (
        (info_nce, (one, other), (positive_shares(classes), 0.07)),
        (part_contrast, (students, teachers), (None, 0.07, classes.double())),
        (distillation, (one, other), (None, 4.0)),
    ):
        exact = loss(*(x.float() for x in arguments), *more)
        assert exact.dtype == torch.float32
        for mixed in (arguments, (arguments[0].float(), arguments[1]), (arguments[0], arguments[1].float())):
            found = loss(*mixed, *more)
            assert found.dtype == torch.float32
            assert torch.equal(found, exact)


def test_gradients_are_right() -> None:
    one, other = (x.double().requires_grad_() for x in embeddings(4, 2, 3))
    classes = one_hot(0, 1, 0, 2).double()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        a, b = functional.normalize(a, dim=1), functional.normalize(b, dim=1)
        similarity = a @ b.T / 0.5
        shares = positive_shares(classes)
        forth = -(shares * similarity.log_softmax(1)).sum(1).mean()
        return (forth - (shares * similarity.T.log_softmax(1)).sum(1).mean()) / 2

    assert torch.autograd.gradcheck(loss, (one, other))
    loss(one, other).backward()
    singles = [x.detach().float().requires_grad_() for x in (one, other)]
    info_nce(*singles, positive_shares(classes.float()), 0.5).backward()
    for exact, found in zip((one, other), singles, strict=True):
        assert exact.grad is not None
        torch.testing.assert_close(found.grad, exact.grad.float(), rtol=1e-4, atol=1e-6)


def test_one_stream_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(ValueError, match="at least two streams, got 1"):
        stream_contrast(embeddings(3, 1), one_hot(0, 1, 2), 0.07)


# Part by part.


def parts(count: int, width: int = 6, seed: int = 0, parts: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, parts, width, generator=generator) for _ in range(2))  # type: ignore[return-value]


def plain_parts(
    students: Tensor, teachers: Tensor, mask: list[list[bool]], labels: list[int] | None, temperature: float
) -> float:
    """The mean over parts that two clips have of the mean over those clips of both directions."""
    losses = []
    for part in range(students.shape[1]):
        rows = [row for row in range(len(students)) if mask[row][part]]
        if len(rows) < 2:
            continue
        pair = [students[rows, part], teachers[rows, part]]
        chosen = list(range(len(rows))) if labels is None else [labels[row] for row in rows]
        losses.append(plain_contrast(pair, chosen, temperature, "clip" if labels is None else "class"))
    return sum(losses) / len(losses) if losses else 0.0


MASKS = [
    [[True] * 3] * 5,
    [
        [True, False, True],
        [True, True, False],
        [False, False, True],
        [True, False, True],
        [True, False, False],
    ],
    [[True, False, False]] * 2 + [[False, True, False]] * 2 + [[False, False, True]],
    [[True, False, False]] * 3 + [[False, True, False]] + [[False, False, True]],
    [[False] * 3] * 5,
]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("labels", [None, [0, 1, 0, 2, 1], [3, 3, 3, 3, 3]])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_the_contrast_of_parts_is_that_of_the_definition(
    mask: list[list[bool]], labels: list[int] | None, temperature: float
) -> None:
    students, teachers = parts(5)
    classes = None if labels is None else one_hot(*labels)
    found = part_contrast(students, teachers, torch.tensor(mask), temperature, classes)
    expected = plain_parts(students, teachers, mask, labels, temperature)
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    if mask is MASKS[0]:
        torch.testing.assert_close(part_contrast(students, teachers, None, temperature, classes), found)


def test_the_contrast_of_parts_is_info_nce_in_each() -> None:
    students, teachers = parts(6)
    classes = one_hot(0, 1, 2, 1, 0, 3)
    classes[4] = torch.tensor([0.6, 0.4, 0.0, 0.0])  # mixed, so that shares differ from their transpose
    shares = positive_shares(classes)
    losses = [info_nce(students[:, p], teachers[:, p], shares, 0.07) for p in range(3)]
    found = part_contrast(students, teachers, None, 0.07, classes)
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_missing_parts_dilute_nothing() -> None:
    students, teachers = parts(4)
    whole = part_contrast(students[:3, :2], teachers[:3, :2], None, 0.07)
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[3], mask[:, 2] = False, False
    for filler in (0.0, 7.0, 1e30):
        hidden = [torch.where(mask[..., None], x, torch.tensor(filler)) for x in (students, teachers)]
        torch.testing.assert_close(part_contrast(hidden[0], hidden[1], mask, 0.07), whole)


def test_the_teacher_is_left_alone() -> None:
    students, teachers = (x.requires_grad_() for x in parts(4))
    part_contrast(students, teachers, None, 0.07).backward()
    assert teachers.grad is None
    assert students.grad is not None
    assert students.grad.abs().sum(2).gt(0).all()


@pytest.mark.parametrize("mask", [[[True] * 3], [[False] * 3], None])
def test_a_batch_of_one_clip_has_no_contrast(mask: list[list[bool]] | None) -> None:
    students, teachers = (x.requires_grad_() for x in parts(1))
    loss = part_contrast(students, teachers, None if mask is None else torch.tensor(mask), 0.07)
    loss.backward()
    assert loss.item() == 0
    assert students.grad is not None
    assert not students.grad.any()


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("mask", MASKS)
def test_equal_parts_have_finite_gradients(value: float, mask: list[list[bool]]) -> None:
    students = torch.full((5, 3, 4), value, requires_grad=True)
    loss = part_contrast(students, torch.full((5, 3, 4), value), torch.tensor(mask), 0.07)
    loss.backward()
    assert students.grad is not None
    assert torch.isfinite(students.grad).all()
    if mask is MASKS[0]:
        assert loss.item() == pytest.approx(math.log(5), rel=1e-5)


def test_hidden_parts_have_no_gradient() -> None:
    students, teachers = parts(5)
    students.requires_grad_()
    mask = torch.tensor(MASKS[1])
    part_contrast(students, teachers, mask, 0.07).backward()
    assert students.grad is not None
    assert not students.grad[~mask].any()
    compared = mask & (mask.sum(0) > 1)
    assert students.grad[compared].abs().sum(1).gt(0).all()


# Distillation of answers.


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("mask", [None, [True, False, True, True], [False, True, False, False], [False] * 4])
def test_distillation_is_the_divergence_of_the_definition(
    temperature: float, mask: list[bool] | None
) -> None:
    students, teachers = embeddings(4, 2)
    expected, count = 0.0, 0
    for n in range(4):
        if mask is not None and not mask[n]:
            continue
        count += 1
        p, q = (
            [
                math.exp(v / temperature) / sum(math.exp(w / temperature) for w in row.tolist())
                for v in row.tolist()
            ]
            for row in (teachers[n], students[n])
        )
        expected += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = distillation(students, teachers, None if mask is None else torch.tensor(mask), temperature)
    assert float(found) == pytest.approx(expected / max(count, 1), rel=1e-5, abs=1e-7)


def test_distillation_pulls_the_student_alone_and_ends_at_the_teacher() -> None:
    students, teachers = (x.requires_grad_() for x in embeddings(4, 2))
    distillation(students, teachers, None, 2.0).backward()
    assert teachers.grad is None
    assert students.grad is not None
    assert students.grad.any()
    same = distillation(teachers.detach() + 3, teachers, None, 2.0)
    assert float(same) == pytest.approx(0, abs=1e-6)


# Several processes.


def test_a_process_alone_gathers_nothing(tmp_path: Path) -> None:
    if not distributed.is_gloo_available():
        pytest.skip("torch was built without gloo")
    x = torch.ones(2, 3)
    assert gathered(x) is x
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(f"{tmp_path}/store", 1), rank=0, world_size=1
    )
    try:
        assert gathered(x) is x
    finally:
        distributed.destroy_process_group()


LABELS = (0, 1, 2, 1, 0, 3, 3, 2)


def part_inputs(rows: slice) -> list[Tensor]:
    """Students, teachers, mask and classes of some of eight clips."""
    mask = torch.rand(8, 3, generator=torch.Generator().manual_seed(5)) < 0.7
    return [x[rows].clone() for x in (*parts(8), mask, one_hot(*LABELS))]


def transposed(x: Tensor) -> Tensor:
    """The same values, lying in memory column by column: what gloo would send in disorder."""
    return x.T.contiguous().T


def one_of_two(rank: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    rows = slice(4 * rank, 4 * rank + 4)
    parts = [transposed(x[rows]).requires_grad_() for x in embeddings(8)]
    loss = stream_contrast(parts, transposed(one_hot(*LABELS)[rows]), 0.07)
    loss.backward()
    made = part_inputs(rows)
    made[0].requires_grad_()
    by_part = part_contrast(*made[:3], 0.07, made[3])
    by_part.backward()
    torch.save(
        [loss.detach(), *(x.grad for x in parts), by_part.detach(), made[0].grad], f"{folder}/{rank}.pt"
    )
    distributed.destroy_process_group()


def test_two_processes_find_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    if not distributed.is_gloo_available():
        pytest.skip("torch was built without gloo")
    parts = [x.requires_grad_() for x in embeddings(8)]
    whole = stream_contrast(parts, one_hot(*LABELS), 0.07)
    whole.backward()
    multiprocessing.start_processes(one_of_two, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for half in halves:
        torch.testing.assert_close(half[0], whole.detach())
    for number, part in enumerate(parts, start=1):
        # DistributedDataParallel averages over processes; each process's rows have met both processes' losses.
        joined = torch.cat([half[number] for half in halves]) / 2
        torch.testing.assert_close(joined, part.grad)
    students, teachers, mask, classes = part_inputs(slice(None))
    whole = part_contrast(students.requires_grad_(), teachers, mask, 0.07, classes)
    whole.backward()
    for half in halves:
        torch.testing.assert_close(half[-2], whole.detach())
    joined = torch.cat([half[-1] for half in halves]) / 2
    torch.testing.assert_close(joined, students.grad)
