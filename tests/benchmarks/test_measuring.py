from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from hhmnet.benchmarks import measuring, steps
from hhmnet.benchmarks.made_data import make_trainer
from hhmnet.benchmarks.measuring import (
    Contender,
    matmul_turns,
    ratios,
    spread,
    take_turns,
    timed,
    turns_of,
)
from hhmnet.benchmarks.operators import KINDS, Recorder, is_operator, kind_of, shares
from hhmnet.benchmarks.report import limit
from hhmnet.benchmarks.steps import PARTS, Stepper, count_flops
from hhmnet.commands.configuration import read_config
from hhmnet.store import Store
from hhmnet.training.engine import Trainer

CPU = torch.device("cpu")


# The clock.


def test_contenders_take_turns_and_every_round_is_told() -> None:
    order: list[str] = []
    told: list[tuple[int, dict[str, float]]] = []

    def turn(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = take_turns(
        {name: lambda name=name: turn(name) for name in "ab"}, 3, lambda *words: told.append(words)
    )
    assert order == list("ababab")
    assert found == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert told == [(1, {"a": 1, "b": 2}), (2, {"a": 3, "b": 4}), (3, {"a": 5, "b": 6})]


def test_spread_and_ratios() -> None:
    assert spread([3, 1, 2]) == {"median": 2, "min": 1, "max": 3, "rounds": [3, 1, 2]}
    assert ratios([6, 9], [2, 9])["rounds"] == [3, 1]
    with pytest.raises(ValueError, match="zip"):
        ratios([1], [1, 2])


def test_a_turn_lasts_about_as_long_as_asked_for() -> None:
    assert timed(lambda: time.sleep(0.02), 2, CPU) >= 0.04
    made: list[int] = []

    def step() -> None:
        made.append(1)
        time.sleep(0.01)

    turn = turns_of(step, 0.1, CPU, size=8)
    before = len(made)
    assert before == measuring.WARM_UP_STEPS + 1
    speed = turn()
    assert 1 <= len(made) - before <= 10
    assert 0 < speed <= 800  # 8 things in 10 ms at best


def test_a_contender_learns_in_training_only() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    labels = torch.tensor([0, 2])
    contender = Contender(model, torch.optim.SGD(model.parameters(), lr=0.5), (torch.randn(2, 1, 6),), labels)
    assert (contender.parameters, contender.frames) == (21, 6)
    before = [weight.clone() for weight in model.parameters()]
    contender.infer()
    assert not model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    contender.train()
    assert model.training
    assert not torch.equal(before[1], model[1].weight)


def test_the_matrix_product_counts_two_operations_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "timed", lambda step, steps, device: steps * 0.5)
    assert matmul_turns(CPU, torch.float32, 2.0, side=10)() == 2 * 1000 / 0.5


# Kinds of operators.


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("mm addmm bmm baddbmm convolution_backward mkldnn_convolution _slow_conv2d_forward", "multiply"),
        ("linear mkldnn_linear_pointwise ampere_sgemm_128x64_nn cutlass_80_tensorop", "multiply"),
        ("native_batch_norm native_layer_norm_backward cudnn::bn_fw_tr_1C11_kernel", "normalise"),
        ("gelu gelu_backward relu_ _softmax native_dropout threshold_backward", "activate"),
        ("copy_ _to_copy cat stack index_put_ gather fill_ zero_ Memcpy_HtoD", "copy"),
        ("add_ mul sum mean div linalg_vector_norm upsample_bilinear2d_where", "arithmetic"),
        ("_fused_adamw_ _foreach_mul_ _fused_sgd_", "optimise"),
        ("triton_poi_fused_gelu_0 cpp_fused_add_1", "compiled"),
        ("view resize_ empty", "other"),
    ],
    ids=lambda value: value if " " not in value else "",
)
def test_kinds(names: str, kind: str) -> None:
    assert {name: kind_of(f"aten::{name}") for name in names.split()} == dict.fromkeys(names.split(), kind)


def test_shares() -> None:
    found = shares([("aten::mm", 2.0), ("aten::gelu", 1.0)], 4.0)
    assert found == dict.fromkeys(KINDS, 0.0) | {"multiply": 0.5, "activate": 0.25, "python": 0.25}
    # Clocks differ a little: operators never take more than all of the time.
    assert sum(shares([("aten::mm", 3.0)], 2.9).values()) == 1


