from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from hhmnet.config import OptimConfig, RuntimeConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.transform import DataConfig
from hhmnet.fields import one_of, within
from hhmnet.models.stst import STSTConfig


@dataclass
class Fields:
    word: str = "a"
    number: float = 0.5
    numbers: tuple[float, ...] = (0.1, 0.9)


def test_what_lies_inside_passes() -> None:
    one_of(Fields(), "word", ("a", "b"))
    within(Fields(), 0, 1, "number", "numbers")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (Fields(number=1.5), "field 'number' must be from 0 to 1; got 1.5"),
        (Fields(number=math.nan), "field 'number' must be from 0 to 1; got nan"),
        (Fields(numbers=(0.5, -1)), r"field 'numbers' must be from 0 to 1; got \(0.5, -1\)"),
        (Fields(numbers=()), r"field 'numbers' must be from 0 to 1; got \(\)"),
    ],
)
def test_what_lies_outside_is_named(fields: Fields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        within(fields, 0, 1, "number", "numbers")


def test_an_open_range_is_said_so() -> None:
    with pytest.raises(ValueError, match=r"'number' must be at least 1; got 0\.5"):
        within(Fields(), 1, math.inf, "number")


def test_an_unknown_word_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'word' must be one of b, c; got 'a'"):
        one_of(Fields(), "word", ("b", "c"))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (OptimConfig, "epochs", 0),
        (OptimConfig, "ema", 1.0),
        (OptimConfig, "optimizer", "adam"),
        (RuntimeConfig, "seed", -1),
        (RuntimeConfig, "precision", "float16"),
        (AugmentConfig, "crop", -1.0),
        (AugmentConfig, "swap", 3.0),
        (DataConfig, "frames", 0),
        (DataConfig, "stream", "bones"),
        (STSTConfig, "mask", "top"),
        (STSTConfig, "widths", ()),
        (STSTConfig, "head_width", 7),
    ],
)
def test_every_configuration_refuses_what_it_cannot_use(config: type, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'{field}'"):
        config(**{field: value})
