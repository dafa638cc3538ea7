from __future__ import annotations

import time
from pathlib import Path

import loading
import numpy as np
import pytest

from hhmnet.commands.configuration import read_config
from hhmnet.store import Store


def test_the_large_store_is_like_ntu_and_stages_and_parts_add_up(
    tmp_path: Path, store_folder: Path, recipe: Path
) -> None:
    loading.make_large_store(tmp_path, 150)
    store = Store(tmp_path)
    assert (store.layout.name, len(store), len(store.class_names)) == ("ntu25", 150, 120)
    assert np.bincount(store.persons).tolist() == [0, 120, 30]
    loading.make_large_store(tmp_path, 150)  # it is there
    for folder, clips in ((tmp_path, 151), (store_folder, 60)):  # and no other is replaced
        with pytest.raises(loading.BenchmarkError, match="holds another store"):
            loading.make_large_store(folder, clips)
    seconds = dict(loading.first_batch(tmp_path, time.time())["s"])
    total, after = seconds.pop("total"), seconds.pop("total after imports")
    assert min(seconds.values()) >= 0
    assert total == pytest.approx(sum(seconds.values()))
    assert after == pytest.approx(total - seconds["interpreter and imports"])
    figures = loading.training_step(Store(store_folder), read_config(recipe), steps=3)
    ms = figures["ms"]
    data = ms["loading"] + ms["prepare()"]
    assert 0 < data < ms["whole step"]
    assert figures["%"]["data share"] == pytest.approx(100 * data / ms["whole step"])
