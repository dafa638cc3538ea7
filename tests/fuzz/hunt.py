"""Gives a target damaged inputs, and stops at what is neither an answer nor one clear error."""

from __future__ import annotations

import faulthandler
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

CPU_SECONDS = 20.0  # what one input may take; a hundred times what a whole one does
HUNG_SECONDS = 3600.0  # then, in C code where no signal helps, the process says where it is and ends
MEGABYTES = 700  # how much more memory one input may take than was in use before
CEILING = 3 << 30  # address space beyond what is there that the process gets; the machine must survive a find


class TooSlow(BaseException):
    """One input took all of its time."""


class Outcome(NamedTuple):
    """How many inputs there were, how many of them got an answer, and how many kinds of refusals the others."""

    executions: int
    answers: int
    refusals: int


Attempt = Callable[[random.Random, Path], Any]


def hunt(
    attempt: Attempt, names: tuple[str, ...], folder: Path, *, seed: int, seconds: float, most: int
) -> Outcome:
    """Give a target at most so many inputs, one after the other, until the time on the clock is over.

    ``attempt`` makes an input in a folder and has it read. Input n depends on the seed and on n alone; the last one
    stays in the folder, also where it ends the process. One of ``names``, if there are any, must stand in every error.
    Raises AssertionError at the first input with which something is wrong.
    """
    answers, executions, reasons, ends = 0, 0, set[str](), time.monotonic() + seconds
    while executions < most and time.monotonic() < ends:
        shutil.rmtree(folder / "input", ignore_errors=True)
        (folder / "input").mkdir(parents=True)
        said = f"input {executions} of seed {seed}"
        Path("/proc/self/clear_refs").write_text("5")  # what is in use now becomes the highest that there was
        before = _peak()
        try:
            with _limits():
                attempt(random.Random(f"{seed}/{executions}"), folder / "input")
            answers += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            fault = fault_of(error, names)
            assert not fault, f"{said}: {fault}"
            reasons.add("".join(c for c in str(error) if c.isalpha() or c == " ")[-60:])
        assert (grown := (_peak() - before) / 1024) <= MEGABYTES, f"{said} took {grown:.0f} MB"
        executions += 1
    return Outcome(executions, answers, len(reasons))


def fault_of(error: BaseException, names: tuple[str, ...] = ()) -> str:
    """What is wrong with an error that a user sees; "" if it is one of ours, in one line, that names the input."""
    ours = any(kind.__module__.partition(".")[0] == "hhmnet" for kind in type(error).__mro__)
    if not ours or not isinstance(error, ValueError):
        return type(error).__name__
    text = str(error)
    if not text.strip() or "\n" in text.strip():
        return f"{type(error).__name__} of several lines, or none"
    if names and not any(name in text for name in names):
        return f"{type(error).__name__} that names none of {names}: {text[:200]}"
    return ""


@contextmanager
def _limits() -> Iterator[None]:
    """Time and address space for one input."""

    def too_slow(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, too_slow)
    space = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + CEILING, space[1]))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, space)


def _peak() -> int:
    """The most memory that was in use, in kilobytes."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
