"""From a YAML file and command-line flags to a :class:`~hhmnet.config.TrainConfig`, and back to YAML."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hhmnet.commands.flags import ConfigError, Flags
from hhmnet.config import RENAMED, RETIRED, TrainConfig
from hhmnet.fields import brief
from hhmnet.files import replacing

__all__ = [
    "CONFIG_FILE",
    "ConfigError",
    "format_help",
    "is_recipe",
    "read_config",
    "recipe_folder",
    "write_config",
]

CONFIG_FILE = "config.yaml"

_FLAGS = Flags(TrainConfig, "hhmnet train")


def recipe_folder() -> Path:
    """The recipes that come with the package: beside its modules, or in a checkout's ``configs``."""
    packaged = Path(str(resources.files("hhmnet"))) / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


def is_recipe(name: Path) -> bool:
    """Whether a packaged recipe has this name."""
    return (recipe_folder() / f"{name}.yaml").is_file()


def find_recipe(name: Path) -> Path:
    """The file that ``name`` is, or the packaged recipe of that name, such as ``nw_ucla/homogeneous``.

    Raises:
        ConfigError: neither; a name that ends in ``.yaml`` is that of a file, whether or not it exists.
    """
    if name.exists() or name.suffix in (".yaml", ".yml"):
        return name
    if not is_recipe(name):
        known = sorted(file.relative_to(recipe_folder()) for file in recipe_folder().glob("*/*.yaml"))
        names = ", ".join(file.with_suffix("").as_posix() for file in known if file.stem != "relabel")
        raise ConfigError(f"{name}: neither a file nor a recipe; the recipes are {names}")
    return recipe_folder() / f"{name}.yaml"


def read_config(file: Path | None, flags: Sequence[str] = (), others: Iterable[str] = ()) -> TrainConfig:
    """The configuration that a YAML file and flags describe.

    Args:
        file: YAML with the fields of :class:`TrainConfig`, nested or dotted (``optim.lr: 1e-3``), or the name of a
            packaged recipe; None for the defaults. ``relabel`` may name a file beside it.
        flags: command line such as ``["--optim.lr", "1e-3"]``; it wins over the file.
        others: flags of the command itself, which may be what an unknown one was meant to be.

    Raises:
        ConfigError: one line naming what is wrong and where.
        OSError: the file can't be read.
    """
    file = None if file is None else find_recipe(file)
    words = [] if file is None else [_flag(key, value) for key, value in _fields(file)]
    _FLAGS.parse(words, f" in {file}")
    for flag in flags:
        if (old := flag.removeprefix("--").partition("=")[0]) in RENAMED:
            raise ConfigError(f"the flag '--{old}' is called '--{RENAMED[old]}' now")
    _FLAGS.check_names(flags, others)
    values = _FLAGS.parse([*words, *flags])
    try:
        config: TrainConfig = _FLAGS.build(values)
    except ConfigError as error:
        raise ConfigError(f"{error} (in {file})" if file is not None and not flags else str(error)) from None
    return config


def write_config(config: TrainConfig, file: Path) -> None:
    """Write every field of ``config`` to a YAML file that :func:`read_config` reads."""
    fields = json.loads(json.dumps(dataclasses.asdict(config)))  # YAML has no tuples
    text = "# The whole configuration of this run; `hhmnet train --config` reads it again.\n"
    text += yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110)
    with replacing(file) as handle:
        handle.write(text.encode())


def format_help() -> str:
    """Every field of the configuration with its flag, meaning, type and default."""
    return _FLAGS.format_help()


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them stand for gigabytes, or for a list that holds itself."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; raises ComposerError for an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) aren't read; write it out", mark)
        return super().compose_node(parent, index)


def _read_yaml(file: Path) -> dict[Any, Any]:
    """What a file holds; raises ConfigError unless that is a mapping, or nothing."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not UTF-8 text") from None
    except RecursionError:
        raise ConfigError(f"{file}: not a configuration: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" line {mark.line + 1}:"
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{file}:{line} not valid YAML ({reason})") from None
    if not isinstance(content, dict | None):
        raise ConfigError(
            f"{file}: must hold fields such as 'optim: {{lr: 1e-3}}', not only '{brief(str(content), 80)}'"
        )
    return content or {}


def _fields(file: Path) -> Iterator[tuple[str, Any]]:
    """``(dotted key, value)`` of every field in a file; raises ConfigError for any that doesn't exist."""
    known = _FLAGS.kinds
    sections = {key.rpartition(".")[0] for key in known} - {""}
    for key, value in _flatten(_read_yaml(file), sections):
        if key in sections and value is None:
            continue  # a section's name with nothing below it
        if key in sections:
            first = next(name for name in known if name.startswith(f"{key}."))
            raise ConfigError(f"field '{key}' in {file} is a section; give its fields, such as '{first}'")
        if key in RETIRED and RETIRED[key] in (None, value):
            continue
        key = RENAMED.get(key, key)
        if key not in known:
            raise ConfigError(f"unknown key '{key}' in {file}{_FLAGS.suggest(key)}")
        named = key == "relabel" and isinstance(value, str)
        yield key, _read_yaml(file.parent / value) if named else value


def _flatten(content: dict[Any, Any], sections: set[str], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{above}{key}"
        if isinstance(value, dict) and name in sections:
            yield from _flatten(value, sections, f"{name}.")
        else:
            yield name, value


def _flag(key: str, value: Any) -> str:
    # Text goes as it is: YAML 1.1 takes 1e-3 for text, and a flag's text is read as the number it is.
    return f"--{key}={value if isinstance(value, str) else json.dumps(value, default=str)}"
