"""What the commands share: parsing of their own options, tables, progress and JSON."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from hhmnet.confidence import MOST, RATE
from hhmnet.sample import MODALITIES

DEVICES = ("auto", "cpu", "cuda")
PLAIN_SECONDS = 5.0
"""Without a terminal, progress is a line of text that often."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class UsageError(ValueError):
    """A command line that can't be understood."""


class Parser(argparse.ArgumentParser):
    """argparse with whole option names only, and errors of one line.

    ``fields`` makes what ``--help`` says of the fields that a command takes as flags, too.
    """

    def __init__(
        self, prog: str, description: str, fields: Callable[[], str] = lambda: "", **more: Any
    ) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, **more)
        self._fields = fields

    @property
    def names(self) -> list[str]:
        """Names of the flags, which may be what an unknown one was meant to be."""
        return [name.removeprefix("--") for name in self._option_string_actions]

    def add_shared(self, *names: str) -> None:
        """Add options that several commands have, by their names in ``SHARED``."""
        for name in names:
            self.add_argument(name if name == "model" else f"--{name}", **SHARED[name])

    def format_help(self) -> str:
        """The options, and the fields."""
        fields = self._fields()
        return super().format_help() + (f"\n{fields}" if fields else "")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; but ``--data --`` is an error there, and no empty list."""
        found, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            if action.nargs is None and getattr(found, action.dest, None) == []:
                self.error(
                    f"argument {'/'.join(action.option_strings) or action.dest}: expected one argument"
                )
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage and leaving."""
        raise UsageError(f"{message}; see {self.prog} --help")


def duration(text: str) -> float:
    """Seconds of ``90s``, ``9m``, ``1.5h`` or a plain number; raises argparse's error otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration; write 90s, 9m or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def whole(text: str) -> int:
    """A whole number from 1; raises argparse's error otherwise."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1")
    return int(text)


_MODEL = "trained model: a run or other folder, a name of the zoo, or org/name"
_JSON = "print one JSON document on standard output, and nothing else"
_DEVICE = "where to compute (auto: a GPU if there is one)"
_VIDEOS = "folder of the videos, if they aren't where they were"
_MODALITY = "what to go by; twice for both (default: all)"
_UNKNOWN = (
    f"call so many clips of known classes unknown, 0 to {MOST:g}; more, and others are told better ({RATE:g})"
)
SHARED: dict[str, dict[str, Any]] = {
    "model": {"type": Path, "metavar": "MODEL", "help": _MODEL},
    "json": {"action": "store_true", "help": _JSON},
    "device": {"default": "auto", "choices": DEVICES, "help": _DEVICE},
    "videos": {"type": Path, "metavar": "DIR", "help": _VIDEOS},
    "modality": {"action": "append", "choices": MODALITIES, "help": _MODALITY},
    "unknown": {"type": float, "default": RATE, "metavar": "RATE", "help": _UNKNOWN},
}
"""Options that several commands have, as argparse takes them."""


class Terminal(Console):
    """A console on which tables are wrapped, and lines aren't: what they name can be copied."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print lines or tables; see rich."""
        super().print(*objects, **{"soft_wrap": all(isinstance(one, str) for one in objects)} | options)


def console(stderr: bool = True) -> Console:
    """Standard error, for what happens, or standard output, for results."""
    # File names may hold what rich takes for markup.
    return Terminal(stderr=stderr, markup=False, emoji=False, highlight=False)


def print_json(document: dict[str, Any] | list[Any]) -> None:
    """The one JSON document of ``--json``, on standard output."""
    json.dump(document, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def table(title: str, *columns: str, rows: Iterable[Iterable[str]] = ()) -> Table:
    """A table, to which more rows can be added; a column whose name begins with ``>`` is set to the right."""
    view = Table(title=title, title_justify="left")
    for column in columns:
        view.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for row in rows:
        view.add_row(*row)
    return view


@contextmanager
def counting(log: Console, label: str, unit: str) -> Iterator[Callable[..., None]]:
    """A callback that shows a bar, or now and then a line where there is no terminal.

    It is given what is ``done`` and the ``total``, and perhaps a ``text`` that says so; the ``last`` one is printed
    whenever it comes. Pace and time left count from the first call on, so work that was done before doesn't flatter
    them.
    """
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}")
    with Progress(*columns, console=log, disable=not log.is_terminal) as bar:
        task, shown = bar.add_task(label, total=None, figures=""), monotonic()
        first: tuple[int, float] | None = None

        def show(done: int, total: int, text: str = "", last: bool = False) -> None:
            nonlocal first, shown
            now = monotonic()
            first = first or (done, now)
            figures, made = text or f"{done:,}/{total:,} {unit}", done - first[0]
            if made > 0 and now > first[1]:
                pace = made / (now - first[1])
                left = timedelta(seconds=round((total - done) / pace))
                figures += "" if text else f", {pace:,.{0 if pace >= 10 else 1}f} {unit}/s,"
                figures += f" {left} left"
            bar.update(task, completed=done, total=total, figures=figures)
            if not log.is_terminal and (last or now - shown >= PLAIN_SECONDS):
                shown = now
                log.print(f"{label} {figures}".strip())

        yield show
