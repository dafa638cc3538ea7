"""From a YAML file and command-line flags to a :class:`~hhmnet.config.TrainConfig`, and back to YAML."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml

from hhmnet.commands.flags import ConfigError, Flags
from hhmnet.config import TrainConfig
from hhmnet.files import replacing

CONFIG_FILE = "config.yaml"
_FLAGS = Flags("hhmnet train", TrainConfig)
_SECTIONS = {key.rpartition(".")[0] for key in _FLAGS.kinds} - {""}


def recipe_folder() -> Path:
    """The recipes that come with the package: beside its modules, or in a checkout's ``configs``."""
    packaged = Path(str(resources.files("hhmnet"))) / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


def is_recipe(name: Path) -> bool:
    """Whether a packaged recipe has this name, such as ``nw_ucla/homogeneous``."""
    return (recipe_folder() / f"{name}.yaml").is_file()


def read_config(file: Path | None, flags: Sequence[str] = (), others: Iterable[str] = ()) -> TrainConfig:
    """The configuration that a YAML file, or a packaged recipe of this name, and flags describe; flags win.

    The file's fields are nested or dotted (``optim.lr: 1e-3``); ``relabel`` may name a file beside it. ``others`` are
    flags of the command itself, which may be what an unknown one was meant to be. Raises ConfigError, in one line.
    """
    file = None if file is None else _find_recipe(file)
    words = []
    for key, value in () if file is None else _fields(_read_yaml(file), file):
        # Text goes as it is: YAML 1.1 takes 1e-3 for text, and a flag's text is read as the number it is.
        words.append(f"--{key}={value if isinstance(value, str) else json.dumps(value, default=str)}")
    _FLAGS.parse(words, f" in {file}")
    try:
        (config,) = _FLAGS.read([*words, *flags], others)
    except ConfigError as error:
        raise ConfigError(f"{error} (in {file})" if file is not None and not flags else str(error)) from None
    return cast("TrainConfig", config)


def write_config(config: TrainConfig, file: Path) -> None:
    """Write every field of ``config`` to a YAML file that :func:`read_config` reads."""
    fields = json.loads(json.dumps(dataclasses.asdict(config)))  # YAML has no tuples
    text = "# The whole configuration of this run; `hhmnet train --config` reads it again.\n"
    text += yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110)
    with replacing(file) as handle:
        handle.write(text.encode())


format_help = _FLAGS.format_help


def _find_recipe(name: Path) -> Path:
    """The file that ``name`` is, or the packaged recipe; what ends in ``.yaml`` is a file, even if it is missing."""
    if name.exists() or name.suffix in (".yaml", ".yml"):
        return name
    if not is_recipe(name):
        known = sorted(file.relative_to(recipe_folder()) for file in recipe_folder().glob("*/*.yaml"))
        names = ", ".join(file.with_suffix("").as_posix() for file in known if file.stem != "relabel")
        raise ConfigError(f"{name}: neither a file nor a recipe; the recipes are {names}")
    return recipe_folder() / f"{name}.yaml"


def _read_yaml(file: Path) -> dict[Any, Any]:
    """What a file holds; raises ConfigError unless that is a mapping, or nothing."""
    try:
        text = file.read_text(encoding="utf-8")
        # A few lines of aliases stand for gigabytes, or for a list that holds itself.
        alias = next((token for token in yaml.scan(text) if isinstance(token, yaml.AliasToken)), None)
        if alias is not None:
            reason = "aliases (*name) aren't read; write it out"
            raise yaml.MarkedYAMLError(problem=reason, problem_mark=alias.start_mark)
        content = yaml.safe_load(text)
    except (UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" line {mark.line + 1}:"
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{file}:{line} not valid YAML ({reason})") from None
    if not isinstance(content, dict | None):
        raise ConfigError(f"{file}: must hold fields such as 'optim: {{lr: 1e-3}}'")
    return content or {}


def _fields(content: dict[Any, Any], file: Path, above: str = "") -> Iterator[tuple[str, Any]]:
    """``(dotted key, value)`` of every field in a file; raises ConfigError for any that doesn't exist."""
    for name, value in content.items():
        key = f"{above}{name}"
        if key in _SECTIONS and isinstance(value, dict | None):
            yield from _fields(value or {}, file, f"{key}.")
        elif key in _SECTIONS:
            first = next(name for name in _FLAGS.kinds if name.startswith(f"{key}."))
            raise ConfigError(f"field '{key}' in {file} is a section; give its fields, such as '{first}'")
        elif key in _FLAGS.kinds:
            is_file = key == "relabel" and isinstance(value, str)
            yield key, _read_yaml(file.parent / value) if is_file else value
        else:
            raise ConfigError(f"unknown key '{key}' in {file}{_FLAGS.suggest(key)}")
