"""The losses, against their definitions written out clip by clip.

That two processes find the loss and gradients of one is tested where they train (training/test_two_processes.py).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hhmnet.losses import (
    distillation,
    info_nce,
    mutual_distillation,
    part_contrast,
    positive_shares,
    stream_contrast,
)

MASKS = [
    [[True] * 3] * 5,
    [
        [True, False, True],
        [True, True, False],
        [False, False, True],
        [True, False, True],
        [True, False, False],
    ],
    [[True, False, False]] * 3 + [[False, True, False]] + [[False, False, True]],
    [[False] * 3] * 5,
]


def one_hot(*labels: int) -> Tensor:
    return functional.one_hot(torch.tensor(labels), 5).float()


def embeddings(count: int, streams: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, 6, generator=generator) for _ in range(streams)]


def parts(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, 3, 6, generator=generator) for _ in range(2)]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


def plain_direction(one: Tensor, other: Tensor, labels: list[int], temperature: float) -> float:
    """The mean over clips i of -1/|P(i)| · Σ over p in P(i) of log softmax_p(cos(one_i, other_·) / T)."""
    total = 0.0
    for i in range(len(labels)):
        exponentials = [math.exp(cosine(one[i], other[j]) / temperature) for j in range(len(labels))]
        same = [j for j in range(len(labels)) if labels[j] == labels[i]]
        total -= sum(math.log(exponentials[p] / sum(exponentials)) for p in same) / len(same)
    return total / len(labels)


def plain_contrast(streams: list[Tensor], labels: list[int], temperature: float) -> float:
    pairs = [(one, other) for a, one in enumerate(streams) for other in streams[a + 1 :]]
    both = [
        plain_direction(*pair, labels, temperature)
        for one, other in pairs
        for pair in ((one, other), (other, one))
    ]
    return sum(both) / len(both)


@pytest.mark.parametrize("labels", [[0, 1, 2, 1, 0, 3], [2, 2, 2, 2], [1]])
def test_the_contrast_is_that_of_the_definition(labels):
    streams = embeddings(len(labels))
    found = stream_contrast(streams, one_hot(*labels), 0.07)
    assert float(found) == pytest.approx(plain_contrast(streams, labels, 0.07), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("mask", MASKS[::3])
def test_equal_embeddings_are_as_hard_as_guessing_and_have_finite_gradients(value, mask):
    streams = [torch.full((5, 4), value, requires_grad=True) for _ in range(3)]
    students = torch.full((5, 3, 4), value, requires_grad=True)
    classes = one_hot(0, 0, 1, 2, 1)
    loss = stream_contrast(streams, classes, 0.07)
    by_part = part_contrast(students, students.detach() + 0, torch.tensor(mask), 0.07)
    (loss + by_part).backward()
    assert loss.item() == pytest.approx(math.log(5), rel=1e-5)
    assert by_part.item() == 0
    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in (*streams, students))


def test_shares_of_mixed_clips_lie_between_those_of_whole_ones():
    classes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.75, 0.25]])
    shares = positive_shares(classes)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    torch.testing.assert_close(shares[0], torch.tensor([1.0, 0.0, 0.75]) / 1.75)
    torch.testing.assert_close(shares[2], torch.tensor([0.75, 0.25, 1.0]) / 2.0)


def test_half_precision_is_compared_in_single_precision():
    """As autocast hands it over: eight bits of a similarity over a temperature of 0.07 would tell nothing."""
    one, other = (x.bfloat16() for x in embeddings(6, 2))
    classes = one_hot(0, 1, 2, 1, 0, 3)
    students, teachers = (x.bfloat16() for x in parts(6))
    for loss, arguments, more in (
        (info_nce, (one, other), (positive_shares(classes), 0.07)),
        (part_contrast, (students, teachers), (None, 0.07)),
        (distillation, (one, other), (None, 4.0)),
    ):
        exact = loss(*(x.float() for x in arguments), *more)
        assert torch.equal(loss(*arguments, *more), exact)


@pytest.mark.parametrize("mask", MASKS)
def test_the_contrast_of_parts_is_the_divergence_of_who_is_like_whom(mask):
    students, teachers = parts(5)
    losses = []
    for part in range(3):
        rows = [row for row in range(5) if mask[row][part]]
        mean = sum(teachers[row, part] for row in rows) / max(len(rows), 1)
        for row in rows:
            others = [other for other in rows if other != row]
            own, goal = (
                torch.tensor([cosine(x[row], x[other]) / 0.1 for other in others]).softmax(0)
                for x in (students[:, part], teachers[:, part] - mean)
            )
            if others:
                losses.append(
                    sum(g * math.log(g / o) for g, o in zip(goal.tolist(), own.tolist(), strict=True))
                )
    found = part_contrast(students, teachers, torch.tensor(mask), 0.1)
    assert float(found) == pytest.approx(sum(losses) / max(len(losses), 1), rel=1e-4, abs=1e-6)
    if mask is MASKS[0]:
        torch.testing.assert_close(part_contrast(students, teachers, None, 0.1), found)


def test_who_agrees_with_the_teacher_loses_nothing():
    _, teachers = parts(5)
    shared = torch.full_like(teachers, 3.0)  # what all have in common tells nothing
    assert part_contrast(teachers - teachers.mean(0), teachers + shared, None, 0.1).item() == pytest.approx(
        0, abs=1e-5
    )


def test_missing_parts_and_teachers_have_no_gradient():
    students, teachers = parts(5)
    mask = torch.tensor(MASKS[1])
    students.requires_grad_()
    teachers.requires_grad_()
    part_contrast(students, teachers, mask, 0.07).backward()
    assert teachers.grad is None
    assert not students.grad[~mask].any()
    assert students.grad[mask & (mask.sum(0) > 2)].abs().sum(1).gt(0).all()  # of two, each has but the other


def plain_divergence(teacher: Tensor, student: Tensor, temperature: float) -> float:
    """T² · Σ p · log(p / q) of two rows of logits."""
    p, q = ([math.exp(v / temperature) for v in row.tolist()] for row in (teacher, student))
    p, q = ([v / sum(each) for v in each] for each in (p, q))
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("mask", [None, [True, False, True, True], [False] * 4])
def test_distillation_is_the_divergence_of_the_definition(mask):
    students, teachers = (x.requires_grad_() for x in embeddings(4, 2))
    rows = [n for n in range(4) if mask is None or mask[n]]
    expected = sum(plain_divergence(teachers[n], students[n], 4.0) / len(rows) for n in rows)
    found = distillation(students, teachers, None if mask is None else torch.tensor(mask), 4.0)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    found.backward()
    assert teachers.grad is None
    assert students.grad.any() == bool(rows)


@pytest.mark.parametrize("streams", [2, 3])
def test_each_stream_learns_the_others_answers_within_the_head_of_the_clip(streams):
    each = torch.stack(embeddings(4, streams)).requires_grad_()  # heads of 4 classes and of 2
    classes = torch.zeros(4, 6)
    classes[0, 1] = classes[1, 3] = classes[2, 5] = 1.0
    classes[3, 0], classes[3, 4] = 0.3, 0.7  # a clip mixed from two sets
    expected = 0.0
    for student in range(streams):
        for teacher in set(range(streams)) - {student}:
            for clip, (first, second) in enumerate([(1, 0), (1, 0), (0, 1), (0.3, 0.7)]):
                pair = each[teacher, clip].detach(), each[student, clip].detach()
                for share, part in ((first, slice(4)), (second, slice(4, 6))):
                    own = plain_divergence(pair[0][part], pair[1][part], 2.0)
                    expected += share * own / 4 / (streams - 1)
    found = mutual_distillation(each, classes, 2.0, [4, 2])
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    found.backward()
    # Clip 2 tells nothing of the first head.
    assert not each.grad[:, 2, :4].any()
    step = torch.autograd.grad(mutual_distillation(each, classes, 2.0, [4, 2]), each)[0]
    assert mutual_distillation(each - 0.05 * step, classes, 2.0, [4, 2]) < found


def test_streams_that_agree_lose_nothing():
    logits = embeddings(3, 1)[0]
    assert mutual_distillation(logits.expand(4, -1, -1), torch.eye(3, 6), 4.0, [6]) == 0
