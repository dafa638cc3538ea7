from __future__ import annotations

import json
import sys
from pathlib import Path

import ntu_reading
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "readers"))  # for the maker of files

from made_ntu import put

NAMES = ["S001C001P001R001A001", "S001C001P001R001A002"]

# Stands for the published reader, and it prints.
PEER = """\
def get_raw_bodies_data(folder, name, dropped, log):
    print("Reading", name)
    return {{"name": name, "num_frames": {frames}}}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in NAMES:
        put(tmp_path / "raw", name=name)
    return tmp_path / "raw"


def checkout(folder: Path, frames: int = 20) -> Path:
    file = folder / "ctrgcn" / ntu_reading.PEER_FILE
    file.parent.mkdir(parents=True)
    file.write_text(PEER.format(frames=frames))
    return folder / "ctrgcn"


def run(source: Path, *words: str) -> int:
    given = ["--source", str(source), "--rounds", "2", "--seconds", "0.01", *words]
    return ntu_reading.run(ntu_reading.main, given)


def test_both_readers_take_turns(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = checkout(tmp_path)
    assert run(source, "--ctrgcn", str(peer), "--json", str(tmp_path / "report.json")) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["files"]["number"] == 2
    clock = report["files_per_second"]["clock"]
    for ours, theirs, ratio in zip(
        *(clock[name]["rounds"] for name in ("hhmnet", "CTR-GCN", "ratio")), strict=True
    ):
        assert ratio == pytest.approx(ours / theirs)
    printed = capsys.readouterr().out
    assert "Reading" not in printed
    assert "ratio" in printed
    assert run(source) == 0
    printed = capsys.readouterr().out
    assert "hhmnet" in printed
    assert "ratio" not in printed


def test_what_cannot_be_measured_is_said(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (["--ctrgcn", str(tmp_path / "none")], f"--ctrgcn {tmp_path / 'none'}: has no data/ntu/get_raw_skes_data.py"),
        (["--ctrgcn", str(checkout(tmp_path, 19))], f"CTR-GCN's reader sees 19 frames in {NAMES[0]}, hhmnet 20"),
        (["--rounds", "0"], "0: give a number above 0"),
        (["--json", str(tmp_path / "no" / "r.json")], "there is no folder"),
        (["--source", str(tmp_path)], "holds no .skeleton files"),
    ):  # fmt: skip
        assert run(source, *words) == 2
        assert message in capsys.readouterr().err
