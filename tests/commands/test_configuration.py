"""From files and flags to a configuration: what wins, what is written, and what is said of mistakes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from hhmnet.benchmarks.measure import made_stores, make_trainer, shapes_of
from hhmnet.commands.bench import of_phase_1
from hhmnet.commands.configuration import ConfigError, format_help, read_config, recipe_folder, write_config
from hhmnet.commands.flags import Flags
from hhmnet.config import TrainConfig
from hhmnet.models.heterogeneous import HeterogeneousNetwork

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = [
    file.relative_to(CONFIGS).with_suffix("").as_posix()
    for file in sorted(CONFIGS.glob("*/*.yaml"))
    if file.stem != "relabel"
]


def read(folder: Path, text: str, flags: Sequence[str] = ()) -> TrainConfig:
    (folder / "my.yaml").write_text(text)
    return read_config(folder / "my.yaml", flags)


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    for empty in ("", "# nothing\n", "optim:\n", "optim: {}\n"):
        assert read(tmp_path, empty) == read_config(None) == TrainConfig()
    text = "optim: {lr: 1e-2, epochs: 7}\nmodel.widths: [16, 32]\nmodel:\n  strides: [1, 2]\nfold: 1\n"
    config = read(tmp_path, text, ["--optim.epochs", "9", "--fold=null", "--model.widths", "[8, 8]"])
    assert (config.optim.lr, config.optim.epochs, config.fold) == (0.01, 9, None)
    assert (config.model.widths, config.model.strides) == ((8, 8), (1, 2))
    assert config.optim.batch_size == TrainConfig().optim.batch_size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {leraning_rate: 1}", "unknown key 'optim.leraning_rate' in .*; did you mean 'optim.lr'"),
        ("xyzzy: 1", "unknown key 'xyzzy' in .*; see hhmnet train --help"),
        ("optim: {optimizer: lion}", r"section 'optim': field 'optimizer' must be .* \(in .*my.yaml\)"),
        ("optim: 3", "field 'optim' in .* is a section; give its fields, such as 'optim.epochs'"),
        ("just text", "must hold fields"),
        ("optim: {lr: [1\nfold: 1", "line 2: not valid YAML"),
        ("a: &a [1]\nb: *a", "line 2: not valid YAML .aliases"),
        ("a: \ud800", "not valid YAML .*utf-8"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, text, message):
    file = tmp_path / "my.yaml"
    file.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ConfigError, match=message):
        read_config(file)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optim.epoch=1"], "unknown flag '--optim.epoch'; did you mean '--optim.epochs'"),
        (["--" + "a-" * 200_000, "1"], "unknown flag '--a-a-"),
        (["--data.frame=8"], "unknown flag '--data.frame'; did you mean '--data.frames'"),
        (["--timelimit", "1"], "unknown flag '--timelimit'; did you mean '--time-limit'"),
        (["--optim.lr"], r"optim\.lr.*expected one argument"),
        (["stray"], "stray"),
    ],
)
def test_a_command_line_that_is_none(flags, message):
    with pytest.raises(ConfigError, match=message):
        read_config(None, flags, ["out", "time-limit"])


def test_a_wrong_type_names_field_and_expected_type(tmp_path):
    for key, value, expected in (
        ("optim.lr", "fast", "a number"),
        ("optim.epochs", "1.5", "a whole number"),
        ("model.widths", "wide", "tuple[int, ...]"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_config(None, [f"--{key}", value])
        assert str(caught.value) == f"field '{key}' must be {expected}; got '{value}'"
    with pytest.raises(ConfigError, match=r"field 'optim\.lr' in .*my\.yaml must be a number"):
        read(tmp_path, "optim.lr: fast\n")


def test_help_explains_every_field():
    text = format_help()
    for name in Flags("", TrainConfig).kinds:
        entry = re.search(rf"--{re.escape(name)} (.*?)\(type:", text, re.DOTALL)
        assert entry, f"{name} is not in the help"
        assert len(entry[1].split()) >= 3, f"{name} is not explained"
    assert "CONFIG\n" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_makes_the_network_that_its_command_would_train(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(Path(name))
    assert config == read_config(CONFIGS / f"{name}.yaml")
    second = name.endswith("/heterogeneous")
    if second:
        beside = str(Path(name).with_name("homogeneous"))
        assert (config.phase, config.phase1) == (2, "")
        config.phase1 = (
            beside if beside in NAMES else "nw_ucla/homogeneous"
        )  # skeletons come from hhmnet enroll
        first = read_config(Path(config.phase1))
        if beside in NAMES:
            assert (config.protocol, config.relabel) == (first.protocol, first.relabel)
            assert bool(config.augment.mirror) == bool(first.augment.mirror)
    config.optim = dataclasses.replace(config.optim, batch_size=2, epochs=1)
    config = of_phase_1(config)
    trainer = make_trainer(config, made_stores(config, tmp_path, batches=1), tmp_path)
    spec, shapes = trainer.spec, shapes_of(config).values()
    assert {spec.layout.name} == {shape.layout for shape in shapes}
    assert len(spec.class_names) == sum(shape.classes for shape in shapes)
    assert isinstance(trainer.network, HeterogeneousNetwork) == second
    assert sum(parameter.numel() for parameter in trainer.network.parameters()) > 100_000


def test_every_data_set_has_its_recipes_and_wrong_labels_stand_in_one_file(tmp_path: Path) -> None:
    assert recipe_folder() == CONFIGS
    assert {"nw_ucla/homogeneous", "tennis/heterogeneous", "ntu120/skeleton"} <= set(NAMES)
    with pytest.raises(ConfigError, match="nw_ucla/homogenous: neither a file nor a recipe; the recipes are"):
        read_config(Path("nw_ucla/homogenous"))
    config = read_config(Path("nw_ucla/skeleton"), ["--optim.lr", "1e-5", "--fold", "0"])
    assert config.relabel == yaml.safe_load((CONFIGS / "nw_ucla/relabel.yaml").read_text())
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()).keys() == dataclasses.asdict(config).keys()
