"""SIGTERM, Ctrl-C, and two runs in one folder."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from fork_server import Server
from small_world import World, hhmnet, start
from works import WORKS, Wholes, until_gone

from hhmnet.lock import locked

pytestmark = pytest.mark.xdist_group("faults")  # they share their undisturbed runs

TERM, CTRL_C = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize(
    ("number", "to", "workers"),
    [
        (TERM, "group", "1"),
        pytest.param(TERM, "program", "0", marks=pytest.mark.long),
        pytest.param(CTRL_C, "group", "1", marks=pytest.mark.long),
        pytest.param(TERM, "program", "1", marks=pytest.mark.long),
    ],
)
def test_training_is_told_to_stop(
    number: int, to: str, workers: str, world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    """A scheduler tells the program, or all of its processes."""
    out = tmp_path / "out"
    words = world.train(out, "--run.workers", workers)
    ended = server.run(words, change=2, about="log.csv", watched=out, send=number, to=to)
    assert ended.code == 130, ended.told
    assert "Traceback" not in ended.told
    assert "interrupted after step" in ended.last
    assert f"go on with: hhmnet train --data {world.store} --out {out} --resume" in ended.last
    until_gone(ended.pid)
    ended = server.run(["train", "--data", str(world.store), "--out", str(out), "--resume"])
    assert ended.code == 0, ended.told
    assert (out / "model.safetensors").read_bytes() == whole["train phase 1"].contents["model.safetensors"]


@pytest.mark.parametrize(
    ("number", "to"), [(TERM, "group"), pytest.param(CTRL_C, "group", marks=pytest.mark.long)]
)
@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("prepare", ".json"),
        pytest.param("prepare, two jobs", "", marks=pytest.mark.long),
        pytest.param("cache", ".tmp", marks=pytest.mark.long),
        pytest.param("evaluate", "metrics.json", marks=pytest.mark.long),
        pytest.param("export", "model.onnx", marks=pytest.mark.long),
    ],
)
def test_others_are_told_to_stop(
    name: str, about: str, number: int, to: str, world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = WORKS[name].words(world, out)
    ended = server.run(
        words, change=0, about=about, watched=out, send=number, to=to, environment=world.environment
    )
    assert ended.code == 130, ended.told
    assert "Traceback" not in ended.told
    assert ended.last == f"hhmnet {words[0]}: interrupted"
    assert list(out.rglob("*.tmp")) == []
    until_gone(ended.pid)
    whole.check_again(name, out)


@pytest.mark.parametrize("workers", ["1", pytest.param("0", marks=pytest.mark.long)])
def test_a_dry_run_is_told_to_stop(workers: str, world: World, server: Server, tmp_path: Path) -> None:
    """Its folder for scratch is removed, too."""
    words = ["train", "--config", str(world.recipe), "--data", str(world.store), "--dry-run"]
    words += ["--run.workers", workers, "--run.checkpoint_every", "1"]
    ended = server.run(
        words,
        change=0,
        about="checkpoint",
        watched=tmp_path,
        send=TERM,
        to="group",
        environment={"TMPDIR": str(tmp_path)},
    )
    assert ended.code == 130, ended.told
    assert "Traceback" not in ended.told
    assert ended.last == "hhmnet train: interrupted"
    until_gone(ended.pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("number", [TERM, CTRL_C])
def test_a_server_is_told_to_stop(number: int, world: World) -> None:
    pytest.importorskip("uvicorn")
    with start(["serve", str(world.run), "--port", "0", "--no-page"]) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "is ready" in line:
                break
        else:
            raise AssertionError("the server doesn't start")
        address = next(word for word in line.split() if word.startswith("http"))
        assert urllib.request.urlopen(f"{address}/health", timeout=60).status == 200
        os.killpg(process.pid, number)
        rest = process.stderr.read()
        process.wait(timeout=120)
    assert process.returncode in (0, 130, -number)
    assert "Traceback" not in rest
    until_gone(process.pid)


@pytest.mark.parametrize(
    ("name", "work"),
    [
        pytest.param("evaluate", "hhmnet evaluate", marks=pytest.mark.long),
        ("prepare", "hhmnet prepare"),
        pytest.param("train phase 1", "training", marks=pytest.mark.long),
    ],
)
def test_a_second_run_in_a_folder_is_refused(
    name: str, work: str, world: World, server: Server, whole: Wholes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(out, "test"):
        ended = server.run(WORKS[name].words(world, out))
        assert ended.code == 2
        assert f"{out}: another {work} is at work in this folder" in ended.last
        assert [file.name for file in out.iterdir()] == [".lock"]
    whole.check_again(name, out)


@pytest.mark.long
@pytest.mark.parametrize("name", ["cache", "export"])
def test_two_at_once_leave_what_one_leaves(name: str, world: World, whole: Wholes, tmp_path: Path) -> None:
    """Their files appear whole, and are the same whoever writes them, so nobody need wait."""
    out = tmp_path / "out"
    words = WORKS[name].words(world, out)
    with start(words, world.environment) as one, start(words, world.environment) as two:
        ends = [process.communicate(timeout=600) for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), ends
    whole.check(name, out)


@pytest.mark.long
def test_of_two_trainings_at_once_one_is_refused(world: World, whole: Wholes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start(world.train(out)) as one:
        while not (out / ".lock").exists():
            assert one.poll() is None
            time.sleep(0.01)
        two = hhmnet(world.train(out))
        one.communicate(timeout=600)
    assert one.returncode == 0
    assert two.returncode == 2
    assert "another training is at work" in two.stderr or "holds a run already" in two.stderr
    whole.check("train phase 1", out)