def test_marks_of_python_and_autograd_are_no_operators() -> None:
    marks = ("Optimizer.step#AdamW.step", "autograd::engine::evaluate_function: MmBackward0", "MmBackward0")
    assert not any(map(is_operator, (*marks, "torch::autograd::AccumulateGrad", "enumerate(DataLoader)#a")))
    assert all(map(is_operator, ("aten::mm", "mkldnn::_linear_pointwise", "hhmnet::fused")))


@pytest.mark.parametrize("kind", ["multiply", "activate", "python"])
def test_recorded(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    a = torch.randn(1000, 1000)
    work = {
        "multiply": lambda: a @ a,
        "activate": lambda: nn.functional.gelu(a),
        "python": lambda: time.sleep(0.02),
    }
    recorder = Recorder(CPU)
    recorder.start()
    for _ in range(5):
        work[kind]()
    recorder.stop()
    found = recorder.shares()
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=lambda name: found[name]) == kind
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("kinds", "data", "wanted"),
    [
        ({"multiply": 0.6, "copy": 0.3}, 1.0, "multiply"),
        ({"multiply": 0.4, "copy": 0.3, "normalise": 0.2}, 1.0, "memory"),
        ({"multiply": 0.3, "python": 0.6}, 10.0, "python"),
        ({"multiply": 0.3, "python": 0.6}, 50.0, "data"),
    ],
)
def test_limit(kinds: dict[str, float], data: float, wanted: str) -> None:
    every = dict.fromkeys(KINDS, 0.0) | kinds
    assert limit(every, {"data": data, "forward": 100.0 - data}) == wanted


# A trainer's steps.


@pytest.fixture(scope="module")
def trainer(store_folder: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    flags = ["--optim.epochs=1000", "--run.checkpoint_every=1000", "--fold=null", "--run.device=cpu"]
    return make_trainer(read_config(recipe, flags), Store(store_folder), tmp_path_factory.mktemp("t"))


def test_steps_go_on_where_they_stopped(trainer: Trainer) -> None:
    stepper, before = Stepper(trainer), trainer.step
    taken = stepper.run(3, warm_up=2)
    assert (len(taken), trainer.step - before) == (3, 5)
    assert min(taken) > 0
    assert len(stepper.run(2, warm_up=0)) == 2
    assert trainer.step - before == 7
    assert sum(stepper.run(seconds=0.2)) >= 0.2
    assert stepper.clips_per_second(0.1) > 0


@pytest.mark.parametrize(
    ("owner", "method", "part"),
    [
        ("dataset", "__getitems__", "data"),
        ("phase", "inputs", "preparation"),
        ("phase", "loss", "forward"),
        ("accelerator", "backward", "backward"),
        ("optimizer", "step", "optimiser"),
    ],
)
def test_what_is_slow_shows_in_its_part(
    trainer: Trainer, owner: str, method: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, now = getattr(trainer, owner), 0.0
    call = getattr(slow, method)

    def slowly(*words: object, **more: object) -> object:
        nonlocal now
        now += 0.25
        return call(*words, **more)

    monkeypatch.setattr(slow, method, slowly)
    monkeypatch.setattr(steps, "perf_counter", lambda: now)  # a clock that nothing else moves
    assert Stepper(trainer).parts(steps=3) == dict.fromkeys(PARTS, 0.0) | {part: 250.0}


def test_marking_a_step_leaves_nothing_behind(trainer: Trainer) -> None:
    def attributes() -> dict[str, int]:
        passing = ("step", "seconds", "_window")  # of the training itself
        return {name: id(value) for name, value in vars(trainer).items() if name not in passing}

    before = attributes()
    stepper = Stepper(trainer)
    taken = sum(stepper.parts().values())
    stepper.flops()
    assert taken > 0
    assert attributes() == before
    assert "note" not in vars(trainer.phase)
    assert "backward" not in vars(trainer.accelerator)


def test_flops_are_those_of_forward_and_backward(trainer: Trainer) -> None:
    x = torch.randn(trainer.config.optim.batch_size, 3, 8, trainer.store.layout.num_joints, 1)

    def both() -> None:
        trainer.network.train()
        trainer.network(x).logits.sum().backward()

    # Augmentation turns bodies by small matrix products.
    assert 1e5 < count_flops(both) <= Stepper(trainer).flops() < 1.01 * count_flops(both)


def test_kinds_of_a_step(trainer: Trainer) -> None:
    found = Stepper(trainer).kinds(2)
    assert tuple(found) == KINDS
    assert sum(found.values()) == pytest.approx(1)
    assert found["multiply"] > 0
    assert found["optimise"] > 0
