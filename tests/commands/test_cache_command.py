"""``hhmnet cache``, as a user runs it."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.data.roi import RoiConfig
from hhmnet.prepare import WorkerLost
from hhmnet.store import write_video_folder
from made_crops import made_clip, write_made_store

FEW = ["--instants", "2", "--cell", "12", "--scene", "16"]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of three clips with videos and one without; the crops go to ``tmp_path/cache/crops``."""
    monkeypatch.setenv("HHMNET_CACHE", str(tmp_path / "cache"))
    samples = [made_clip(n, 6) for n in range(3)] + [made_clip(3, 6, video=None, video_frames=None)]
    store, videos = write_made_store(tmp_path, samples, 6)
    write_video_folder(store.path, videos)
    return store.path


def test_building_showing_and_clearing(made: Path, tmp_path: Path, capsys) -> None:
    assert main(["cache", str(made), "--jobs", "1", *FEW]) == 0
    captured = capsys.readouterr()
    assert "crops of 4 clips: 3 made in" in captured.out
    assert "1 without video" in captured.out
    assert f"4 clips, videos in {tmp_path / 'videos'}; crops of all take 0.0 MB" in captured.err
    assert main(["cache", str(made), "--jobs", "1", *FEW, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    files = list((tmp_path / "cache" / "crops").glob("??/*"))
    assert (document["made"], document["found"], document["problems"]) == (0, 3, {})
    assert document["bytes"] == sum(file.stat().st_size for file in files)
    assert document["folder"] == str(tmp_path / "cache" / "crops")
    assert main(["cache", str(made), "--jobs", "1", *FEW, "--cell", "14"]) == 0
    files[0].write_bytes(b"")
    capsys.readouterr()

    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert "crops of 5 clips" in out
    assert "instants 2" in out
    assert "1 files can't be read" in out
    assert main(["cache", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["clips"], document["damaged"]) == (5, 1)
    assert {(h["store"], h["settings"]["cell"], h["clips"]) for h in document["holdings"]} == {
        ("store", 12, 2),
        ("store", 14, 3),
    }
    assert set(document["holdings"][0]["settings"]) == {field.name for field in dataclasses.fields(RoiConfig)}

    old = time.time() - 40 * 86400
    os.utime(files[1], (old, old))
    assert main(["cache", "clear", "--older-than", "30d"]) == 0
    assert "crops of 1 clips removed" in capsys.readouterr().out
    assert main(["cache", "clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 5
    assert not list((tmp_path / "cache" / "crops").glob("??/*"))


def test_videos_elsewhere_and_problems(made: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "videos").rename(tmp_path / "moved")
    assert main(["cache", str(made)]) == 2
    assert f"no folder at {tmp_path / 'videos'}" in capsys.readouterr().err
    (tmp_path / "moved" / "made01.mkv").write_bytes(b"no video")
    assert main(["cache", str(made), "--jobs", "1", "--videos", str(tmp_path / "moved"), *FEW]) == 0
    captured = capsys.readouterr()
    assert "1 with a problem" in captured.out
    assert "made01" in captured.err


def test_a_killed_worker(made: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*words: object) -> None:
        raise WorkerLost("a worker process was killed (SIGKILL)")

    monkeypatch.setattr("hhmnet.data.crop_cache.CropCache.build", lose)
    assert main(["cache", str(made)]) == 1
    assert "was killed (SIGKILL); the same call goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no store at nowhere"),
        (["one", "two"], "name one store"),
        (["--json", "store"], "unknown word 'store'; STORE comes before the options"),
        (["store", "--cel", "3"], "unknown flag '--cel'; did you mean '--cell'?"),
        (["store", "--cell", "big"], "field 'cell' must be a whole number; got 'big'"),
        (["store", "--older-than", "3d"], "--older-than goes with `hhmnet cache clear`"),
        (["clear", "--older-than", "3 moons"], "'3 moons' is not a duration"),
        (["store", "--jobs", "0"], "'0' is not a number from 1"),
    ],
)
def test_mistakes(made: Path, words: list[str], told: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.parent)
    assert main(["cache", *words]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
