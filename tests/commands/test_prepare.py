from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hhmnet.cli import main
from hhmnet.readers import READERS
from hhmnet.store import Store, write_store


@pytest.fixture
def flawed(raw_folder: Path, tmp_path: Path) -> Path:
    """The raw files with 25 more that can't be used."""
    folder = Path(shutil.copytree(raw_folder, tmp_path / "flawed"))
    for number in range(25):
        (folder / f"a01_s{number:02d}_e50_v01.json").write_text('{"file_name":\n')
    return folder


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`hhmnet prepare made`, on four made-up files, one of them bad, by a reader with fields of its own."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "readers")
    monkeypatch.setitem(READERS, "made", ("made_reader:Made", "made-up files"))
    monkeypatch.setitem(READERS, "plain", ("made_reader:Plain", "the same without fields"))
    source = tmp_path / "made"
    source.mkdir()
    for number, text in enumerate(["two 2", "two 3", "bad 5", "ok 4"]):
        (source / f"{number}.made").write_text(text)

    def run(*more: str) -> int:
        return main(["prepare", "made", "--source", str(source), "--out", str(tmp_path / "store"), *more])

    return run


def prepare(source: Path, out: Path, *more: str) -> int:
    return main(["prepare", "nw_ucla", "--source", str(source), "--out", str(out), *more])


def test_shows_splits_and_twenty_rejected_files_and_lists_all(flawed, tmp_path, capsys):
    assert prepare(flawed, tmp_path / "store") == 0
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()]
    counts = {row[1]: row[3] for row in rows if len(row) > 3 and row[1] in ("train", "test", "all")}
    assert counts == {"train": "40", "test": "20", "all": "60"}
    assert "what was done" not in printed.out
    assert "25 files left out" in printed.err
    shown = [f"a01_s{number:02d}_e50_v01.json" in printed.err for number in range(25)]
    assert shown == [True] * 20 + [False] * 5
    assert f"the first 20 are shown; all of them are in {tmp_path / 'store' / 'rejected.csv'}" in printed.err
    with open(tmp_path / "store" / "rejected.csv", newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 25
    assert prepare(flawed, tmp_path / "store", "--json") == 0
    document = json.loads(capsys.readouterr().out)  # all there is on standard output
    assert (document["accepted"], document["splits"]) == (60, {"train": 40, "test": 20})
    assert document["counts"]["class"]["wave"] == 6
    assert document["frames"] == int(Store(tmp_path / "store").lengths.sum())
    first = document["rejected"][0]
    assert (first["file"], first["line"]) == ("a01_s00_e50_v01.json", 2)
    assert "cut short" in first["reason"]


def test_a_readers_fields_are_flags_and_what_it_understood_and_did_is_said(made, tmp_path, capsys):
    assert made() == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("made-up files: 4 items in ")
    assert "frames of two persons" in captured.out
    plain = Store(tmp_path / "store")
    joints = plain.joints(0).copy()
    assert plain.provenance["options"] == {"scale": 1.0, "table": None}
    assert made("--scale", "2.5", "--table=/far/away.csv") == 0
    scaled = Store(tmp_path / "store")
    np.testing.assert_allclose(scaled.joints(0), 2.5 * joints, rtol=1e-6)
    assert scaled.provenance["options"] == {"scale": 2.5, "table": "away.csv"}
    capsys.readouterr()
    assert made("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["notes"] == {"frames of two persons": 5, "two persons": 2}


def test_what_a_split_lacks_is_said_by_train_too(store_folder, recipe, tmp_path, capsys, monkeypatch):
    store = Store(store_folder)
    rows = np.flatnonzero((store.cameras != "3") & (store.labels != 0))
    about = {"class_names": store.class_names, "protocol": store.protocol, "provenance": {}}
    write_store(tmp_path / "lacking", map(store.sample, rows), layout=store.layout, **about)
    monkeypatch.setattr("hhmnet.commands.train._train", lambda *parts: 0)
    words = ["--data", str(tmp_path / "lacking"), "--config", str(recipe), "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 0
    err = capsys.readouterr().err
    assert "lacking: warning: no clip is tested" in err
    assert f"lacking: warning: no clip trains the class {store.class_names[0]}" in err
