from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

import hhmnet
from hhmnet import cli
from hhmnet.cli import main
from hhmnet.commands import terminal
from hhmnet.commands.terminal import console, counting, duration
from hhmnet.store import StoreError


def python(*words: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **more)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Puts a command ``fail`` in place that raises what it is given, or does it."""

    def install(fault) -> None:
        monkeypatch.setattr(cli, "fail", Mock(side_effect=fault), raising=False)
        monkeypatch.setitem(cli.COMMANDS, "fail", ("hhmnet.cli:fail", "fails"))

    return install


def test_help_version_and_what_is_no_command(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hhmnet {hhmnet.__version__}\n"
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"  {name} " in shown
        assert main([name, "--help"]) == 0
        captured = capsys.readouterr()
        assert f"usage: hhmnet {name}" in captured.out
        assert captured.err == ""
    usage = "usage: hhmnet COMMAND"
    for words, text in (("", usage), ("trian", "did you mean 'train'?"), ("xyzzy", "known: ")):
        assert main(words.split()) == 2
        captured = capsys.readouterr()
        assert text in captured.err
        assert captured.out == ""


def test_light_commands_do_not_import_torch(store_folder, raw_folder, tmp_path):
    script = (
        "import sys; from hhmnet.cli import main\n"
        "assert main(['--help']) == 0\n"
        f"source, out = {str(raw_folder)!r}, {str(tmp_path / 'store')!r}\n"
        "assert main(['prepare', 'nw_ucla', '--source', source, '--out', out]) == 0\n"
        f"assert main(['inspect', {str(store_folder)!r}, '--json']) == 0\n"
        "heavy = {'torch', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (StoreError("store x:\n  damaged"), "store x: damaged"),
        (PermissionError(13, "Permission denied", "/a"), "/a: Permission denied; see to its permissions"),
        (
            OSError(28, "No space left", f"/a/.b.csv.{'0' * 32}.tmp"),
            "/a/b.csv: No space left; make room there",
        ),
        (FileExistsError(17, "File exists", "/a/b"), "/a/b: is a file; name a folder"),
    ],
)
def test_our_own_errors_and_what_the_system_refuses_are_one_line(failing, capsys, error, text):
    failing(error)
    assert main(["fail"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"hhmnet fail: error: {text}")
    assert told.count("\n") == 1


def test_our_faults_keep_their_traceback_and_signals_exit_with_130(failing, capsys):
    failing(KeyError("bug"))
    with pytest.raises(KeyError, match="bug"):
        main(["fail"])
    failing(KeyboardInterrupt())
    assert main(["fail"]) == 130
    assert capsys.readouterr().err == "hhmnet fail: interrupted\n"
    cleaned = []

    def wait(words: list[str]) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)
        return 0

    failing(wait)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["fail"]) == 130
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_program_that_ends_a_pipe_early_or_fails(store_folder: Path):
    """As processes: what Python itself does at their end counts, too."""
    fails = "import sys; from hhmnet import cli; cli.COMMANDS['fail'] = ('hhmnet.skeleton:missing', ''); "
    fault = python("-c", fails + "sys.exit(cli.main(['fail']))")
    assert (fault.returncode, "Traceback" in fault.stderr) == (1, True)
    mistake = python("-m", "hhmnet", "inspect", "/nowhere")
    assert (mistake.returncode, mistake.stdout, mistake.stderr.count("\n")) == (2, "", 1)
    assert mistake.stderr.startswith("hhmnet inspect: error: no store at /nowhere")
    inspect = f"{sys.executable} -m hhmnet inspect {store_folder} --json --sample a01_s01_e00_v01"
    words = ["bash", "-o", "pipefail", "-c", f"{inspect} | head -c 20"]
    cut = subprocess.run(words, capture_output=True, text=True)
    assert (cut.returncode, cut.stderr) == (0, "")


def test_a_duration() -> None:
    assert [duration(text) for text in ("90s", "9m", "1.5h", "0.25")] == [90, 540, 5400, 0.25]
    for wrong in ("-9m", "9m 9m", "0", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"write 90s, 9m or 1\.5h"):
            duration(wrong)


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(terminal, "monotonic", lambda: now)
    with counting(console(), "reading", "files") as progress:
        for done in range(500, 1001, 10):  # 500 were there before
            progress(done, 1000)
            now += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "reading 550/1,000 files, 10 files/s, 0:00:45 left"
