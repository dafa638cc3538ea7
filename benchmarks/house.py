"""How large this house is: lines, modules, pinned packages, circles and arrows up; and what ``make test`` takes.

    python benchmarks/house.py [CHECKOUT] [--time] [--json FILE]

Lines are those of ``wc -l`` over ``*.py``. Imports are read from the source, those inside functions and behind
``TYPE_CHECKING`` too; the package's own ``__init__`` is left out, since it only names what lies below.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from common import BenchmarkError, add_json, run, write_report
from grimp import build_graph
from scipy.sparse.csgraph import connected_components

from hhmnet.commands.terminal import Parser, console, table

PACKAGE = "hhmnet"
FLOORS = (
    (),  # modules that lie beside the packages
    ("video",),
    ("pose",),
    ("readers",),
    ("prepare", "preparing"),  # the latter until c6bfb99, as inference below
    ("data",),
    ("models", "losses"),
    ("config", "evaluation", "training"),
    ("predict", "inference", "export"),
    ("serving", "synthetic", "benchmarks"),
    ("commands", "cli", "__main__"),
)
"""A module imports from its own floor and from those above it in this list."""
LIMITS = {"src lines": 22_000, "src modules": 130, "tests lines": 18_000, "circles": 0, "arrows up": 0}


def lines_of(folder: Path) -> list[int]:
    """Lines of every Python file below a folder."""
    return [file.read_bytes().count(b"\n") for file in sorted(folder.rglob("*.py"))]


def imports_of(source: Path) -> dict[str, set[str]]:
    """By every module of the package in ``source``, what it imports of the package."""
    with patch.dict(sys.modules), patch.object(sys, "path", [str(source), *sys.path]):
        sys.modules.pop(PACKAGE, None)  # this checkout's may not be the one that is measured
        graph = build_graph(PACKAGE, cache_dir=None)
    names = sorted(graph.modules - {PACKAGE})
    return {name: graph.find_modules_directly_imported_by(name) - {PACKAGE} for name in names}


def circles_of(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which reaches every other one."""
    names = list(imports)
    graph = np.array([[other in imports[name] for other in names] for name in names])
    _, group = connected_components(graph, connection="strong")
    groups = [[name for name, of in zip(names, group, strict=True) if of == g] for g in np.unique(group)]
    return [members for members in groups if len(members) > 1]


def arrows_up(imports: dict[str, set[str]]) -> list[str]:
    """Imports from a floor that lies below the importing one."""
    floors = {name: floor for floor, names in enumerate(FLOORS) for name in names}

    def floor_of(module: str) -> int:
        return floors.get(module.split(".")[1], 0)

    pairs = ((name, other) for name, others in imports.items() for other in sorted(others))
    return [f"{name} -> {other}" for name, other in pairs if floor_of(name) < floor_of(other)]


def time_tests(checkout: Path) -> dict[str, float]:
    """Minutes of ``make test``: processor time of all its processes, and the clock's."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    if subprocess.run(["make", "test"], cwd=checkout, stdout=sys.stderr).returncode:
        raise BenchmarkError(f"{checkout}: make test failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"make test, processor min": processor / 60, "make test, min": (time.monotonic() - began) / 60}


def main(words: list[str]) -> None:
    """Measure a checkout, and print a table."""
    parser = Parser("house.py", "Lines, modules, pins and imports of a checkout.")
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("checkout", nargs="?", type=Path, default=here, help="folder (this checkout)")
    parser.add_argument("--time", action="store_true", help="run make test there, too, and time it")
    add_json(parser)
    options = parser.parse_args(words)
    if not (options.checkout / "src" / PACKAGE).is_dir():
        raise BenchmarkError(f"{options.checkout}: not a checkout of {PACKAGE}")
    source, tests = lines_of(options.checkout / "src"), lines_of(options.checkout / "tests")
    imports = imports_of(options.checkout / "src")
    circles, arrows = circles_of(imports), arrows_up(imports)
    figures: dict[str, Any] = {
        "src lines": sum(source),
        "src modules": len(source),
        "longest module": max(source),
        "tests lines": sum(tests),
        "pinned packages": (options.checkout / "constraints.txt").read_text().count("=="),
        "circles": len(circles),
        "arrows up": len(arrows),
    } | (time_tests(options.checkout) if options.time else {})
    view = table(str(options.checkout), "", ">is", ">at most")
    for name, value in figures.items():
        shown = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        view.add_row(name, shown, f"{LIMITS[name]:,}" if name in LIMITS else "")
    out = console(stderr=False)
    out.print(view)
    for line in (*(", ".join(circle) for circle in circles), *arrows):
        out.print(line)
    write_report(figures | {"circle": circles, "up": arrows}, options.json)


if __name__ == "__main__":
    sys.exit(run(main))
