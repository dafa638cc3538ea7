from __future__ import annotations

import math

import pytest

from hhmnet.config import OptimConfig, RuntimeConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.transform import DataConfig
from hhmnet.models.stst import STSTConfig


@pytest.mark.parametrize(
    ("config", "field", "value", "rule"),
    [
        (OptimConfig, "epochs", 0, "at least 1; got 0"),
        (OptimConfig, "label_smoothing", 1.5, "from 0 to 1; got 1.5"),
        (OptimConfig, "label_smoothing", math.nan, "from 0 to 1; got nan"),
        (OptimConfig, "ema", 1.0, "from 0 to 1"),
        (OptimConfig, "optimizer", "adam", "one of adamw, sgd; got 'adam'"),
        (RuntimeConfig, "seed", -1, "at least 0"),
        (RuntimeConfig, "precision", "float16", "one of float32, bfloat16"),
        (AugmentConfig, "crop", -1.0, ""),
        (AugmentConfig, "swap", 3.0, ""),
        (DataConfig, "frames", 0, "at least 1"),
        (DataConfig, "stream", "bones", ""),
        (STSTConfig, "mask", "top", "one of"),
        (STSTConfig, "widths", (), ""),
        (STSTConfig, "widths", (16, -1), ""),
        (STSTConfig, "head_width", 7, ""),
    ],
)
def test_every_configuration_refuses_what_it_cannot_use(
    config: type, field: str, value: object, rule: str
) -> None:
    with pytest.raises(ValueError, match=f"'{field}'.*{rule}"):
        config(**{field: value})
