from __future__ import annotations

import time
from pathlib import Path

import loading
import loading_probes
import numpy as np
import pytest
from loading_probes import first_batch, training_step

from hhmnet.commands.configuration import read_config
from hhmnet.commands.terminal import console
from hhmnet.store import Store

# Prints 1, 4, 9, ... from one process to the next.
COUNTING_PROBE = """\
import json, pathlib, sys
file = pathlib.Path(sys.argv[2])
number = int(file.read_text()) + 1
file.write_text(str(number))
print(json.dumps({"s": {"x": number * number}}))
"""


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading") / "store"
    loading.make_large_store(folder, 150, console())
    return folder


def test_clips_have_the_shape_of_ntu(large_store: Path) -> None:
    store = Store(large_store)
    assert len(store) == 150
    assert (store.layout.name, len(store.class_names)) == ("ntu25", 120)
    assert set(store.cameras) == {"1", "2", "3"}
    assert np.bincount(store.persons).tolist() == [0, 120, 30]
    assert store.lengths.min() >= 40
    assert store.lengths.max() <= 120
    assert len(np.unique(store.lengths)) > 10


def test_a_store_is_made_once_and_no_other_is_replaced(large_store: Path, store_folder: Path) -> None:
    made = (large_store / "samples.arrow").stat().st_mtime_ns
    loading.make_large_store(large_store, 150, console())
    assert (large_store / "samples.arrow").stat().st_mtime_ns == made
    for folder, clips in ((large_store, 151), (store_folder, 60)):
        with pytest.raises(loading.BenchmarkError, match="holds another store"):
            loading.make_large_store(folder, clips, console())


def test_stages_add_up_to_the_total(large_store: Path) -> None:
    began = time.time()
    seconds = dict(first_batch(large_store, began)["s"])
    lasted = time.time() - began
    total, after = seconds.pop("total"), seconds.pop("total after imports")
    assert min(seconds.values()) >= 0
    assert total == pytest.approx(sum(seconds.values()))
    assert total <= lasted
    assert after == pytest.approx(total - seconds["interpreter and imports"])


def test_the_parts_of_a_step_are_less_than_the_step(store_folder: Path, recipe: Path) -> None:
    figures = training_step(Store(store_folder), read_config(recipe), steps=12)
    ms = figures["ms"]
    assert 0 < ms["loading"] + ms["prepare()"] < ms["whole step"]
    assert figures["%"]["data share"] == pytest.approx(
        100 * (ms["loading"] + ms["prepare()"]) / ms["whole step"]
    )


def test_figures_of_fresh_processes_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "probe.py"
    script.write_text(COUNTING_PROBE)
    monkeypatch.setattr(loading, "PROBES", script)
    (tmp_path / "n").write_text("0")
    found = loading.fresh("any", 4, [str(tmp_path / "n")])
    assert found == {"s": {"x": {"median": 6.5, "min": 1, "max": 16, "processes": [1, 4, 9, 16]}}}
    with pytest.raises(loading.BenchmarkError, match="measures 'any' failed"):
        loading.fresh("any", 1, [str(tmp_path / "missing")])


def test_a_probe_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert loading_probes.main(["first-batch", "--data", str(tmp_path), "--started", "0"]) == 2
    assert "no store at" in capsys.readouterr().err


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--clips", "0"], ["--json", str(tmp_path / "no" / "a.json")], ["--optim.lrr", "1"]):
        assert loading.main(words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
