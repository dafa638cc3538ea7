"""SIGTERM, Ctrl-C, and two runs in one folder."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

import pytest
from fork_server import Fault
from small_world import World, long, refused, start, until_gone

from hhmnet.files import locked

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs

TERM, CTRL_C = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize(
    ("number", "to", "workers"),
    [
        (TERM, "group", "1"),
        long(TERM, "program", "0"),
        long(CTRL_C, "group", "1"),
        long(TERM, "program", "1"),
    ],
)
def test_training_is_told_to_stop(number: int, to: str, workers: str, world: World, tmp_path: Path) -> None:
    """A scheduler tells the program, or all of its processes."""
    out = tmp_path / "out"
    fault = Fault(change=2, about="log.csv", send=number, to=to)
    ended = world.run("train phase 1", out, "--run.workers", workers, fault=fault)
    command = f"train --data {world.folder}/store --out {out} --resume"
    refused(ended, "interrupted after step", f"go on with: hhmnet {command}", code=130)
    until_gone(ended.pid)
    ended = world.server.run(command.split(), None, out, {})
    assert ended.code == 0, ended.told
    world.check_weights("train phase 1", out)


@pytest.mark.parametrize("number", [TERM, long(CTRL_C)])
@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("prepare", "000001.arrow"),
        ("prepare, two jobs", ""),
        long("crops", ".tmp"),
        long("evaluate", "metrics.json"),
        long("export", "model.onnx"),
    ],
)
def test_others_are_told_to_stop(name: str, about: str, number: int, world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = world.run(name, out, fault=Fault(change=0, about=about, send=number, to="group"))
    refused(ended, code=130)
    assert ended.last == f"hhmnet {world.words(name, out)[0]}: interrupted"
    assert list(out.rglob("*.tmp")) == []
    until_gone(ended.pid)
    world.check_again(name, out)


def test_a_dry_run_is_told_to_stop(world: World, tmp_path: Path) -> None:
    """Its folder for scratch is removed, too."""
    words = ["train", "--config", f"{world.folder}/one.yaml", "--protocol", "utd_mhad", "--dry-run"]
    fault = Fault(change=0, about="samples.arrow", send=TERM, to="group")
    ended = world.server.run(words, fault, tmp_path, {"TMPDIR": str(tmp_path)})
    refused(ended, code=130)
    assert ended.last == "hhmnet train: interrupted"
    until_gone(ended.pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("number", [TERM, CTRL_C])
def test_a_server_is_told_to_stop(number: int, world: World) -> None:
    pytest.importorskip("uvicorn")
    with start(["serve", f"{world.folder}/one", "--port", "0", "--no-page"], world) as process:
        assert process.stderr is not None
        line = next((line for line in process.stderr if "is ready" in line), "")
        address = next(word for word in line.split() if word.startswith("http"))
        assert urllib.request.urlopen(f"{address}/api/v1/health").status == 200
        os.killpg(process.pid, number)
        rest = process.stderr.read()
    assert process.returncode in (0, 130, -number)
    assert "Traceback" not in rest
    until_gone(process.pid)


@pytest.mark.parametrize(
    ("name", "work"),
    [("prepare", "hhmnet prepare"), long("evaluate", "hhmnet evaluate"), long("train phase 1", "training")],
)
def test_a_second_run_in_a_folder_is_refused(name: str, work: str, world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(out, "test"):
        refused(world.run(name, out), f"{out}: another {work} is at work in this folder")
        assert [file.name for file in out.iterdir()] == [".lock"]
    world.check_again(name, out)


@pytest.mark.long
def test_two_exports_at_once_leave_what_one_leaves(world: World, tmp_path: Path) -> None:
    """Their files appear whole, and are the same whoever writes them, so nobody need wait."""
    words = world.words("export", tmp_path / "out")
    with start(words, world) as one, start(words, world) as two:
        ends = [process.communicate() for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), ends
    world.check("export", tmp_path / "out")
