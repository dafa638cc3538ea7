"""Runs that torchrun starts, and what becomes of them when a process or the time is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import distributed

from hhmnet.cli import main
from hhmnet.training import checkpoint

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo"),
]

PATIENCE = 3600
ENDLESS = ("--optim.epochs", "5000", "--run.checkpoint_every", "1")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start():
    """A function that starts a command of hhmnet in two processes."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str | Path) -> subprocess.Popen[str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
        process = subprocess.Popen(
            [sys.executable, *torchrun, "-m", "hhmnet", *map(str, words)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def words(store_folder, recipe, tmp_path):
    """A training into ``run``."""
    return ["train", "--config", str(recipe), "--data", str(store_folder), "--out", str(tmp_path / "run")]


def ended(process: subprocess.Popen[str]) -> str:
    """What a process has said when it ends."""
    return process.communicate(timeout=PATIENCE)[0]


def wait_for(file: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < end, f"{file} doesn't come"
        time.sleep(0.2)


def children(process: subprocess.Popen[str]) -> list[int]:
    """Process numbers of the two trainings, the one that writes first."""
    found, parents = {}, [process.pid]
    while parents:
        child = Path(f"/proc/{parents.pop()}")
        words = (child / "cmdline").read_bytes().split(b"\0")
        variables = (child / "environ").read_bytes().split(b"\0")
        if b"hhmnet" in words and {b"RANK=0", b"RANK=1"} & set(variables):
            found.setdefault(b"RANK=1" in variables, int(child.name))
        parents += map(int, (child / "task" / child.name / "children").read_text().split())
    return [found[False], found[True]]


def test_sigterm_stops_both_with_a_checkpoint_and_one_process_goes_on(start, words, tmp_path):
    process = start(*words, *ENDLESS)
    wait_for(tmp_path / "run" / checkpoint.FILE)
    process.send_signal(signal.SIGTERM)
    assert "interrupted after step" in ended(process)
    assert not (tmp_path / "run" / ".lock").exists()
    step = checkpoint.read_progress(tmp_path / "run").step
    assert main([*words, *ENDLESS, "--resume", "--time-limit", "1s"]) == 0
    assert checkpoint.read_progress(tmp_path / "run").step > step


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_other_with_a_word(start, words, tmp_path, rank):
    run = tmp_path / "run"
    process = start(*words, *ENDLESS)
    wait_for(run / checkpoint.FILE)
    os.kill(children(process)[rank], signal.SIGKILL)
    text = ended(process)
    assert process.returncode != 0
    load_file(run / checkpoint.FILE)
    # torchrun may end the other process before it has noticed; then it has stopped as it does at SIGTERM.
    assert (f"process {2 - rank} of 2 stops: another one has ended" in text) or "SIGTERM" in text
    assert "Traceback" not in text.partition("torch/distributed/elastic")[0]
    assert main([*words, *ENDLESS, "--resume", "--time-limit", "1s"]) == 0
