from __future__ import annotations

import argparse
import json

import pytest

from hhmnet.commands import terminal
from hhmnet.commands.terminal import Parser, UsageError, console, counting, duration, print_json, table


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("9m", 540), ("1.5h", 5400), ("30", 30), ("0.25s", 0.25)]
)
def test_duration(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "9 minutes", "-3s", "0", "0m", "1h30m", "m", "nan", "1e3"])
def test_what_is_no_duration(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"write 90s, 9m or 1\.5h"):
        duration(text)


def test_parser_takes_no_shortened_names():
    parser = Parser("hhmnet x", "")
    parser.add_argument("--strict", action="store_true")
    with pytest.raises(UsageError, match="--stric; see hhmnet x --help"):
        parser.parse_args(["--stric"])


def test_console_leaves_brackets_alone(capsys):
    view = table("[a] title", "[b]")
    view.add_row("clip[1].json")
    console().print(view)
    console().print("[red]x")
    err = capsys.readouterr().err
    assert all(text in err for text in ("[a] title", "[b]", "clip[1].json", "[red]x"))


def test_json_holds_every_letter(capsys):
    print_json({"class": "señal", "n": 1})
    assert json.loads(capsys.readouterr().out) == {"class": "señal", "n": 1}


def test_plain_counter_speaks_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(clock)))
    with counting(console(), "reading") as progress:
        for done in range(1, 13):
            progress(done, 12)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 8
    assert all(line.startswith("reading ") and line.endswith("/12") for line in lines)
