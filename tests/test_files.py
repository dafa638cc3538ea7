from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hhmnet import files
from hhmnet.files import append, made, remove_leftovers, replacing

HALF = ".a.csv.0123456789abcdef0123456789abcdef.tmp"


def test_a_file_appears_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"old")
    with replacing(file) as handle:
        handle.write(b"new")
        handle.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"old")

    def write() -> None:
        with replacing(file) as handle:
            handle.write(b"new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "a.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.csv")
    with pytest.raises(OSError, match="output") as caught, replacing(tmp_path / "a.csv"):
        raise OSError(errno.EIO, "Input/output error")  # perhaps of what is read meanwhile
    assert caught.value.filename is None


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
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
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


def test_without_locks_files_are_written_and_leftovers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle, how) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    (tmp_path / HALF).write_bytes(b"perhaps alive")
    with replacing(tmp_path / "a.csv") as handle:
        handle.write(b"new")
    assert sorted(os.listdir(tmp_path)) == sorted(["a.csv", HALF])


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
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.check_output([sys.executable, "-c", script, str(file)], text=True, env=environment)
    assert told.strip() == str(file)
    assert file.read_bytes() == b"one\ntwo\n"


def test_a_folder_goes_again_if_nothing_comes_into_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), made(tmp_path / "a" / "b"):
        raise ValueError("no")
    assert not (tmp_path / "a" / "b").exists()
    with made(tmp_path / "c"):
        (tmp_path / "c" / "file").touch()
    with pytest.raises(ValueError, match="no"), made(tmp_path / "c"):
        raise ValueError("no")
    assert (tmp_path / "c" / "file").exists()
