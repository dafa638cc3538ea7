from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hhmnet.config import OptimConfig
from hhmnet.training import checkpoint
from hhmnet.training.checkpoint import CheckpointError, Progress, differing_fields
from hhmnet.training.optim import make_optimizer

CONFIG = json.dumps({"optim": {"lr": 0.1}, "clips": 20})


class Run:
    """A network, its average and its optimiser, some steps into a training that depends on all three."""

    def __init__(self, seed: int = 0, kind: str = "adamw", width: int = 4) -> None:
        torch.manual_seed(seed)
        self.network = nn.Sequential(
            nn.Conv2d(3, width, (1, 3)), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(4 * width, 2)
        )
        # As the trainer does: a fused optimiser then depends on how its state lies in memory.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = nn.Linear(3, width)
        self.optimizer = make_optimizer(self.network, OptimConfig(optimizer=kind, lr=0.05))

    def train(self, start: int, stop: int) -> Run:
        for step in range(start, stop):
            x = torch.randn(8, 3, 1, 6, generator=torch.Generator().manual_seed(step))
            self.optimizer.zero_grad()
            self.network(x).square().mean().backward()
            self.optimizer.step()
        return self

    def save(self, folder: Path, step: int = 5) -> None:
        checkpoint.save(folder, Progress(step, 12.5, CONFIG), self.network, self.average, self.optimizer)

    def load(self, folder: Path) -> Progress:
        return checkpoint.load(folder, self.network, self.average, self.optimizer)


def assert_same(a: Run, b: Run) -> None:
    for ours, theirs in ((a.network, b.network), (a.average, b.average)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    ours_state, their_state = a.optimizer.state_dict()["state"], b.optimizer.state_dict()["state"]
    assert ours_state.keys() == their_state.keys()
    for i, entry in ours_state.items():
        assert entry.keys() == their_state[i].keys()
        for key, value in entry.items():
            assert torch.equal(value, their_state[i][key]), (i, key)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_restored_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, kind: str) -> None:
    Run(kind=kind).train(0, 5).save(tmp_path)
    restored = Run(seed=1, kind=kind)
    progress = restored.load(tmp_path)
    assert (progress.step, progress.seconds, progress.config) == (5, 12.5, CONFIG)
    assert_same(restored, Run(kind=kind).train(0, 5))
    assert_same(restored.train(5, 9), Run(kind=kind).train(0, 9))


def test_without_an_average_none_is_written(tmp_path: Path) -> None:
    run = Run().train(0, 2)
    checkpoint.save(tmp_path, Progress(2, 0.0, CONFIG), run.network, None, run.optimizer)
    assert not any(name.startswith("ema.") for name in load_file(tmp_path / checkpoint.FILE))
    checkpoint.load(tmp_path, Run(seed=1).network, None, run.optimizer)
    with pytest.raises(CheckpointError):
        Run(seed=1).load(tmp_path)


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run().train(0, 5).save(tmp_path)
    before = (tmp_path / checkpoint.FILE).read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("hhmnet.files.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        Run().train(0, 7).save(tmp_path, step=7)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.FILE]


READERS = pytest.mark.parametrize(
    "read", [lambda folder: Run().load(folder), checkpoint.read_progress], ids=["load", "read_progress"]
)


@READERS
def test_a_missing_checkpoint_is_named(tmp_path: Path, read: Callable[[Path], Progress]) -> None:
    with pytest.raises(
        CheckpointError, match=r"checkpoint\.safetensors: not found; there is nothing to resume"
    ):
        read(tmp_path)


@READERS
@pytest.mark.parametrize("keep", [0, 200])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, read: Callable[[Path], Progress], keep: int) -> None:
    Run().train(0, 5).save(tmp_path)
    file = tmp_path / checkpoint.FILE
    file.write_bytes(file.read_bytes()[:keep])
    message = r"checkpoint\.safetensors: can't be used \(.+\); remove it to start again"
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


@READERS
@pytest.mark.parametrize(
    "meta",
    [
        None,
        {"progress": "{"},
        {"progress": '{"step": 5, "seconds": 1}'},
        {"progress": '{"step": "x", "seconds": 1, "config": "{}"}'},
    ],
)
def test_a_foreign_file_is_named(
    tmp_path: Path, read: Callable[[Path], Progress], meta: dict[str, str] | None
) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / checkpoint.FILE, metadata=meta)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: can't be used"):
        read(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    Run(width=5).train(0, 2).save(tmp_path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: can't be used \(.*size mismatch"):
        Run().load(tmp_path)


def test_differing_fields_are_named_from_the_top() -> None:
    ours = {"optim": {"lr": 0.1, "epochs": 3}, "model": {"widths": [1, 2]}, "fold": None}
    assert differing_fields(json.dumps(ours), json.dumps(ours)) == []
    theirs = {"optim": {"lr": 0.2, "epochs": 3}, "model": {"widths": [1, 3]}, "fold": 0, "new": 1}
    assert differing_fields(json.dumps(ours), json.dumps(theirs)) == [
        "fold",
        "model.widths",
        "new",
        "optim.lr",
    ]
