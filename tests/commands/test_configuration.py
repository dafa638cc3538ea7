"""From files and flags to a configuration: what wins, what is written, and what is said of mistakes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hhmnet.commands.configuration import ConfigError, format_help, read_config, write_config
from hhmnet.config import TrainConfig


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "my.yaml").write_text(text)
        return tmp_path / "my.yaml"

    return write


@pytest.mark.parametrize("text", ["", "# nothing\n", "optim:\n", "optim: {}\n"])
def test_an_empty_file_is_the_default(yaml_file, text):
    assert read_config(yaml_file(text)) == read_config(None) == TrainConfig()


def test_flags_win_over_the_file_and_the_file_over_defaults(yaml_file):
    file = yaml_file(
        "optim: {lr: 1e-2, epochs: 7}\nmodel.widths: [16, 32]\nmodel:\n  strides: [1, 2]\nfold: 1\n"
    )
    config = read_config(file, ["--optim.epochs", "9", "--fold=null", "--model.widths", "[8, 8]"])
    assert (config.optim.lr, config.optim.epochs, config.fold) == (0.01, 9, None)
    assert (config.model.widths, config.model.strides) == ((8, 8), (1, 2))
    assert config.optim.batch_size == TrainConfig().optim.batch_size


def test_what_is_written_is_read_again(tmp_path):
    config = read_config(None, ["--optim.lr", "1e-5", "--fold", "0", "--relabel", '{"a: b": "wave"}'])
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
    assert config.relabel == {"a: b": "wave"}
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()).keys() == dataclasses.asdict(config).keys()


@pytest.mark.parametrize(
    ("text", "unknown", "meant"),
    [
        ("optim: {leraning_rate: 1}", "optim.leraning_rate", "optim.lr"),
        ("epochs: 1", "epochs", "optim.epochs"),
        ("model: {width: [1]}", "model.width", "model.widths"),
        ("data.frame: 3", "data.frame", "data.frames"),
    ],
)
def test_unknown_key_names_file_and_nearest_key(yaml_file, text, unknown, meant):
    file = yaml_file(text)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert str(caught.value) == f"unknown key '{unknown}' in {file}; did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("flag", "meant"),
    [("--lr", "--optim.lr"), ("--optim.epoch", "--optim.epochs"), ("--timelimit", "--time-limit")],
)
def test_unknown_flag_names_the_nearest(flag, meant):
    with pytest.raises(ConfigError, match=f"unknown flag '{flag}'; did you mean '{meant}'"):
        read_config(None, [flag, "1"], ["out", "time-limit"])


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("optim.lr", "fast", "a number"),
        ("optim.epochs", "1.5", "a whole number"),
        ("run.compile", "maybe", "true or false"),
        ("fold", "first", "int | None"),
        ("model.density", "[1, 2, 3]", "tuple[float, float]"),
    ],
)
def test_wrong_type_names_field_and_expected_type(yaml_file, key, value, expected):
    with pytest.raises(ConfigError) as caught:
        read_config(None, [f"--{key}", value])
    assert str(caught.value) == f"field '{key}' must be {expected}; got '{value}'"
    file = yaml_file(f"{key}: {value}\n")
    with pytest.raises(ConfigError, match=re.escape(f"field '{key}' in {file} must be {expected}")):
        read_config(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {optimizer: lion}", r"section 'optim': field 'optimizer' must be .* \(in .*my.yaml\)"),
        ("optim: 3", "field 'optim' in .* is a section; give its fields, such as 'optim.epochs'"),
        ("optim: [1]", "field 'optim' in .* is a section"),
        ("xyzzy: 1", "unknown key 'xyzzy' in .*; see hhmnet train --help"),
        ("- 1", "must hold fields"),
        ("just text", "must hold fields"),
        ("optim: {lr: [1\nfold: 1", "line 2: not valid YAML"),
        ("a: &a [1]\nb: *a", "line 2: not valid YAML .aliases"),
    ],
)
def test_a_file_that_is_no_configuration(yaml_file, text, message):
    with pytest.raises(ConfigError, match=message):
        read_config(yaml_file(text))


def test_files_that_can_not_be_read(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_config(tmp_path / "x.yaml")
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "none.yaml")


def test_a_stray_word_and_a_missing_value():
    with pytest.raises(ConfigError, match="stray"):
        read_config(None, ["stray"])
    with pytest.raises(ConfigError, match=r"optim\.lr.*expected one argument"):
        read_config(None, ["--optim.lr"])


def test_help_explains_every_field():
    text = format_help()

    def check(section: type, above: str) -> None:
        for field in dataclasses.fields(section):
            default = field.default_factory() if callable(field.default_factory) else field.default
            if dataclasses.is_dataclass(default):
                check(type(default), f"{field.name}.")
                continue
            entry = re.search(rf"--{re.escape(above + field.name)} (.*?)\(type:", text, re.DOTALL)
            assert entry, f"{above}{field.name} is not in the help"
            assert len(entry[1].split()) >= 3, f"{above}{field.name} is not explained"

    check(TrainConfig, "")
    assert "CONFIG\n" not in text


def test_a_field_that_was_renamed_is_read_and_its_flag_named(yaml_file):
    """What earlier runs wrote beside their weights is a recipe still."""
    old = yaml_file(
        "fusion: {contrast: 0.4, weights: [1, 2]}\nheterogeneous: {distill: 0.2, logit_distill: 3}\n"
    )
    config = read_config(old)
    assert (config.loss.contrast, config.loss.part_contrast, config.loss.distill) == (0.4, 0.2, 3)
    with pytest.raises(ConfigError, match=r"the flag '--fusion.contrast' is called '--loss.contrast' now"):
        read_config(None, ["--fusion.contrast=0"])
