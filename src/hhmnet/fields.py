"""Checks of configuration fields, with one form of message for all of them."""

from __future__ import annotations

import dataclasses
import unicodedata
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def brief(text: str, most: int = 500) -> str:
    """A text that somebody will read, without its middle where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-(most // 3) :]}"


def plain_name(name: str) -> str:
    """What two names have in common that people don't tell apart: without case, blanks and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


def one_of(config: Any, name: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless the field holds one of the known words."""
    value = getattr(config, name)
    if value not in known:
        raise ValueError(f"field '{name}' must be one of {', '.join(known)}; got '{value}'")


def check_types(config: Any) -> None:
    """Raise ValueError unless every field of a dataclass holds what its annotation says.

    For what a file fills in, and not the command line, which reads text by these annotations.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not _is_of(value, hints[field.name]):
            kind = getattr(hints[field.name], "__name__", str(hints[field.name]))
            raise ValueError(f"field '{field.name}' must be {kind}; got {brief(repr(value), 80)}")


def _is_of(value: Any, kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_is_of(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return all(_is_of(one, kinds[0]) for one in value)
        return len(value) == len(kinds) and all(map(_is_of, value, kinds))
    if kind in (int, float):
        return type(value) is int or (kind is float and type(value) is float)
    return isinstance(value, get_origin(kind) or kind)


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Raise ValueError unless each field, or each of its numbers, lies from ``low`` to ``high``."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        if not numbers or not all(low <= number <= high for number in numbers):
            rule = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
            raise ValueError(f"field '{name}' must be {rule}; got {value}")
