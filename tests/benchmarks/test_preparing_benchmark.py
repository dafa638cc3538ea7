from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import preparing
import preparing_files
import pytest
from preparing_files import MUTUAL, NAMES, repeat_files

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


def test_names_may_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw_folder: Path) -> None:
    monkeypatch.setitem(preparing_files.NAMES, "nw_ucla", lambda stem: iter([stem]))
    assert repeat_files(get_reader("nw_ucla", raw_folder), tmp_path / "few", 100) == 60


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_of_a_program_and_those_below_it() -> None:
    child = "block = bytearray(60 * 2**20); print('here', flush=True); input()"
    script = (
        "import subprocess, sys\n"
        "block = bytearray(90 * 2**20)\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "child.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        memory = preparing.Memory(process.pid)
        memory.look()
        process.communicate(b"\n")
    assert memory.processes == 2
    assert 150 < memory.resident < 220
    peak = memory.resident
    memory.look()  # all are gone
    assert memory.resident == peak


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_whole_command(raw_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--reader", "nw_ucla", "--source", str(raw_folder), "--folder", str(tmp_path)]
    words += ["--files", "130", "70", "--jobs", "1", "2"]
    assert preparing.main([*words, "--json", str(tmp_path / "report.json")]) == 0
    shown = capsys.readouterr().out
    assert "files/s and core" in shown
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(row["files"], row["jobs"]) for row in report["sizes"]] == [(70, 1), (70, 2), (130, 1), (130, 2)]
    digests = [row["sha256"] for row in report["sizes"]]
    assert digests[0] == digests[1] != digests[2] == digests[3]
    for row in report["sizes"]:
        assert row["rejected"] == 0
        assert row["files_per_second"] == pytest.approx(row["files"] / row["seconds"])
        assert 0 < row["cpu_seconds"] < 60
        assert 30 < row["peak_own_mib"] <= row["peak_resident_mib"] < 1000
        assert row["processes"] >= row["jobs"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reader", "folder"], "'folder' (choose from "),
        (["--files", "0"], "--files: give numbers above 0"),
        (["--jobs", "2", "0"], "--jobs: give numbers above 0"),
        (["--json", "/nowhere/report.json"], "no folder /nowhere; make it first"),
        ([], "no folder at"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert preparing.main(["--reader", "nw_ucla", "--source", str(tmp_path / "none"), *words]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("error: ")
    assert message in err
