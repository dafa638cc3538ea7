"""What the commands share: parsing of their own options, tables, progress and JSON."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_SECONDS = 5.0
"""Without a terminal, progress is a line of text that often."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class UsageError(ValueError):
    """A command line that can't be understood."""


class Parser(argparse.ArgumentParser):
    """argparse with whole option names only, and errors of one line."""

    def __init__(self, prog: str, description: str, **more: Any) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, **more)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage and leaving."""
        raise UsageError(f"{message}; see {self.prog} --help")


def duration(text: str) -> float:
    """Seconds of ``90s``, ``9m``, ``1.5h`` or a plain number; raises argparse's error otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration; write 90s, 9m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def console(stderr: bool = True) -> Console:
    """Standard error, for what happens, or standard output, for results."""
    # File names may hold what rich takes for markup.
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def print_json(document: dict[str, Any]) -> None:
    """The one JSON document of ``--json``, on standard output."""
    json.dump(document, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def table(title: str, *columns: str) -> Table:
    """An empty table; a column whose name begins with ``>`` is set to the right."""
    view = Table(title=title, title_justify="left")
    for column in columns:
        view.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return view


@contextmanager
def counting(log: Console, label: str) -> Iterator[Callable[[int, int], None]]:
    """A callback ``(done, all)`` that shows a bar, or now and then a line where there is no terminal."""
    if not log.is_terminal:
        yield _plain_counter(log, label)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=log) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _plain_counter(log: Console, label: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            log.print(f"{label} {done}/{total}")

    return show
