"""Every recipe in ``configs/`` is one that ``hhmnet train`` takes, by its file and by its name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from hhmnet.benchmarks.made_data import make_trainer, shape_of, write_made_store
from hhmnet.commands.bench import of_phase_1
from hhmnet.commands.configuration import ConfigError, read_config, recipe_folder, write_config
from hhmnet.models.heterogeneous import HeterogeneousNetwork

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = [
    file.relative_to(CONFIGS).with_suffix("").as_posix()
    for file in sorted(CONFIGS.glob("*/*.yaml"))
    if file.stem != "relabel"
]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_makes_the_network_that_its_command_would_train(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_config(Path(name))
    assert config == read_config(CONFIGS / f"{name}.yaml")
    second = name.endswith("/heterogeneous")
    if second:
        first = read_config(CONFIGS / f"{name.partition('/')[0]}/homogeneous.yaml")
        assert (config.phase, config.phase1) == (2, "")
        assert (config.protocol, config.relabel) == (first.protocol, first.relabel)
        assert bool(config.augment.mirror) == bool(first.augment.mirror)
        config.phase1 = f"{name.partition('/')[0]}/homogeneous"
    config = of_phase_1(
        dataclasses.replace(config, optim=dataclasses.replace(config.optim, batch_size=2, epochs=1))
    )
    protocols = config.protocol.split("+")
    stores = [
        write_made_store(tmp_path / protocol, dataclasses.replace(config, protocol=protocol), batches=1)
        for protocol in protocols
    ]
    trainer = make_trainer(config, stores, tmp_path)
    spec, shapes = trainer.spec, [shape_of(protocol) for protocol in protocols]
    assert {spec.layout.name} == {shape.layout for shape in shapes}
    assert len(spec.class_names) == sum(shape.classes for shape in shapes)
    assert isinstance(trainer.network, HeterogeneousNetwork) == second
    assert sum(parameter.numel() for parameter in trainer.network.parameters()) > 100_000


def test_every_data_set_has_its_recipes_and_wrong_labels_stand_in_one_file(tmp_path: Path) -> None:
    assert recipe_folder() == CONFIGS
    assert {"nw_ucla/webcam", "tennis/homogeneous", "ntu120/skeleton"} <= set(NAMES)
    with pytest.raises(ConfigError, match="nw_ucla/homogenous: neither a file nor a recipe; the recipes are"):
        read_config(Path("nw_ucla/homogenous"))
    config = read_config(Path("nw_ucla/skeleton"))
    assert config.relabel == yaml.safe_load((CONFIGS / "nw_ucla/relabel.yaml").read_text())
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
