from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest
import torch

from hhmnet.benchmarks import measure
from hhmnet.benchmarks.made_data import make_trainer
from hhmnet.benchmarks.measure import PARTS, Stepper, count_flops, ratios, spread, take_turns, turns_of
from hhmnet.commands.configuration import read_config
from hhmnet.store import Store
from hhmnet.training.engine import Trainer

CPU = torch.device("cpu")


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves a clock that nothing else moves."""
    now = 0.0

    def move(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(measure, "perf_counter", lambda: now)
    return move


def test_contenders_take_turns_and_every_round_is_reported() -> None:
    order: list[str] = []
    reported: list[tuple[int, dict[str, float]]] = []

    def turn(name: str) -> float:
        order.append(name)
        return float(len(order))

    turns = {name: lambda name=name: turn(name) for name in "ab"}
    found = take_turns(turns, 3, lambda *words: reported.append(words))
    assert order == list("ababab")
    assert found == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert reported == [(1, {"a": 1, "b": 2}), (2, {"a": 3, "b": 4}), (3, {"a": 5, "b": 6})]
    assert spread([3, 1, 2]) == {"median": 2, "min": 1, "max": 3, "rounds": [3, 1, 2]}
    assert ratios([6, 9], [2, 9])["rounds"] == [3, 1]


def test_a_turn_lasts_as_long_as_asked_for(advance: Callable[[float], None]) -> None:
    made: list[int] = []

    def step() -> None:
        made.append(1)
        advance(0.01)

    turn = turns_of(step, 0.1, CPU, size=8)
    made.clear()
    assert turn() == pytest.approx(800)  # 8 things in 10 ms
    assert len(made) == 10


def test_the_matrix_product_counts_two_operations_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "timed", lambda step, steps, device: steps * 0.5)
    monkeypatch.setitem(measure.MATMUL_SIDES, "cpu", 10)
    assert measure.matmul_turns(CPU, torch.float32, 2.0)() == 2 * 1000 / 0.5


@pytest.fixture(scope="module")
def trainer(store_folder: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    flags = [
        "--optim.epochs=1000",
        "--optim.ema=0.9",
        "--run.checkpoint_every=1000",
        "--fold=null",
        "--run.device=cpu",
    ]
    return make_trainer(read_config(recipe, flags), Store(store_folder), tmp_path_factory.mktemp("t"))


def test_steps_go_on_where_they_stopped(trainer: Trainer) -> None:
    stepper, before = Stepper(trainer), trainer.step
    assert stepper.run(3, warm_up=2) > 0
    assert trainer.step - before == 5
    assert stepper.run(2, warm_up=0) > 0
    assert trainer.step - before == 7


@pytest.mark.parametrize(
    ("owner", "method", "part"),
    [
        ("dataset", "__getitems__", "data"),
        ("phase", "inputs", "preparation"),
        ("phase", "loss", "forward"),
        ("loss", "backward", "backward"),
        ("learner.average", "update", "optimiser"),
    ],
)
def test_what_is_slow_shows_in_its_part(
    trainer: Trainer,
    owner: str,
    method: str,
    part: str,
    advance: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = torch.Tensor if owner == "loss" else attrgetter(owner)(trainer)
    call = getattr(slow, method)

    def slowly(*words: object, **more: object) -> object:
        advance(0.25)
        return call(*words, **more)

    monkeypatch.setattr(slow, method, slowly)
    assert Stepper(trainer).parts(steps=3) == dict.fromkeys(PARTS, 0.0) | {part: 250.0}


def test_flops_are_those_of_forward_and_backward(trainer: Trainer) -> None:
    x = torch.randn(trainer.config.optim.batch_size, 3, 8, trainer.store.layout.num_joints, 1)

    def both() -> None:
        trainer.network.train()
        trainer.network(x).logits.sum().backward()

    # Augmentation turns bodies by small matrix products.
    step = count_flops(lambda: Stepper(trainer).run(warm_up=0))
    assert 1e5 < count_flops(both) <= step < 1.01 * count_flops(both)
