"""The same store from a Ray cluster: here one on this machine, with two workers."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hhmnet.prepare import WorkerLost, prepare, workers
from hhmnet.prepare.parts import PARTS_FOLDER
from hhmnet.prepare.workers import EngineError
from hhmnet.readers import SourceError
from hhmnet.store import SAMPLES_FILE
from made_reader import Made, MadeConfig, put_made

pytestmark = pytest.mark.xdist_group("ray")  # one cluster for all
TEXTS = ["ok 3", "two 4", "bad 2", "same", "full 5", "ok 1", "same", "two 2", "nan", "ok 9", "full 1"]


def test_the_store_is_the_same_bit_for_bit(
    ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_what_a_task_raises_is_raised_here_and_the_same_call_goes_on(ray: None, tmp_path: Path) -> None:
    source, out = put_made(tmp_path / "raw", ["ok"] * 6 + ["wrong"]), tmp_path / "store"
    with pytest.raises(SourceError, match="the disk was taken away"):
        prepare(Made(source), out, engine="ray", jobs=1)
    assert len(list((out / PARTS_FOLDER).rglob("*.json"))) == 2
    (source / "0006.made").write_text("ok")
    report = prepare(Made(source), out, engine="ray")
    assert replace(report, resumed=0) == prepare(Made(source), tmp_path / "plain")
    assert report.resumed == 6


def test_a_lost_worker_is_tried_anew_and_then_reported(ray: None, tmp_path: Path) -> None:
    source = put_made(tmp_path / "raw", ["ok", "kill"])
    assert prepare(Made(source), tmp_path / "store", engine="ray", jobs=2).accepted == 2
    assert (source / "killed").exists()
    (source / "0000.made").write_text("kill always")
    with pytest.raises(WorkerLost, match="a worker process of the cluster was lost"):
        prepare(Made(source), tmp_path / "store", engine="ray", jobs=2)


def test_a_reader_that_the_nodes_do_not_have(
    ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Made, "__module__", "no_such_module")
    monkeypatch.setitem(sys.modules, "no_such_module", sys.modules["made_reader"])
    with pytest.raises(EngineError, match=r"can't load the reader .*no_such_module.* on every node"):
        prepare(Made(put_made(tmp_path / "raw", ["ok"])), tmp_path / "store", engine="ray")


def test_a_source_that_a_node_does_not_see(tmp_path: Path) -> None:
    reader = Made(put_made(tmp_path / "raw", ["ok"]))
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    with pytest.raises(
        SourceError, match=r"raw isn't there on every node of the cluster; put it on a shared"
    ):
        workers._read(reader, str(tmp_path), ["0000.made"])


def test_without_ray_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    source = put_made(tmp_path / "raw", ["ok"])
    with pytest.raises(EngineError, match=r"needs Ray; pip install 'hhmnet\[ray\]'"):
        prepare(Made(source, MadeConfig()), tmp_path / "store", engine="ray")
    assert not (tmp_path / "store").exists()
