from __future__ import annotations

import math

import pytest

from hhmnet.config import OptimConfig, RuntimeConfig
from hhmnet.data.augment import AugmentConfig
from hhmnet.data.roi import RoiConfig
from hhmnet.data.transform import DataConfig
from hhmnet.data.video_batch import VideoAugmentConfig, VideoConfig
from hhmnet.losses import LossConfig
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.homogeneous import FusionConfig
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
        (DataConfig, "frames", 0, "at least 1"),
        (DataConfig, "stream", "bones", ""),
        (DataConfig, "stream", "bone+bone", ""),
        (STSTConfig, "mask", "top", "one of"),
        (STSTConfig, "widths", (), ""),
        (STSTConfig, "widths", (16, -1), ""),
        (STSTConfig, "head_width", 7, ""),
        (STSTConfig, "strides", (1, 2), ""),
        (FusionConfig, "projection", 0, "from 1 to 16384"),
        (FusionConfig, "weights", (1.0, -1.0), "at least 0"),
        (FusionConfig, "weights", (0.0, 0.0), "not be all zero"),
        (HeterogeneousConfig, "backbone", "vit", "one of efficientnet_lite0, small; got 'vit'"),
        (HeterogeneousConfig, "guidance", "both", "one of none, feature"),
        (HeterogeneousConfig, "frozen", 1.1, ""),
        (LossConfig, "part_temperature", 0.0, ""),
        (RoiConfig, "show", "shoe", ""),
        (RoiConfig, "cell", 2, ""),
        (VideoConfig, "instants", 0, ""),
        (VideoAugmentConfig, "zoom", 1.0, ""),
    ],
)
def test_every_configuration_refuses_what_it_cannot_use(config, field, value, rule):
    with pytest.raises(ValueError, match=f"'{field}'.*{rule}"):
        config(**{field: value})
