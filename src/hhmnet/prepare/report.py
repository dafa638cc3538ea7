"""What comes of preparing a data set: how much was taken, what was left out and why."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hhmnet.files import replacing

REJECTED_FILE = "rejected.csv"


class PrepareError(ValueError):
    """A data set of which no store could be made."""


class Rejected(NamedTuple):
    """A raw item that was left out: its name (a path relative to the source), the line if known, and why."""

    file: str
    line: int | None
    reason: str


@dataclass
class PrepareReport:
    """What came of preparing a data set.

    Attributes:
        accepted: number of samples in the store.
        rejected: the items left out, in the order they were met.
        frames: number of frames of all samples.
        counts: number of samples per ``"class"``, ``"subject"``, ``"camera"`` and ``"setup"``.
        notes: what the reader did to the data of these samples, and how often.
        resumed: number of items that an earlier, interrupted call had read.
    """

    accepted: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    frames: int = 0
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {key: Counter() for key in ("class", "subject", "camera", "setup")}
    )
    notes: Counter[str] = field(default_factory=Counter)
    resumed: int = 0


def printable(file: str, line: int | None, reason: str) -> Rejected:
    """A file's name need not be text, nor a reason one line; what is listed and printed must."""
    file, reason = (text.encode(errors="backslashreplace").decode() for text in (file, reason))
    return Rejected(file, line, " ".join(reason.split()))


def write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    """List the rejected items in a CSV file that :func:`read_rejected` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Rejected._fields)
    writer.writerows(rejected)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def read_rejected(path: Path) -> list[Rejected]:
    """The rejected items that a CSV file lists."""
    with open(path, encoding="utf-8", newline="") as handle:
        rows = list(csv.reader(handle))[1:]
    return [Rejected(file, int(line) if line else None, reason) for file, line, reason in rows]
