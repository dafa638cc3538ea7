from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hhmnet import lock
from hhmnet.lock import LOCK_FILE, LockedError, locked


def test_one_at_a_time(tmp_path: Path) -> None:
    with (
        locked(tmp_path, "training"),
        pytest.raises(LockedError, match=r"another training is at work"),
        locked(tmp_path, "training"),
    ):
        pass
    with locked(tmp_path, "training"):
        pass


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with locked(tmp_path, "training"):
        assert os.listdir(tmp_path) == [LOCK_FILE]
    assert os.listdir(tmp_path) == []


def test_a_lock_on_a_removed_file_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our opening the file and our locking it, the process before us ends and removes it."""
    flock = lock.fcntl.flock
    calls = []

    def late(handle, how) -> None:
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / LOCK_FILE).unlink()
        flock(handle, how)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with locked(tmp_path, "training"):
        assert len(calls) == 2
        with pytest.raises(LockedError), locked(tmp_path, "training"):
            pass


def test_another_process_is_kept_out_and_a_dead_one_is_not(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from hhmnet.lock import locked\n"
        f"with locked(Path({str(tmp_path)!r}), 'training'):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        with pytest.raises(LockedError), locked(tmp_path, "training"):
            pass
        process.kill()
        process.wait()
    with locked(tmp_path, "training"):
        pass
