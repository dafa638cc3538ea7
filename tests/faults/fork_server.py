"""Runs commands in forks of one process that has imported everything, and kills them when it is told to.

A run of its own takes seconds to import torch, so that a moment drawn at random would mostly fall into that. A fork is
in the command's own work from its first moment on. The process that is forked is the standard library's fork server.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

MODULES = """
    hhmnet.commands.prepare hhmnet.commands.train hhmnet.commands.export hhmnet.commands.evaluate hhmnet.commands.crops
    hhmnet.readers.nw_ucla hhmnet.evaluation.figures torch.utils.tensorboard torch.onnx torch._dynamo torch._inductor
    onnxscript onnx_ir pandas pyarrow.parquet pyarrow.pandas_compat matplotlib.backends.backend_agg
"""
_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
"""Python's audit events of what changes files."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int  # the exit code, or minus the number of the signal
    seconds: float  # of processor time that it took, without its workers
    changes: int  # of files in the watched folder that it began
    pid: int  # its process, and its session
    told: str  # what it printed

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return self.told.rstrip().rpartition("\n")[2]


class Fault(NamedTuple):
    """What is done to a command on its way."""

    after: float | None = None  # it is killed after so many seconds of its processor time
    change: int | None = None  # the rest happens before the change of watched files that has this number
    about: str = ""  # only changes count that have this in the file's path
    send: int = signal.SIGKILL
    to: str = "program"  # or "group" for all its processes, "worker" for one of those that it started
    away: str = ""  # what is renamed instead of sending a signal: to the same name with .away
    limit: int | None = None  # bytes that a file can have at most
    jump: float = 0.0  # seconds by which the clock jumps back and ahead at every look at it


class Server:
    """What runs commands; ``folder`` is where they are given and where what they print lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(MODULES.split())

    def run(
        self, words: Sequence[str], fault: Fault | None, watched: Path, environment: dict[str, str]
    ) -> Ended:
        """Run what a user types behind ``hhmnet`` to its end, and count the changes of files in ``watched``."""
        log, fault = self.folder / "log", fault or Fault()
        log.unlink(missing_ok=True)
        counted, counting = self._context.Pipe(duplex=False)
        request = (list(words), fault, str(watched), environment, log, counting)
        process = self._context.Process(target=_become, args=request)
        process.start()
        counting.close()
        while fault.after is not None and process.is_alive():
            with contextlib.suppress(OSError):
                if sum(map(int, _stat(process.pid)[11:13])) / os.sysconf("SC_CLK_TCK") >= fault.after:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            time.sleep(0.005)
        changes, seconds = 0, 0.0
        with contextlib.suppress(EOFError):
            while True:
                seconds = counted.recv()
                changes += not seconds
        process.join()
        told = log.read_text(errors="replace") if log.exists() else ""
        return Ended(process.exitcode, seconds, changes, process.pid, told)


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = _stat(int(entry.name))
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def _stat(process: int) -> list[str]:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _become(
    words: list[str], fault: Fault, watched: str, environment: dict[str, str], log: Path, counting: Connection
) -> None:
    """Run the command as a process of its own would; tells of each change of files, and at last the seconds."""
    os.setsid()
    os.chdir(log.parent)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    for target in (1, 2):
        os.dup2(output, target)
    multiprocessing.set_start_method(None, force=True)  # the system's own again
    os.environ.update(environment)
    tempfile.tempdir = None  # found anew, by this environment
    left, me = fault.change, os.getpid()

    def note(event: str, details: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in _CHANGES or os.getpid() != me:
            return
        path, mode = str(details[0]), details[2] if event == "open" else os.O_WRONLY
        is_change = isinstance(mode, int) and mode & (os.O_WRONLY | os.O_RDWR)
        if not is_change or not path.startswith(watched) or fault.about not in path:
            return
        counting.send(0.0)
        left = None if left is None else left - 1
        if left == -1:
            _act(fault)

    from hhmnet.cli import COMMANDS, main
    from hhmnet.commands import crops

    COMMANDS["crops"] = "small_world:cut", "what train and evaluate do before they look at videos"
    crops.cores = lambda: 1  # starting other processes takes longer than all their work
    sys.addaudithook(note)
    if fault.jump:
        steps = itertools.cycle((0, fault.jump, -fault.jump))
        clock = time.time
        time.time = lambda: clock() + next(steps)
    if fault.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.limit, fault.limit))
    code = main(words)
    counting.send(time.process_time())
    sys.stdout.flush()
    os._exit(code)  # taking a thousand modules apart takes longer than the command


def _act(fault: Fault) -> None:
    """Do to this process what is asked for."""
    if fault.away:
        os.rename(fault.away, fault.away + ".away")
    elif fault.to == "group":
        os.killpg(os.getpid(), fault.send)
    elif fault.to == "worker":
        os.kill(multiprocessing.active_children()[-1].pid, fault.send)
    else:
        os.kill(os.getpid(), fault.send)
