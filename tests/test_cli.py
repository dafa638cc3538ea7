from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hhmnet
from hhmnet import cli
from hhmnet.cli import main
from hhmnet.store import StoreError

MAKE_ROOM = "make room there and give the same command again, or name another place"


def python(*words: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, **more)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Puts a command ``fail`` in place that raises what it is given."""

    def install(error: BaseException) -> None:
        def fail(words: list[str]) -> int:
            raise error

        monkeypatch.setattr(cli, "fail", fail, raising=False)
        monkeypatch.setitem(cli.COMMANDS, "fail", ("hhmnet.cli:fail", "fails"))

    return install


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself(name, capsys):
    assert main(["--help"]) == 0
    assert f"  {name} " in capsys.readouterr().out
    assert main([name, "--help"]) == 0
    captured = capsys.readouterr()
    assert f"usage: hhmnet {name}" in captured.out
    assert captured.err == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hhmnet {hhmnet.__version__}\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "usage: hhmnet COMMAND"),
        (["trian"], "hhmnet: error: unknown command 'trian'; did you mean 'train'?\n"),
        (["xyzzy"], "known: prepare, inspect, train, evaluate"),
    ],
)
def test_what_is_no_command_is_a_mistake(words, text, capsys):
    assert main(words) == 2
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


def test_our_own_errors_are_one_line_and_code_2(failing, capsys):
    failing(StoreError("store x:\n  damaged"))
    assert main(["fail"]) == 2
    assert capsys.readouterr().err == "hhmnet fail: error: store x: damaged\n"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PermissionError(13, "Permission denied", "/a/b"),
            "/a/b: Permission denied; see to its permissions, or name another place",
        ),
        (OSError(5, "Input/output error", "/a/b"), "/a/b: Input/output error"),
        (
            OSError(30, "Read-only file system", "/a"),
            "/a: Read-only file system; name a place that can be written",
        ),
        (
            OSError(28, "No space left on device", f"/a/.b.csv.{'0' * 32}.tmp"),
            f"/a/b.csv: No space left on device; {MAKE_ROOM}",
        ),
        (OSError(28, "No space left on device"), f"No space left on device; {MAKE_ROOM}"),
        (FileExistsError(17, "File exists", "/a/b"), "/a/b: is a file; name a folder"),
    ],
)
def test_what_the_system_refuses_names_the_file(failing, capsys, error, text):
    failing(error)
    assert main(["fail"]) == 2
    assert capsys.readouterr().err == f"hhmnet fail: error: {text}\n"


@pytest.mark.parametrize("error", [RuntimeError("bug"), ValueError("bug"), KeyError("bug")])
def test_our_faults_keep_their_traceback(failing, error):
    failing(error)
    with pytest.raises(type(error), match="bug"):
        main(["fail"])


def test_ctrl_c_exits_with_130(failing, capsys):
    failing(KeyboardInterrupt())
    assert main(["fail"]) == 130
    assert capsys.readouterr().err == "hhmnet fail: interrupted\n"


def test_sigterm_cleans_up_and_exits_with_130(monkeypatch, capsys):
    cleaned = []

    def wait(words: list[str]) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)
        return 0

    monkeypatch.setattr(cli, "wait", wait, raising=False)
    monkeypatch.setitem(cli.COMMANDS, "wait", ("hhmnet.cli:wait", "waits"))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["wait"]) == 130
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
    command = (
        f"{sys.executable} -m hhmnet inspect {store_folder} --json --sample a01_s01_e00_v01 | head -c 20"
    )
    words = ["bash", "-o", "pipefail", "-c", command]
    cut = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (cut.returncode, cut.stderr) == (0, "")
