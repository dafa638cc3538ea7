from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import choose_tests, mirrored
from mutations import Mutant, mutants_of

ROOT = Path(__file__).parents[2]

SOURCE = '''"""Says what it is."""

import torch

LIMIT = 3


def first(x, y, dim: int = 1):
    """Says what it does."""
    if not x.any() and len(y) < LIMIT:
        raise ValueError("too short: -1 + 1")
    total = x + 2 * y
    total = torch.maximum(total, y)
    return total.sum(dim, keepdim=True).detach() if x is y else (x - y).T
'''


def after(text: str = SOURCE) -> set[str]:
    """The changed lines, white space folded."""
    return {mutant.shown(text).split("  =>  ")[1] for mutant in mutants_of(text)}


@pytest.mark.parametrize(
    "line",
    [
        "LIMIT = 4",
        "def first(x, y, dim: int = 2):",
        "if False:",
        "if True:",
        "if (not x.any()) or (len(y) < LIMIT):".replace("(not", "((not").replace("LIMIT):", "LIMIT)):"),
        "if x.any() and len(y) < LIMIT:",
        "if not x and len(y) < LIMIT:",
        "if not x.any() and len(y) <= LIMIT:",
        "if not x.any() and len(y) >= LIMIT:",
        "pass",
        "total = (x - (2 * y))",
        "total = x + (2 / y)",
        "total = total",
        "total = torch.maximum(y, total)",
        "return total.sum(dim).detach() if x is y else (x - y).T",
        "return total.sum(dim, keepdim=True) if x is y else (x - y).T",
        "return total.sum(dim, keepdim=True).detach() if x is not y else (x - y).T",
        "return total.sum(dim, keepdim=True).detach() if True else (x - y).T",
        "return total.sum(dim, keepdim=True).detach() if x is y else (x - y)",
        "return total.sum(dim, keepdim=True).detach() if x is y else ((x + y)).T",
    ],
)
def test_faults(line: str) -> None:
    assert line in after()


def test_what_only_speaks_is_left_alone() -> None:
    changed = {SOURCE.encode()[mutant.start : mutant.end].decode() for mutant in mutants_of(SOURCE)}
    assert not any("Says" in text for text in changed)
    assert [text for text in changed if "too short" in text] == ['raise ValueError("too short: -1 + 1")']
    assert (
        mutants_of("import numpy as np\n\n\ndef f(x: int) -> str:\n    assert x > 0\n    return f'{x + 1}'\n")
        == []
    )


def test_every_fault_is_another_module_that_compiles() -> None:
    texts = [mutant.applied(SOURCE) for mutant in mutants_of(SOURCE)]
    assert len(set(texts)) == len(texts) > 25
    for text in texts:
        compile(text, "mutant", "exec")


def test_letters_of_several_bytes_shift_nothing() -> None:
    text = "NAME = 'Größe'\nCOUNT = len('äöü') + 1  # ß\n"
    assert "COUNT = (len('äöü') - 1) # ß" in after(text)


def test_own_tests_come_first_then_the_quick_ones_as_far_as_the_time_goes() -> None:
    names = ["tests/a/test_other.py::quick", "tests/a/test_made.py::slow", "tests/a/test_made.py::quick"]
    found = {
        "seconds": {**dict(zip(names, (0.1, 3.0, 0.2), strict=True)), "tests/a/test_other.py::far": 9.0},
        "lines": {"src/hhmnet/a/made.py": {"3": ["", names[1], names[2]], "4": [names[0]], "9": [""]}},
    }

    def chosen(first: int, last: int, most: float) -> list[str]:
        return choose_tests(Mutant("", first, last, 0, 1, ""), "src/hhmnet/a/made.py", found, most)

    assert chosen(3, 4, 10) == [names[2], names[1], names[0]]
    assert chosen(3, 4, 1) == [names[2], names[0]]
    assert chosen(4, 4, 0.01) == [names[0]]
    assert chosen(9, 9, 99) == [names[2], names[1], names[0], "tests/a/test_other.py::far"]


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("src/hhmnet/losses.py", "tests/test_losses.py"),
        ("src/hhmnet/models/stst.py", "tests/models"),
        ("src/hhmnet/readers/ntu/bodies.py", "tests/readers"),
    ],
)
def test_where_the_tests_are(file: str, tests: str) -> None:
    assert mirrored(file) == tests


def test_faults_are_killed_or_told_of(tmp_path: Path) -> None:
    """The whole program on a module of two functions, of which the tests check one."""
    pytest.importorskip("coverage")
    (tmp_path / "src/hhmnet").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "src/hhmnet/__init__.py").touch()
    (tmp_path / "src/hhmnet/made.py").write_text(
        "def double(x):\n    return x * 2\n\n\ndef half(x):\n    return x / 2\n"
    )
    (tmp_path / "tests/test_made.py").write_text(
        "from hhmnet.made import double, half\n\n\n"
        "def test_double():\n    assert double(3) == 6\n\n\ndef test_half():\n    half(2)\n"
    )
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = [
        sys.executable,
        str(ROOT / "benchmarks/mutants.py"),
        "src/hhmnet/made.py",
        "--json",
        "found.jsonl",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert "| `src/hhmnet/made.py` | 4 | 4 | 2 | 2 |" in done.stdout
    told = done.stderr.splitlines()
    assert [line.split("  =>  ")[1] for line in told] == ["return (x * 2)", "return x / 3"]
    again = subprocess.run(
        [*command[:3], "--again", "found.jsonl"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "| 4 | 2 | 0 | 2 |" in again.stdout
    (tmp_path / "tests/test_made.py").write_text("def test_it():\n    assert False\n")
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "the tests fail without any fault" in refused.stderr
