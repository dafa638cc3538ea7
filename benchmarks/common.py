"""What the benchmarks share: mistakes of the caller, numbers above 0, the machine, and the report of ``--json``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hhmnet.commands.terminal import Parser, UsageError, console
from hhmnet.files import replacing
from hhmnet.training.logs import environment

BUSY = 0.5
"""Load of the last minute from which on a machine counts as busy."""


class BenchmarkError(UsageError):
    """A measurement that can't be made; the message says what to change."""


def process_mib(field: str) -> float | None:
    """A field of this process's memory status, such as ``VmRSS`` or ``VmHWM``, in MiB; None where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields[field].split()[0]) / 1024


def positive(kind: Callable[[str], float]) -> Callable[[str], Any]:
    """A type for argparse: an int or float above 0."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
        return value

    return convert


def add_json(parser: Parser) -> None:
    """``--json FILE``."""

    def writable(text: str) -> Path:
        if not Path(text).parent.is_dir():
            raise argparse.ArgumentTypeError(f"{text}: there is no folder {Path(text).parent}; make it first")
        return Path(text)

    parser.add_argument("--json", type=writable, metavar="FILE", help="write the report there too")


def machine(device: torch.device | None = None) -> dict[str, Any]:
    """Versions, commit, processor and the last minute's load; says so where the machine was busy."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None and load > BUSY:
        console().print(
            f"The machine was busy in the last minute (load {load:.1f} on {os.cpu_count()} cores); if it still is, "
            "speeds come out too low and ratios rough."
        )
    return environment(device or torch.device("cpu")) | {"cores": os.cpu_count(), "load_before": load}


def write_report(document: dict[str, Any], file: Path | None) -> None:
    """Write the report of ``--json``, whole or not at all; nothing without a file."""
    if file is not None:
        with replacing(file) as handle:
            handle.write((json.dumps(document, indent=1) + "\n").encode())


def run(main: Callable[[list[str]], None], words: list[str] | None = None) -> int:
    """Run a benchmark; what its caller can put right is one line on standard error and exit code 2."""
    try:
        main(sys.argv[1:] if words is None else words)
    except Exception as error:
        if not (
            isinstance(error, OSError) or any("hhmnet" in kind.__module__ for kind in type(error).__mro__)
        ):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
