"""Checks of configuration fields, with one form of message for all of them."""

from __future__ import annotations

from typing import Any


def one_of(config: Any, name: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless the field holds one of the known words."""
    value = getattr(config, name)
    if value not in known:
        raise ValueError(f"field '{name}' must be one of {', '.join(known)}; got '{value}'")


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Raise ValueError unless each field, or each of its numbers, lies from ``low`` to ``high``."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        if not numbers or not all(low <= number <= high for number in numbers):
            rule = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
            raise ValueError(f"field '{name}' must be {rule}; got {value}")
