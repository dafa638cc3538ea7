from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hhmnet.config import OptimConfig
from hhmnet.training import checkpoint
from hhmnet.training.checkpoint import CheckpointError, Progress
from hhmnet.training.learner import make_optimizer


def write(folder: Path, width: int = 4) -> None:
    network = nn.Linear(3, width)
    progress = Progress(5, 12.5, json.dumps({"lr": 0.1}), [[0.5, 1.0]])
    checkpoint.save(folder, progress, {"network": network}, make_optimizer(network, OptimConfig()))


def load(folder: Path) -> Progress:
    network = nn.Linear(3, 4)
    return checkpoint.load(folder, {"network": network}, make_optimizer(network, OptimConfig()))


@pytest.mark.parametrize("read", [load, checkpoint.read_progress])
def test_a_missing_or_damaged_checkpoint_is_named(tmp_path, read):
    file = tmp_path / checkpoint.FILE
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: not found; there is nothing"):
        read(tmp_path)
    write(tmp_path)
    assert read(tmp_path).figures == [[0.5, 1.0]]
    foreign = [
        "{",
        '{"step": "x", "seconds": 1, "config": "{}"}',
        '{"step": 5, "seconds": 1, "figures": [1]}',
    ]
    for metadata in (None, {}, *({"progress": progress} for progress in foreign)):
        if metadata is None:
            file.write_bytes(file.read_bytes()[:200])
        else:
            save_file({"a": torch.zeros(2)}, file, metadata=metadata)
        message = r"checkpoint\.safetensors: can't be used \(.+\); remove it to start again"
        with pytest.raises(CheckpointError, match=message):
            read(tmp_path)
    if read is load:
        write(tmp_path, width=5)
        with pytest.raises(CheckpointError, match=r"safetensors: can't be used \(.*size mismatch"):
            read(tmp_path)
