"""Every recipe in ``configs/`` is one that ``hhmnet train`` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hhmnet.commands.configuration import read_config
from hhmnet.data.protocols import get_protocol
from hhmnet.models.pretrained import ModelSpec
from hhmnet.skeleton import KINECT20, NTU25

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"nw_ucla/skeleton.yaml", "nw_ucla/homogeneous.yaml"} <= {
        file.relative_to(CONFIGS).as_posix() for file in FILES
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONFIGS).as_posix())
def test_a_recipe_makes_a_network(file: Path) -> None:
    config = read_config(file)
    protocol = get_protocol(config.protocol)
    layout = NTU25 if protocol.name.startswith("ntu") else KINECT20
    spec = ModelSpec(config.model, config.data, layout, ("a", "b"), protocol.name, None, config.fusion)
    assert sum(parameter.numel() for parameter in spec.build().parameters()) > 100_000
