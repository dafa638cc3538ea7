from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from hhmnet.files import LOCK_FILE, LockedError, locked


def test_one_at_a_time_and_nothing_is_left_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path, "training"):
            assert os.listdir(tmp_path) == [LOCK_FILE]
            with (
                pytest.raises(LockedError, match=r"another training is at work"),
                locked(tmp_path, "training"),
            ):
                pass
        assert os.listdir(tmp_path) == []


def test_another_process_is_kept_out_and_a_killed_one_is_not(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from hhmnet.files import locked\n"
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
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(tmp_path) == [LOCK_FILE]
    with locked(tmp_path, "training"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_neither_holds_nor_frees_the_lock(tmp_path: Path) -> None:
    """A loader's worker that outlives its killed parent must not keep the next run out."""
    with locked(tmp_path, "training"):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        try:
            with pytest.raises(LockedError), locked(tmp_path, "training"):
                pass
        finally:
            child.kill()
            child.join()
        with pytest.raises(LockedError), locked(tmp_path, "training"):
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none") as error, locked(tmp_path / "none", "training"):
        pass
    assert error.value.filename == str(tmp_path / "none")


def test_without_locks_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: filelock.FileLock) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    with locked(tmp_path, "training"), locked(tmp_path, "training"):
        pass
