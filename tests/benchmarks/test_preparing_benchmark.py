from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import preparing
import pytest
from preparing import MUTUAL, NAMES


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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_command_is_watched_and_its_stores_must_be_equal(
    raw_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    once, rows = preparing.prepare_once, []

    def kept(reader: str, source: Path, out: Path, jobs: int) -> dict[str, Any]:
        """One process is enough: its figures stand again for the others."""
        if not rows:
            rows.append(once(reader, source, out, jobs))
        out.mkdir(exist_ok=True)
        (out / "samples.arrow").touch()
        return rows[-1] | {"jobs": jobs}

    monkeypatch.setattr(preparing, "prepare_once", kept)
    words = ["--reader", "nw_ucla", "--source", str(raw_folder), "--folder", str(tmp_path)]
    words += ["--files", "70", "--json", str(tmp_path / "report.json")]
    assert preparing.run(preparing.main, words) == 0
    assert "files/s and core" in capsys.readouterr().out
    one, two = json.loads((tmp_path / "report.json").read_text())["sizes"]
    assert (one["jobs"], two["jobs"]) == (1, 2)
    assert (one["files"], one["rejected"]) == (70, 0)  # files under new names are all usable
    assert one["files_per_second"] == pytest.approx(70 / one["seconds"])
    assert 0 < one["peak_own_mib"] <= one["peak_resident_mib"]
    assert one["processes"] >= 1
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    monkeypatch.setattr(preparing, "prepare_once", lambda *words: kept(*words) | {"sha256": words[-1]})
    assert preparing.run(preparing.main, words) == 2
    assert "the stores of 70 files differ with the number of jobs" in capsys.readouterr().err
