"""Runs commands in forks of one process that has imported everything, and kills them when it is told to.

A run of its own takes seconds to import torch, so that a moment drawn at random would mostly fall into that. A fork is
in the command's own work from its first moment on. Requests and answers are lines of JSON, see :class:`Server`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import itertools
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

MODULES = """
    hhmnet.commands.prepare hhmnet.commands.train hhmnet.commands.cache hhmnet.commands.export hhmnet.commands.evaluate
    hhmnet.readers.nw_ucla hhmnet.evaluation.figures torch.utils.tensorboard torch.onnx torch._dynamo torch._inductor
    onnxscript onnx_ir pandas pyarrow.parquet pyarrow.pandas_compat matplotlib.backends.backend_agg
"""
_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
"""Python's audit events of what changes files."""


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: exit code, or minus the number of the signal.
        seconds: of processor time that it took, without its workers.
        changes: how many changes of files in the watched folder it began.
        pid: its process, and its session.
        told: what it printed.
    """

    code: int
    seconds: float
    changes: int
    pid: int
    told: str

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return self.told.rstrip().rpartition("\n")[2]


class Fault(NamedTuple):
    """What is done to a command on its way.

    Attributes:
        after: it is killed after so many seconds of its processor time.
        change: the rest happens when it is about to change watched files for the time of this number, from 0.
        about: only changes count that have this in the file's path.
        send: the signal that is sent then.
        to: to whom: ``program``, ``group`` for all its processes, ``worker`` for one of those that it started.
        away: what is renamed then instead of sending a signal: to the same name with ``.away``.
        limit: bytes that a file can have at most.
        jump: seconds by which the clock jumps back and ahead at every look at it.
    """

    after: float | None = None
    change: int | None = None
    about: str = ""
    send: int = signal.SIGKILL
    to: str = "program"
    away: str = ""
    limit: int | None = None
    jump: float = 0.0


class Server:
    """The client's side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, __file__]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=folder
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._ask, self._answers = self._process.stdin, self._process.stdout

    def run(
        self, words: Sequence[str], fault: Fault | None, watched: Path, environment: dict[str, str]
    ) -> Ended:
        """Run what a user types behind ``hhmnet`` to its end, and count the changes of files in ``watched``."""
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        given = {"words": words, "watched": str(watched), "environment": environment, "log": str(log)}
        print(json.dumps((fault or Fault())._asdict() | given), file=self._ask, flush=True)
        answer = json.loads(self._answers.readline())
        return Ended(**answer, told=log.read_text(errors="replace"))

    def close(self) -> None:
        """End the server."""
        self._ask.close()
        self._process.wait()


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = _stat(int(entry.name))
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def _serve() -> dict[str, Any] | None:
    """Serve to the end of the requests; in a fork, return what it is to run."""
    for name in MODULES.split():
        with contextlib.suppress(ImportError):
            import_module(name)
    gc.collect()
    gc.freeze()  # else each fork copies what its collector touches
    for line in sys.stdin:
        request = json.loads(line)
        counting, counted = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(counting)
            return request | {"counted": counted}
        os.close(counted)
        status = _wait(child, request["after"])
        with open(counting) as handle:
            changes, _, seconds = handle.read().rpartition(".")
        answer = {"code": os.waitstatus_to_exitcode(status), "seconds": float(seconds or 0) / 1000}
        print(json.dumps(answer | {"changes": len(changes), "pid": child}), flush=True)
    return None


def _wait(child: int, after: float | None) -> int:
    """Wait for a command, or kill it after so many seconds of its processor time; its status."""
    while after is not None:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        if sum(map(int, _stat(child)[11:13])) / os.sysconf("SC_CLK_TCK") >= after:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.005)
    return os.waitpid(child, 0)[1]


def _stat(process: int) -> list[str]:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _act(request: dict[str, Any]) -> None:
    """Do to this process what is asked for."""
    if request["away"]:
        os.rename(request["away"], request["away"] + ".away")
    elif request["to"] == "group":
        os.killpg(os.getpid(), request["send"])
    elif request["to"] == "program":
        os.kill(os.getpid(), request["send"])
    else:
        os.kill(multiprocessing.active_children()[-1].pid or 0, request["send"])


def _become(request: dict[str, Any]) -> int:
    """Run the command as a process of its own would."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(request["log"], os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(number, target)
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # found anew, by this environment
    left, me = request["change"], os.getpid()

    def note(event: str, details: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in _CHANGES or os.getpid() != me:
            return
        path, mode = str(details[0]), details[2] if event == "open" else os.O_WRONLY
        if not path.startswith(request["watched"]) or request["about"] not in path:
            return
        if isinstance(mode, int) and mode & (os.O_WRONLY | os.O_RDWR):
            os.write(request["counted"], b".")
            if left is not None:
                left -= 1
                if left < 0:
                    left = None
                    _act(request)

    sys.addaudithook(note)
    from hhmnet.cli import main
    from hhmnet.commands import cache

    cache.cores = lambda: 1  # starting other processes takes longer than all their work
    if request["jump"]:
        steps = itertools.cycle((0, request["jump"], -request["jump"]))
        clock = time.time
        time.time = lambda: clock() + next(steps)
    if request["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    code = main(request["words"])
    os.write(request["counted"], f".{time.process_time() * 1000:.0f}".encode())
    return code


if __name__ == "__main__":
    given = _serve()
    if given is not None:
        ended = _become(given)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended)  # taking a thousand modules apart takes longer than the command
