from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.store import Store


@pytest.fixture
def flawed(raw_folder: Path, tmp_path: Path) -> Path:
    """The raw files with 25 more that can't be used."""
    folder = Path(shutil.copytree(raw_folder, tmp_path / "flawed"))
    for number in range(25):
        (folder / f"a01_s{number:02d}_e50_v01.json").write_text('{"file_name":\n')
    return folder


def prepare(source: Path, out: Path, *more: str) -> int:
    return main(["prepare", "nw_ucla", "--source", str(source), "--out", str(out), *more])


def test_prints_the_splits(raw_folder, tmp_path, capsys):
    assert prepare(raw_folder, tmp_path / "store") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    counts = {row[1]: row[3] for row in rows if len(row) > 3 and row[1] in ("train", "test", "all")}
    assert counts == {"train": "40", "test": "20", "all": "60"}
    assert len(Store(tmp_path / "store")) == 60


def test_json_is_all_there_is_on_standard_output(flawed, tmp_path, capsys):
    assert prepare(flawed, tmp_path / "store", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["accepted"] == 60
    assert document["splits"] == {"train": 40, "test": 20}
    assert document["counts"]["class"]["wave"] == 6
    assert document["counts"]["camera"] == {"1": 20, "2": 20, "3": 20}
    assert document["frames"] == int(Store(tmp_path / "store").lengths.sum())
    assert len(document["rejected"]) == 25
    assert document["rejected"][0]["file"] == "a01_s00_e50_v01.json"
    assert document["rejected"][0]["line"] == 2
    assert "cut short" in document["rejected"][0]["reason"]


def test_shows_twenty_rejected_files_and_lists_all(flawed, tmp_path, capsys):
    assert prepare(flawed, tmp_path / "store") == 0
    err = capsys.readouterr().err
    assert "25 files left out" in err
    shown = [f"a01_s{number:02d}_e50_v01.json" in err for number in range(25)]
    assert shown == [True] * 20 + [False] * 5
    assert f"the first 20 are shown; all of them are in {tmp_path / 'store' / 'rejected.csv'}" in err
    with open(tmp_path / "store" / "rejected.csv", newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 25


def test_strict_makes_no_store_but_says_why(flawed, tmp_path, capsys):
    assert prepare(flawed, tmp_path / "store", "--strict") == 2
    err = capsys.readouterr().err
    assert "a01_s00_e50_v01.json" in err
    assert err.splitlines()[-1].startswith("hhmnet prepare: error: no store was made: 25 of 85 files")
    assert not (tmp_path / "store" / "samples.arrow").exists()


def test_unknown_reader_lists_the_known(raw_folder, tmp_path, capsys):
    assert main(["prepare", "ntu", "--source", str(raw_folder), "--out", str(tmp_path / "store")]) == 2
    assert "unknown reader 'ntu'; known: nw_ucla" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_missing_source_names_the_folder(tmp_path, capsys):
    assert prepare(tmp_path / "none", tmp_path / "store") == 2
    assert f"no folder at {tmp_path / 'none'}" in capsys.readouterr().err


def test_missing_options_are_named(capsys):
    assert main(["prepare", "nw_ucla"]) == 2
    err = capsys.readouterr().err
    assert "--source, --out" in err
    assert err.count("\n") == 1


def test_a_file_in_the_way_is_named(raw_folder, tmp_path, capsys):
    (tmp_path / "store").write_text("")
    assert prepare(raw_folder, tmp_path / "store") == 2
    assert str(tmp_path / "store") in capsys.readouterr().err
