"""From a YAML file and command-line flags to a :class:`~hhmnet.config.TrainConfig`, and back to YAML."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from hhmnet.config import TrainConfig
from hhmnet.files import replacing

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the file or flag, the field and the remedy."""


def read_config(file: Path | None, flags: Sequence[str] = (), others: Iterable[str] = ()) -> TrainConfig:
    """The configuration that a YAML file and flags describe.

    Args:
        file: YAML with the fields of :class:`TrainConfig`, nested or dotted (``optim.lr: 1e-3``); None for
            the defaults.
        flags: command line such as ``["--optim.lr", "1e-3"]``; it wins over the file.
        others: flags of the command itself, which may be what an unknown one was meant to be.

    Raises:
        ConfigError: one line naming what is wrong and where.
        OSError: the file can't be read.
    """
    parser = _parser()
    words = [] if file is None else [_flag(key, value) for key, value in _read_yaml(file)]
    _parse(parser, words, f" in {file}")
    _check_flags(parser, flags, others)
    values = _parse(parser, [*words, *flags], "")
    try:
        return _build(TrainConfig, values.as_dict())
    except ConfigError as error:
        raise ConfigError(f"{error} (in {file})" if file is not None and not flags else str(error)) from None


def write_config(config: TrainConfig, file: Path) -> None:
    """Write every field of ``config`` to a YAML file that :func:`read_config` reads."""
    fields = json.loads(json.dumps(dataclasses.asdict(config)))  # YAML has no tuples
    text = "# The whole configuration of this run; `hhmnet train --config` reads it again.\n"
    text += yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=110)
    with replacing(file) as handle:
        handle.write(text.encode())


def format_help() -> str:
    """Every field of the configuration with its flag, meaning, type and default."""
    parser = _parser()
    parser.usage = argparse.SUPPRESS
    text = parser.format_help()
    # jsonargparse offers a file for every section (`--optim CONFIG`), one file is enough here.
    files = r"^ +--\S+ CONFIG\n? +Path to a configuration file\.\n"
    return re.sub(files, "", text, flags=re.MULTILINE).strip() + "\n"


def _parser() -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog="hhmnet train", exit_on_error=False, print_config=None, add_help=False)
    parser.add_class_arguments(TrainConfig, None)
    return parser


def _parse(parser: ArgumentParser, words: Sequence[str], where: str) -> Any:
    try:
        return parser.parse_args(list(words))
    except argparse.ArgumentError as error:
        text = " ".join(str(error).split())
        found = re.match(r'Parser key "([^"]+)"', text)
        if found is None:
            raise ConfigError(f"{text}{where}") from None
        key = found[1]
        kind = _kinds(TrainConfig).get(key)
        given = _given(words, key)
        if kind is None or given is None:
            raise ConfigError(f"field '{key}'{where}: {text}") from None
        raise ConfigError(f"field '{key}'{where} must be {_describe(kind)}; got '{given}'") from None


def _read_yaml(file: Path) -> Iterator[tuple[str, Any]]:
    """``(dotted key, value)`` of every field in a file; raises ConfigError for any that doesn't exist."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" line {mark.line + 1}:"
        reason = getattr(error, "problem", None) or error
        raise ConfigError(f"{file}:{line} not valid YAML ({reason})") from None
    if content is None:
        return
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: must hold fields such as 'optim: {{lr: 1e-3}}', not only '{content}'")
    known = _kinds(TrainConfig)
    sections = {key.rpartition(".")[0] for key in known} - {""}
    for key, value in _flatten(content, sections):
        if key in sections and value is None:
            continue  # a section's name with nothing below it
        if key in sections:
            first = next(name for name in known if name.startswith(f"{key}."))
            raise ConfigError(f"field '{key}' in {file} is a section; give its fields, such as '{first}'")
        if key not in known:
            raise ConfigError(f"unknown key '{key}' in {file}{_suggest(key, _parser())}")
        yield key, value


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


def _check_flags(parser: ArgumentParser, flags: Sequence[str], others: Iterable[str]) -> None:
    known = _kinds(TrainConfig)
    for word in flags:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and name not in known:
            raise ConfigError(f"unknown flag '--{name}'{_suggest(name, parser, others, '--')}")


def _suggest(key: str, parser: ArgumentParser, others: Iterable[str] = (), prefix: str = "") -> str:
    """``; did you mean …?`` with the known key most like ``key`` in its name or in what its help says."""
    told = {action.dest: action.help or "" for action in parser._actions}
    texts = {name: [name, name.rpartition(".")[2]] for name in (*_kinds(TrainConfig), *others)}
    leaf = key.rpartition(".")[2].replace("-", "_")
    likeness = {}
    for name, forms in texts.items():
        named = max(_alike(key, forms[0]), _alike(leaf, forms[1]))
        likeness[name] = max(named, 0.9 * _alike_in(leaf.replace("_", " "), told.get(name, "")))
    best = max(likeness, key=lambda name: likeness[name])
    return f"; did you mean '{prefix}{best}'?" if likeness[best] >= 0.6 else "; see hhmnet train --help"


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _alike_in(words: str, text: str) -> float:
    """How much the most similar passage of ``text``, of as many words, is like ``words``."""
    count, passage = len(words.split()), re.findall(r"\w+", text)
    starts = range(max(len(passage) - count + 1, 0))
    return max((_alike(words, " ".join(passage[i : i + count])) for i in starts), default=0.0)


def _kinds(section: type, above: str = "") -> dict[str, Any]:
    """Type of every field below a section, by dotted key."""
    found: dict[str, Any] = {}
    for name, kind in _hints(section).items():
        key = f"{above}{name}"
        found |= _kinds(kind, f"{key}.") if _is_section(kind) else {key: kind}
    return found


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _hints(section: type) -> dict[str, Any]:
    hints = get_type_hints(section)
    return {field.name: hints[field.name] for field in dataclasses.fields(section)}


def _describe(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_describe(part) for part in get_args(kind))
    if get_origin(kind) in (tuple, list):
        parts = get_args(kind)
        count = "" if Ellipsis in parts or get_origin(kind) is list else f"{len(parts)} "
        return (
            f"a list of {count}{_NAMES.get(parts[0], parts[0].__name__).removeprefix('a ')}s, such as [1, 2]"
        )
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _given(words: Sequence[str], key: str) -> str | None:
    """The value that stands last for a flag."""
    for i in range(len(words) - 1, -1, -1):
        name, equals, value = words[i].partition("=")
        if name == f"--{key}":
            return value if equals else (words[i + 1] if i + 1 < len(words) else None)
    return None


def _build(section: type, values: dict[str, Any], name: str = "") -> Any:
    """A dataclass with its sections; raises ConfigError naming the section that refuses its values."""
    hints = _hints(section)
    built = {
        key: _build(hints[key], value, key) if _is_section(hints[key]) else value
        for key, value in values.items()
    }
    try:
        return section(**built)
    except ValueError as error:
        raise ConfigError(f"section '{name}': {error}" if name else str(error)) from None
