from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hhmnet.cli import main as hhmnet

# The benchmarks are scripts beside the package: found by their folder, as when one of them is run.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A study's trainings run in this process; these are the commands that it started."""
    import study_runs

    started: list[list[str]] = []

    class InProcess:
        """Stands in for Popen: runs the very command."""

        def __init__(self, command: list[str], **more: Any) -> None:
            assert command[1:3] == ["-m", "hhmnet"]
            started.append(command)
            self.returncode = hhmnet(command[3:])

        def poll(self) -> int:
            return self.returncode

    monkeypatch.setattr(study_runs, "Popen", InProcess)
    return started


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[int, str], None]:
    """Checks that a study ended as one does that its caller can put right: with a line that says so."""

    def check(status: int, message: str) -> None:
        err = capsys.readouterr().err
        assert status == 2
        assert message in err
        assert len(err.splitlines()) == 1

    return check
