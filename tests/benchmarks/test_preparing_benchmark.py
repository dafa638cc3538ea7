from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import preparing
import pytest


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
