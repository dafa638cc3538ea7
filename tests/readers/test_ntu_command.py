from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from plain_ntu import plain_parse

from hhmnet.cli import main
from hhmnet.prepare import prepare
from hhmnet.readers.ntu import NTU60, NTU120_CLASSES
from hhmnet.store import Store
from made_ntu import ID, Body, changed, put, skeleton


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six clips of two subjects, one of them on the list, and five files that can't be used."""
    folder = tmp_path / "raw"
    for subject in (1, 3):
        for action in (1, 13, 55):
            put(folder / f"P{subject}", name=f"S001C001P{subject:03d}R001A{action:03d}")
    put(folder, changed(7, "x"), "S001C001P002R001A001")
    put(folder, skeleton()[:5000], "S001C001P002R001A002")
    put(folder, skeleton(()), "S001C001P002R001A003")
    put(folder, b"", "S001C001P002R001A004")
    put(folder, name="S001C001P002R001A061")
    (folder / "missing_skeletons_60.txt").write_text("S001C001P003R001A055\nS017C001P003R001A055\n")
    return folder


def rejected(store: Path) -> dict[str, tuple[str, str]]:
    with open(store / "rejected.csv", newline="") as handle:
        return {
            row["file"].removesuffix(".skeleton"): (row["line"], row["reason"])
            for row in csv.DictReader(handle)
        }


def test_the_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "store"
    assert (
        main(["prepare", "ntu60", "--source", str(source), "--out", str(out), "--jobs", "2", "--json"]) == 0
    )
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["accepted"], document["splits"]) == (5, {"train": 3, "test": 2})
    assert "2 names in" in printed.err
    store = Store(out)
    assert store.protocol == "ntu60_xsub"
    assert store.layout.name == "ntu25"
    assert store.class_names == NTU120_CLASSES[:60]
    assert store.provenance["options"]["missing"] == "missing_skeletons_60.txt"
    assert sorted(store.sample_ids) == [
        *("S001C001P001R001A001", "S001C001P001R001A013", "S001C001P001R001A055"),
        *("S001C001P003R001A001", "S001C001P003R001A013"),
    ]
    sample = store.sample(store.index("S001C001P003R001A013"))
    assert (sample.label, sample.subject, sample.camera, sample.setup) == (12, "3", "1", "1")
    for frame, [body] in enumerate(plain_parse(skeleton())):
        np.testing.assert_array_equal(sample.joints[0, frame], body.joints)
    assert rejected(out) == {
        "P3/S001C001P003R001A055": ("", "on the list of missing skeletons (missing_skeletons_60.txt)"),
        "S001C001P002R001A001": ("7", "a joint must have 12 values, this line has 1"),
        "S001C001P002R001A002": ("59", "a body must have 10 values, this line has 8"),
        "S001C001P002R001A003": ("", "no frame has a body"),
        "S001C001P002R001A004": ("1", "is empty: it ends where the number of frames should stand"),
        "S001C001P002R001A061": (
            "",
            "action 61 in the file's name is not in NTU RGB+D 60 (1 to 60); the reader ntu120 takes it",
        ),
    }


def test_the_command_for_120(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    words = [
        "prepare",
        "ntu120",
        "--source",
        str(source),
        "--out",
        str(out),
        "--jobs",
        "1",
        "--max_persons",
        "1",
    ]
    assert main(words) == 0
    store = Store(out)
    assert (len(store), store.protocol, len(store.class_names)) == (7, "ntu120_xsub", 120)
    assert store.provenance["options"]["max_persons"] == 1
    assert store.labels[store.index("S001C001P002R001A061")] == 60


def test_what_was_done_to_bodies_is_in_the_report(tmp_path: Path) -> None:
    blink = Body(ID + 1, range(5), at=(1, 0, 3))
    for number in (1, 2):
        put(tmp_path / "raw", skeleton((Body(), blink)), f"S001C001P{number:03d}R001A001")
    report = prepare(NTU60(tmp_path / "raw"), tmp_path / "store")
    assert report.notes == {"body removed: in fewer than 12 frames": 2}


def test_a_threshold_that_makes_no_sense_is_the_callers_mistake(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "prepare",
        "ntu60",
        "--source",
        str(source),
        "--out",
        str(tmp_path / "store"),
        "--min_frames",
        "0",
    ]
    assert main(words) == 2
    assert "field 'min_frames' must be at least 1; got 0" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
