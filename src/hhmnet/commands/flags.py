"""The fields of a dataclass as command-line flags, by jsonargparse: their help, their values, and what is wrong."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser, set_parsing_settings

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the file or flag, the field and the remedy."""


class Flags:
    """The fields of a dataclass as flags; those of a dataclass in a field are ``--field.name``.

    Args:
        kind: the dataclass. Every field has a default, and a docstring under it that is its flag's help.
        command: what the user calls, such as ``hhmnet train``.

    Attributes:
        kinds: the type of every field, by dotted name.
    """

    def __init__(self, kind: type, command: str) -> None:
        self.kind, self.command = kind, command
        self.kinds = _kinds(kind)

    @cached_property
    def _parser(self) -> ArgumentParser:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        parser = ArgumentParser(
            prog=self.command,
            usage=argparse.SUPPRESS,
            exit_on_error=False,
            print_config=None,
            add_help=False,
            allow_abbrev=False,
        )
        parser.add_class_arguments(self.kind, None)
        return parser

    def format_help(self) -> str:
        """Every field with its flag, meaning, type and default."""
        # jsonargparse offers a file for every section (`--optim CONFIG`), one file is enough here.
        files = r"^ +--\S+ CONFIG\n? +Path to a configuration file\.\n"
        return re.sub(files, "", self._parser.format_help(), flags=re.MULTILINE).strip() + "\n"

    def check_names(self, words: Sequence[str], others: Iterable[str] = ()) -> None:
        """Raise ConfigError for a flag that doesn't exist, naming the nearest of the fields and ``others``."""
        for word in words:
            name = word.removeprefix("--").partition("=")[0]
            if word.startswith("--") and name not in self.kinds:
                raise ConfigError(f"unknown flag '--{name}'{self.suggest(name, others, '--')}")

    def parse(self, words: Sequence[str], where: str = "") -> dict[str, Any]:
        """The values of all fields, nested, by name.

        Args:
            words: the flags and their values.
            where: for the message, where these words come from, such as `` in FILE``.

        Raises:
            ConfigError: a value of the wrong type.
        """
        try:
            values: dict[str, Any] = self._parser.parse_args(list(words)).as_dict()
        except argparse.ArgumentError as error:
            text = " ".join(str(error).split())
            found = re.match(r'Parser key "([^"]+)".*?(?:(?:Got|Given) value: (.*))?$', text)
            kind = found and self.kinds.get(found[1])
            if found is None or kind is None:
                raise ConfigError(f"{text}{where}") from None
            name = _NAMES.get(kind) or str(kind)
            raise ConfigError(f"field '{found[1]}'{where} must be {name}; got '{found[2]}'") from None
        return values

    def build(self, values: dict[str, Any]) -> Any:
        """The dataclass with these values; raises ConfigError naming the section that refuses its values."""
        return _build(self.kind, values)

    def suggest(self, key: str, others: Iterable[str] = (), prefix: str = "") -> str:
        """``; did you mean …?`` with the known key most like ``key`` in its name or in what its help says."""
        helps = {action.dest: action.help or "" for action in self._parser._actions}
        leaf = key.rpartition(".")[2].replace("-", "_")

        def likeness(name: str) -> float:
            named = max(_alike(key, name), _alike(leaf, name.rpartition(".")[2]))
            return max(named, 0.9 * _alike_in(leaf.replace("_", " "), helps.get(name, "")))

        best = max((*self.kinds, *others), key=likeness, default="")
        if not best or likeness(best) < 0.6:
            return f"; see {self.command} --help"
        return f"; did you mean '{prefix}{best}'?"


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


def _build(section: type, values: dict[str, Any], name: str = "") -> Any:
    kinds = _hints(section)
    built = {
        key: _build(kinds[key], value, key) if _is_section(kinds[key]) else value
        for key, value in values.items()
    }
    try:
        return section(**built)
    except ValueError as error:
        raise ConfigError(f"section '{name}': {error}" if name else str(error)) from None
