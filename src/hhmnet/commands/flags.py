"""The fields of dataclasses as command-line flags, by jsonargparse: their help, their values, and what is wrong."""

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
_LONGEST = 200  # characters of a name that are compared


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the file or flag, the field and the remedy."""


class Flags:
    """The fields of dataclasses as flags of a ``command``; those of a dataclass in a field are ``--field.name``.

    Every field has a default, and a docstring under it that is its flag's help. ``kinds`` has its type by dotted name.
    """

    def __init__(self, command: str, *sections: type) -> None:
        self.command, self.sections = command, sections
        self.kinds = {name: kind for section in sections for name, kind in _kinds(section).items()}

    @cached_property
    def _parser(self) -> ArgumentParser:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        quiet: dict[str, Any] = {"exit_on_error": False, "print_config": None, "add_help": False}
        parser = ArgumentParser(usage=argparse.SUPPRESS, allow_abbrev=False, **quiet)
        for section in self.sections:
            parser.add_class_arguments(section, None)
        return parser

    def format_help(self) -> str:
        """Every field with its flag, meaning, type and default."""
        # jsonargparse offers a file for every section (`--optim CONFIG`), one file is enough here.
        files = r"^ +--\S+ CONFIG\n? +Path to a configuration file\.\n"
        return re.sub(files, "", self._parser.format_help(), flags=re.MULTILINE).strip() + "\n"

    def read(self, words: Sequence[str], others: Iterable[str] = ()) -> list[Any]:
        """The dataclasses that the words of a command line describe, in their order.

        The command's own flags aren't among the words; an unknown one may be meant for one of these, the ``others``.
        Raises ConfigError for a flag that doesn't exist, or a value that its field doesn't take.
        """
        for name in names_in(words):
            if name not in self.kinds:
                raise ConfigError(f"unknown flag '--{name}'{self.suggest(name, others, '--')}")
        values = self.parse(words)
        return [_build(section, values) for section in self.sections]

    def parse(self, words: Sequence[str], where: str = "") -> dict[str, Any]:
        """The values of all fields, nested, by name; raises ConfigError for one of the wrong type, saying ``where``."""
        try:
            return self._parser.parse_args(list(words)).as_dict()
        except argparse.ArgumentError as error:
            text = " ".join(str(error).split())
            found = re.match(r'Parser key "([^"]+)".*?(?:(?:Got|Given) value: (.*))?$', text)
            kind = found and self.kinds.get(found[1])
            if found is None or kind is None:
                raise ConfigError(f"{text}{where}") from None
            name = _NAMES.get(kind) or str(kind)
            raise ConfigError(f"field '{found[1]}'{where} must be {name}; got '{found[2]}'") from None

    def suggest(self, key: str, others: Iterable[str] = (), prefix: str = "") -> str:
        """``; did you mean …?`` with the known key most like ``key`` in its name or in what its help says."""
        helps = {action.dest: re.findall(r"\w+", action.help or "") for action in self._parser._actions}
        leaf = key.rpartition(".")[2].replace("-", "_")
        count = leaf.count("_") + 1

        def likeness(name: str) -> float:
            words = helps.get(name, [])
            passages = (" ".join(words[i : i + count]) for i in range(len(words) - count + 1))
            explained = max((_alike(leaf.replace("_", " "), passage) for passage in passages), default=0.0)
            return max(_alike(key, name), _alike(leaf, name.rpartition(".")[2]), 0.9 * explained)

        best = max((*self.kinds, *others), key=likeness, default="")
        if not best or likeness(best) < 0.6:
            return f"; see {self.command} --help"
        return f"; did you mean '{prefix}{best}'?"


def names_in(words: Sequence[str]) -> list[str]:
    """Names of the flags among the words."""
    return [word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")]


def _alike(one: str, other: str) -> float:
    # It takes time by the square of the length.
    one, other = (text[:_LONGEST].lower() for text in (one, other))
    return difflib.SequenceMatcher(None, one, other).ratio()


def _kinds(section: type, above: str = "") -> dict[str, Any]:
    """Type of every field below a section, by dotted key."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(section).items():
        is_section, key = dataclasses.is_dataclass(kind), f"{above}{name}"
        found |= _kinds(kind, f"{key}.") if is_section else {key: kind}
    return found


def _build(section: type, values: dict[str, Any], name: str = "") -> Any:
    kinds, built = get_type_hints(section), {}
    for field in dataclasses.fields(section):
        value, kind = values[field.name], kinds[field.name]
        is_section = dataclasses.is_dataclass(kind)
        built[field.name] = _build(kind, value, field.name) if is_section else value
    try:
        return section(**built)
    except ValueError as error:
        raise ConfigError(f"section '{name}': {error}" if name else str(error)) from None
