"""Gives a target damaged inputs for a while, and notes whatever is neither an answer nor one clear error."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

CPU_SECONDS = 20.0
"""What one input may take; a hundred times what a whole one does."""
HUNG_SECONDS = 400.0
"""After so long without an end, in C code where no signal helps, the process says where it is and ends."""
MEGABYTES = 700
"""How much more memory one input may take than was in use before."""
CEILING = 3 << 30
"""Address space beyond what is there that the process gets; the machine must survive a find."""


class TooSlow(BaseException):
    """One input took all of its time."""


@dataclass(frozen=True)
class Target:
    """What takes input from outside.

    Attributes:
        name: what it is called.
        attempt: makes an input in a folder and has it read; the string it returns names the kind of answer.
        names: one of these stands in every error, so that a user knows what it is about; none if ().
    """

    name: str
    attempt: Callable[[random.Random, Path], Any]
    names: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What came of a hunt."""

    target: str
    executions: int = 0
    answers: int = 0
    refusals: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    finds: dict[str, str] = field(default_factory=dict)
    """By what happened and where: the whole story, with the number of the execution."""
    reasons: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        head = (
            f"{self.target}: {self.executions} executions in {self.seconds:.1f} s, {self.answers} answers, "
            f"{self.refusals} refusals of {len(self.reasons)} kinds, {len(self.finds)} finds"
        )
        return "\n".join([head, *self.finds.values()])


def hunt(
    target: Target, folder: Path, *, seed: int, seconds: float, most: int = 10**9, first: int = 0
) -> Outcome:
    """Give the target input after input until the time is over.

    The same seed gives the same inputs, whatever the time: input n depends on the seed and on n alone.

    Args:
        target: what is tried.
        folder: for the inputs; the last one stays there, also where it ends the process.
        seed: of the inputs.
        seconds: how long, on the clock.
        most: how many at the most.
        first: number of the first input.
    """
    outcome, began, computed = Outcome(target.name), time.monotonic(), time.process_time()
    for number in range(first, first + most):
        if time.monotonic() - began > seconds:
            break
        _one(target, folder / "input", seed, number, outcome)
    outcome.seconds, outcome.cpu_seconds = time.monotonic() - began, time.process_time() - computed
    return outcome


def _one(target: Target, folder: Path, seed: int, number: int, outcome: Outcome) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    outcome.executions += 1
    before = _reset_peak()
    problem = ""
    try:
        with _limits():
            target.attempt(random.Random(f"{seed}/{number}"), folder)
        outcome.answers += 1
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        problem = fault_of(error, target.names)
        if problem:
            story = "".join(traceback.format_exception(error, limit=-8))[-4000:]
            _note(outcome, f"{problem} in {_where(error)}", f"input {number} of seed {seed}\n{story}", folder)
        else:
            outcome.refusals += 1
            outcome.reasons.add(_kind(str(error)))
    grown = (_peak() - before) / 2**20
    if grown > MEGABYTES and not problem:
        _note(outcome, "took too much memory", f"input {number} of seed {seed}: {grown:.0f} MB more", folder)


def fault_of(error: BaseException, names: tuple[str, ...] = ()) -> str:
    """What is wrong with an error that a user sees; "" if it is one of ours, in one line, that names the input."""
    ours = any(kind.__module__.partition(".")[0] == "hhmnet" for kind in type(error).__mro__)
    if not ours or not isinstance(error, ValueError):
        return f"{type(error).__name__}"
    text = str(error)
    if not text.strip() or "\n" in text.strip():
        return f"{type(error).__name__} of several lines, or none"
    if names and not any(name in text for name in names):
        return f"{type(error).__name__} that names none of {names}: {text[:200]}"
    return ""


def _note(outcome: Outcome, key: str, story: str, folder: Path) -> None:
    if key not in outcome.finds:
        outcome.finds[key] = f"- {key}: {story}"
        keep = os.environ.get("HHMNET_FUZZ_KEEP")
        if keep:
            place = Path(keep) / f"{outcome.target}-{len(outcome.finds)}-{os.getpid()}"
            shutil.copytree(folder, place, dirs_exist_ok=True)
            (place / "story.txt").write_text(outcome.finds[key])


def _kind(text: str) -> str:
    return "".join(c for c in text if c.isalpha() or c == " ")[-60:]


def _where(error: BaseException) -> str:
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/hhmnet/" in frame.filename]
    return f"{Path(own[-1].filename).name}:{own[-1].name}" if own else "the harness"


@contextmanager
def _limits() -> Iterator[None]:
    """Time and address space for one input."""

    def too_slow(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, too_slow)
    space = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + CEILING, space[1]))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, space)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _reset_peak() -> int:
    """Bytes in use now, which also becomes the highest there was."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def report(outcome: Outcome, file: Path) -> None:
    """Add a line of JSON to a file."""
    with open(file, "a") as handle:
        names = ("target", "executions", "answers", "refusals", "seconds", "cpu_seconds")
        told = {name: getattr(outcome, name) for name in names}
        handle.write(
            json.dumps(told | {"kinds": len(outcome.reasons), "finds": list(outcome.finds.values())}) + "\n"
        )
