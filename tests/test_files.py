from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import filelock
import pytest

from hhmnet import files
from hhmnet.files import LOCK_FILE, LockedError, append, locked, remove_leftovers, replacing

HALF = ".a.csv.0123456789abcdef0123456789abcdef.tmp"


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_file_appears_whole_or_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"old")

    def fail() -> None:
        with replacing(file) as handle:
            handle.write(b"new")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert file.read_bytes() == b"old"
    if isinstance(error, OSError):
        assert caught.value.filename == str(file), "a full disk doesn't name the file"
    with replacing(file) as handle:
        handle.write(b"new")
        handle.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.csv"]


WRITER = """
import sys
from pathlib import Path
from hhmnet.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"theirs")
    print(file.name, flush=True)
    sys.stdin.read()
"""


def test_leftovers_are_told_from_what_others_write_now(tmp_path: Path) -> None:
    """Whatever the clock says: the leftover looks new, the living file old."""
    file = tmp_path / "a.csv"
    command = [sys.executable, "-c", WRITER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        living = Path(writer.stdout.readline().strip())
        os.utime(living, (0, 0))
        (tmp_path / HALF).write_bytes(b"half")
        os.utime(tmp_path / HALF, (time.time() + 1e6,) * 2)
        with replacing(file) as handle:
            handle.write(b"ours")
        assert sorted(os.listdir(tmp_path)) == sorted(["a.csv", living.name])
        remove_leftovers(tmp_path)
        assert living.exists()
        writer.communicate("")
    assert writer.returncode == 0
    assert file.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_a_file_taken_for_a_leftover_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our making the file and our locking it, another process removes it."""
    flock, removed = files.fcntl.flock, []

    def late(handle, how) -> None:
        if not removed:
            removed.append(handle.name)
            os.unlink(handle.name)
        flock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", late)
    with replacing(tmp_path / "a.csv") as handle:
        handle.write(b"new")
    assert len(removed) == 1
    assert (tmp_path / "a.csv").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_without_locks_files_are_written_and_leftovers_stay(tmp_path, monkeypatch):
    refuse = Mock(side_effect=OSError(errno.ENOLCK, "No locks available"))
    monkeypatch.setattr(files.fcntl, "flock", refuse)
    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    (tmp_path / HALF).write_bytes(b"perhaps alive")
    with replacing(tmp_path / "a.csv") as handle:
        handle.write(b"new")
    assert sorted(os.listdir(tmp_path)) == sorted(["a.csv", HALF])
    with locked(tmp_path, "training"), locked(tmp_path, "training"):
        pass


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    append(file, b"one\n")
    append(file, b"two\n")
    assert file.read_bytes() == b"one\ntwo\n"
    script = (
        "import resource, sys; from pathlib import Path; from hhmnet.files import append\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: append(Path(sys.argv[1]), b'three\\n')\n"
        "except OSError as error: print(error.filename)\n"
    )
    told = subprocess.check_output([sys.executable, "-c", script, str(file)], text=True)
    assert told.strip() == str(file)
    assert file.read_bytes() == b"one\ntwo\n"


def hold(folder: Path) -> None:
    with locked(folder, "training"):
        (folder / "held").touch()
        time.sleep(600)


def refused(folder: Path) -> None:
    with pytest.raises(LockedError, match="another training is at work"), locked(folder, "training"):
        pass


def test_one_process_at_a_time_and_a_killed_one_keeps_nobody_out(tmp_path: Path) -> None:
    """A loader's worker that outlives its killed parent must not keep the next run out: it neither holds nor frees."""
    fork = multiprocessing.get_context("fork")
    other = fork.Process(target=hold, args=(tmp_path,))
    other.start()
    while not (tmp_path / "held").exists():
        assert other.is_alive()
        time.sleep(0.01)
    refused(tmp_path)
    other.kill()
    other.join()
    assert sorted(os.listdir(tmp_path)) == [LOCK_FILE, "held"]
    with locked(tmp_path, "training"):
        child = fork.Process(target=time.sleep, args=(600,))
        child.start()
        refused(tmp_path)
        child.kill()
        child.join()
        refused(tmp_path)
    assert os.listdir(tmp_path) == ["held"]
    with pytest.raises(OSError, match="none") as error, locked(tmp_path / "none", "training"):
        pass
    assert error.value.filename == str(tmp_path / "none")
