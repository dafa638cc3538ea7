from __future__ import annotations

import json
import os
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import preparing
import pytest
from preparing import MUTUAL, NAMES, repeat_files

from hhmnet.prepare import prepare
from hhmnet.readers import Reader, get_reader


@pytest.mark.parametrize(
    ("reader", "setups", "subjects", "actions"), [("ntu60", 17, 40, 60), ("ntu120", 32, 106, 120)]
)
@pytest.mark.parametrize("stem", ["S001C001P001R001A001", "S017C003P020R002A056"])
def test_ntu_names_are_valid_and_keep_the_number_of_persons(
    reader: str, setups: int, subjects: int, actions: int, stem: str
) -> None:
    names = list(islice(NAMES[reader](stem), 30_000))
    assert len(set(names)) == 30_000
    for name in names[::97]:
        setup, camera, subject, replication, action = map(int, re.findall(r"[A-Z](\d{3})", name))
        assert 1 <= setup <= setups
        assert 1 <= camera <= 3
        assert 1 <= subject <= subjects
        assert replication in (1, 2)
        assert 1 <= action <= actions
        assert (action in MUTUAL) == (stem.endswith("056"))


def test_repeated_files_of_nw_ucla_are_all_usable(raw_folder: Path, tmp_path: Path) -> None:
    made = repeat_files(get_reader("nw_ucla", raw_folder), tmp_path / "many", 120)
    assert made == 120
    report = prepare(get_reader("nw_ucla", tmp_path / "many"), tmp_path / "store")
    assert (report.accepted, report.rejected) == (120, [])
    assert set(report.counts["class"].values()) == {12}  # of each action as many as in the source


def test_other_files_are_linked_or_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "raw"
    source.mkdir()
    items = ["S001C001P001R001A001.skeleton", "S001C001P001R001A055.skeleton"]
    for item in items:
        (source / item).write_text(item)
    reader = cast(Reader, SimpleNamespace(name="ntu60", source=source, items=lambda: items))
    assert repeat_files(reader, tmp_path / "linked", 7) == 7
    files = sorted((tmp_path / "linked").iterdir())
    assert Counter(file.read_text() for file in files) == {items[0]: 4, items[1]: 3}
    assert len({file.stat().st_ino for file in files}) == 2
    for file in files:
        assert (int(file.stem[-3:]) in MUTUAL) == (file.read_text() == items[1])

    def refuse(*paths: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    repeat_files(reader, tmp_path / "copied", 7)
    assert {file.name: file.read_text() for file in (tmp_path / "copied").iterdir()} == {
        file.name: file.read_text() for file in files
    }


def test_the_whole_command(
    raw_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = {1: "same", 2: "same"}
    sizes = []

    def once(reader: str, source: Path, out: Path, jobs: int) -> dict[str, Any]:
        sizes.append(len(list(source.glob("*.json"))) - 1)  # without the table of classes
        out.mkdir(exist_ok=True)
        (out / "samples.arrow").touch()
        row = dict.fromkeys(("seconds", "files_per_second", "files_per_cpu_second", "store_mib"), 1.0)
        row |= {"files": sizes[-1], "jobs": jobs, "rejected": 0, "sha256": digests[jobs]}
        return row | {"peak_resident_mib": 1.0, "peak_own_mib": 1.0}

    monkeypatch.setattr(preparing, "prepare_once", once)
    words = ["--reader", "nw_ucla", "--source", str(raw_folder), "--folder", str(tmp_path)]
    words += ["--files", "130", "70", "--json", str(tmp_path / "report.json")]
    assert preparing.run(preparing.main, words) == 0
    assert "files/s and core" in capsys.readouterr().out
    assert sizes == [70, 70, 130, 130]
    assert [row["jobs"] for row in json.loads((tmp_path / "report.json").read_text())["sizes"]] == [
        1,
        2,
        1,
        2,
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    digests[2] = "other"
    assert preparing.run(preparing.main, words) == 2
    assert "the stores of 70 files differ with the number of jobs" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_one_call_of_the_command_is_watched(raw_folder: Path, tmp_path: Path) -> None:
    row = preparing.prepare_once("nw_ucla", raw_folder, tmp_path / "out", 1)
    assert (row["files"], row["rejected"]) == (60, 0)
    assert row["files_per_second"] == pytest.approx(60 / row["seconds"])
    assert 0 < row["peak_own_mib"] <= row["peak_resident_mib"]
    assert row["processes"] >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reader", "folder"], "'folder' (choose from "),
        (["--jobs", "2", "0"], "0: give a number above 0"),
        ([], "no folder at"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    given = ["--reader", "nw_ucla", "--source", str(tmp_path / "none"), *words]
    assert preparing.run(preparing.main, given) == 2
    assert message in capsys.readouterr().err
