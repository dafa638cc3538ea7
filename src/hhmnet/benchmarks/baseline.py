"""An earlier report of ``hhmnet bench``, and what has become slower since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hhmnet.benchmarks.report import PHASES


class BaselineError(ValueError):
    """An earlier report that can't be compared with."""


def read_baseline(file: Path) -> dict[str, Any]:
    """The report in a file.

    Raises:
        BaselineError: it holds none.
        OSError: it can't be read.
    """
    try:
        report: dict[str, Any] = json.loads(file.read_bytes())
        for case in report["cases"]:
            for phase in PHASES:
                if not case[phase]["ratio"]["median"] > 0:
                    raise ValueError("a ratio isn't above 0")
            if not isinstance(case["about"] | {"name": case["name"]}, dict):
                raise ValueError("a case doesn't say what it is about")
    except (ValueError, KeyError, TypeError) as error:
        raise BaselineError(f"{file}: not a report that hhmnet bench --out wrote ({error})") from None
    return report


def check_alike(case: dict[str, Any], before: dict[str, Any], file: Path) -> dict[str, Any]:
    """The case of an earlier report that measured the same; raises BaselineError naming what differs.

    Args:
        case: ``name`` and ``about``.
        before: the earlier report.
        file: its file, for the message.
    """
    others = {other["name"]: other for other in before["cases"]}
    if case["name"] not in others:
        raise BaselineError(f"{file}: it has no case '{case['name']}', but {', '.join(others)}")
    other: dict[str, Any] = others[case["name"]]
    for field, value in case["about"].items():
        if other["about"].get(field) != value:
            raise BaselineError(
                f"{file}: of the case '{case['name']}' the field '{field}' was {other['about'].get(field)}, and is "
                f"{value} now; measure both alike"
            )
    return other


def slower(report: dict[str, Any], before: dict[str, Any], file: Path, tolerance: float) -> list[str]:
    """What has become slower beside ST-GCN, a line each.

    Args:
        report: of now.
        before: the earlier one.
        file: where that was read, for messages.
        tolerance: by which share of it a ratio may fall.

    Raises:
        BaselineError: see :func:`check_alike`.
    """
    found = []
    for case in report["cases"]:
        other = check_alike(case, before, file)
        for phase in PHASES:
            now, then = case[phase]["ratio"]["median"], other[phase]["ratio"]["median"]
            if now < then * (1 - tolerance):
                found.append(
                    f"{case['name']}, {phase}: {now:.3g} times ST-GCN's speed, it was {then:.3g} "
                    f"({100 * (1 - now / then):.0f} % slower)"
                )
    return found
