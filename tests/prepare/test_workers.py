"""Worker processes: their work, their ends, and what is left after an interruption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.prepare import WorkerLost, prepare, workers
from hhmnet.prepare.parts import PARTS_FOLDER
from hhmnet.prepare.workers import EngineError
from hhmnet.readers import READERS, SourceError
from hhmnet.store import SAMPLES_FILE, Store
from made_reader import Made, put_made

TEXTS = ["ok 3", "two 4", "bad 2", "same", "full 5", "ok 1", "same", "two 2", "nan", "ok 9", "full 1"]


def test_jobs_and_interruptions_do_not_change_the_store(tmp_path: Path) -> None:
    def progress(done: int, total: int) -> None:
        if done >= 5:
            raise KeyboardInterrupt

    reader = Made(put_made(tmp_path / "raw", TEXTS))
    one = prepare(reader, tmp_path / "one", jobs=1)
    with suppress(KeyboardInterrupt):
        prepare(reader, tmp_path / "many", jobs=2, progress=progress)
    many = prepare(reader, tmp_path / "many", jobs=3)
    assert (many.resumed > 0, replace(many, resumed=0)) == (True, one)
    for name in (SAMPLES_FILE, "rejected.csv"):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_a_killed_worker_is_reported_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(READERS, "made", ("made_reader:Made", "made-up files"))
    source, out = put_made(tmp_path / "raw", ["ok"] * 12 + ["kill"]), tmp_path / "store"
    words = ["prepare", "made", "--source", str(source), "--out", str(out), "--jobs", "2", "--json"]
    assert main(words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2].endswith(f"read and kept in {out / PARTS_FOLDER}; the same call goes on from there")
    assert lines[-1].startswith("hhmnet prepare: error: a worker process was killed (SIGKILL)")
    assert "memory runs out" in lines[-1]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["resumed"] >= 6, document["accepted"]) == (True, 13)


def test_a_worker_that_cannot_start_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Here(Made):
        """No other process finds this class."""

        def __reduce__(self) -> tuple[object, tuple[str]]:
            return __import__, ("no_such_module",)

    source = put_made(tmp_path / "raw", ["ok"] * 6)
    with pytest.raises(WorkerLost, match="a worker process ended unasked, with exit code 1"):
        prepare(Here(source), tmp_path / "store", jobs=2)
    assert "no_such_module" in capfd.readouterr().err


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from made_reader import Made
from hhmnet.prepare import prepare

class Large(Made):
    chunk = 16

    def items(self):
        return [f"{number:06d}" for number in range(int(sys.argv[2]))]

    def read(self, item, notes):
        return self._sample(item, "ok", 1000, notes)  # 240 kB of joints

prepare(Large(Path(sys.argv[1])), Path(sys.argv[1]) / sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    peaks = []
    for count in (100, 400):
        command = [sys.executable, "-c", MEMORY, str(tmp_path), str(count)]
        peaks.append(int(subprocess.check_output(command, env=environment)) / 1024)
        assert len(Store(tmp_path / str(count))) == count
    assert (tmp_path / "400" / SAMPLES_FILE).stat().st_size > 96e6
    assert peaks[1] < peaks[0] + 20, f"{peaks} MiB"


def test_workers_do_without_torch(tmp_path: Path) -> None:
    import torch  # noqa: F401

    prepare(Made(put_made(tmp_path / "raw", ["torch"] * 6)), tmp_path / "store", jobs=2)
    assert len(Store(tmp_path / "store")) == 6


# The same store from a Ray cluster: here one on this machine, with two workers.

RAY = pytest.mark.xdist_group("ray")  # one cluster for all


@RAY
def test_the_store_is_the_same_by_ray(ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_made(tmp_path / "raw", TEXTS)
    monkeypatch.chdir(tmp_path)
    reader = Made(Path("raw"))  # a task is at home somewhere else
    here = prepare(reader, Path("here"))
    counts: list[int] = []
    there = prepare(reader, Path("there"), engine="ray", jobs=None, progress=lambda n, of: counts.append(n))
    assert there == here
    assert counts[0] == 0
    assert counts[-1] == len(TEXTS)
    for name in (SAMPLES_FILE, "rejected.csv"):
        assert Path("there", name).read_bytes() == Path("here", name).read_bytes()
    assert sorted(os.listdir("there")) == ["rejected.csv", SAMPLES_FILE]


@RAY
def test_what_a_task_raises_is_raised_here_and_the_same_call_goes_on(ray: None, tmp_path: Path) -> None:
    source, out = put_made(tmp_path / "raw", ["ok"] * 6 + ["wrong"]), tmp_path / "store"
    with pytest.raises(SourceError, match="the disk was taken away"):
        prepare(Made(source), out, engine="ray", jobs=1)
    (source / "0006.made").write_text("ok")
    report = prepare(Made(source), out, engine="ray")
    assert replace(report, resumed=0) == prepare(Made(source), tmp_path / "plain")
    assert report.resumed == 6


@RAY
def test_a_lost_worker_is_tried_anew_and_then_reported(ray: None, tmp_path: Path) -> None:
    source = put_made(tmp_path / "raw", ["ok", "kill"])
    assert prepare(Made(source), tmp_path / "store", engine="ray", jobs=2).accepted == 2
    assert (source / "killed").exists()
    (source / "0000.made").write_text("kill always")
    with pytest.raises(WorkerLost, match="a worker process of the cluster was lost"):
        prepare(Made(source), tmp_path / "store", engine="ray", jobs=2)


@RAY
def test_a_reader_that_nodes_do_not_have(ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Made, "__module__", "no_such_module")
    monkeypatch.setitem(sys.modules, "no_such_module", sys.modules["made_reader"])
    with pytest.raises(EngineError, match=r"can't load the reader .*no_such_module.* on every node"):
        prepare(Made(put_made(tmp_path / "raw", ["ok"])), tmp_path / "store", engine="ray")


def test_without_ray_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    reader = Made(put_made(tmp_path / "raw", ["ok"]))
    for engine, reason in (
        ("ray", r"needs Ray; pip install 'hhmnet\[ray\]'"),
        ("steam", "known: local, ray"),
    ):
        with pytest.raises(EngineError, match=reason):
            prepare(reader, tmp_path / "store", engine=engine)
    assert not (tmp_path / "store").exists()
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"raw isn't there on every node of the cluster; put it on"):
        workers._read(reader, str(tmp_path), ["0000.made"])
