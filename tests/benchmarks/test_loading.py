from __future__ import annotations

import time
from pathlib import Path

import loading
import numpy as np
import pytest

from hhmnet.commands.configuration import read_config
from hhmnet.store import Store


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading") / "store"
    loading.make_large_store(folder, 150)
    return folder


def test_clips_have_the_shape_of_ntu(large_store: Path) -> None:
    store = Store(large_store)
    assert (store.layout.name, len(store), len(store.class_names)) == ("ntu25", 150, 120)
    assert set(store.cameras) == {"1", "2", "3"}
    assert np.bincount(store.persons).tolist() == [0, 120, 30]
    assert 40 <= store.lengths.min() < store.lengths.max() <= 120


def test_a_store_is_made_once_and_no_other_is_replaced(large_store: Path, store_folder: Path) -> None:
    made = (large_store / "samples.arrow").stat().st_mtime_ns
    loading.make_large_store(large_store, 150)
    assert (large_store / "samples.arrow").stat().st_mtime_ns == made
    for folder, clips in ((large_store, 151), (store_folder, 60)):
        with pytest.raises(loading.BenchmarkError, match="holds another store"):
            loading.make_large_store(folder, clips)


def test_stages_and_parts_add_up(large_store: Path, store_folder: Path, recipe: Path) -> None:
    seconds = dict(loading.first_batch(large_store, time.time())["s"])
    total, after = seconds.pop("total"), seconds.pop("total after imports")
    assert min(seconds.values()) >= 0
    assert total == pytest.approx(sum(seconds.values()))
    assert after == pytest.approx(total - seconds["interpreter and imports"])
    figures = loading.training_step(Store(store_folder), read_config(recipe), steps=3)
    ms = figures["ms"]
    data = ms["loading"] + ms["prepare()"]
    assert 0 < data < ms["whole step"]
    assert figures["%"]["data share"] == pytest.approx(100 * data / ms["whole step"])


def test_figures_of_fresh_processes_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        returncode = 0
        number = 0

        def __init__(self, command: list[str], **more: object) -> None:
            type(self).number += 1
            self.stdout = f'{{"s": {{"x": {self.number**2}}}}}'

    monkeypatch.setattr(loading.subprocess, "run", Done)
    found = loading.fresh(["--probe", "step"], 4)
    assert found == {"s": {"x": {"median": 6.5, "min": 1, "max": 16, "rounds": [1, 4, 9, 16]}}}
    Done.returncode = 1
    with pytest.raises(loading.BenchmarkError, match="its message stands above"):
        loading.fresh(["--probe", "step"], 1)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--probe", "first-batch", "--data", str(tmp_path), "--started", "0"], "no store"),
        (["--clips", "0"], "0: give a number above 0"),
        (["--json", str(tmp_path / "gone/x.json")], "make it first"),
        (["--processed=3"], "did you mean '--processes'"),
    ):
        assert loading.run(loading.main, words) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
