from __future__ import annotations

import argparse
import json
import re

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
    with counting(console(), "reading", "files") as progress:
        for done in range(13):
            progress(done, 12)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 10
    assert lines[-1].endswith("left")
    assert all(re.match(r"reading \d+/12 files(, 0\.\d files/s, \d:\d\d left)?$", line) for line in lines)


@pytest.mark.parametrize(
    ("calls", "text"),
    [
        ([(0, 9)], "0/9 files"),
        ([(0, 1000), (0, 1000)], "0/1,000 files"),
        ([(0, 1000), (100, 1000)], "100/1,000 files, 10 files/s, 1:30 left"),
        ([(500, 1000), (510, 1000)], "510/1,000 files, 1.0 files/s, 8:10 left"),  # 500 were there before
        ([(0, 114000), (10, 114000)], "10/114,000 files, 1.0 files/s, 31:39:50 left"),
        ([(0, 20), (10, 20), (20, 20)], "20/20 files, 1.0 files/s, 0:00 left"),
    ],
)
def test_pace_and_time_left(monkeypatch, calls, text):
    now = 0.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    pace = terminal._Pace("files")
    for done, total in calls:
        found = pace.describe(done, total)
        now += 10
    assert found == text


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with counting(console(), "reading", "files") as progress:
        progress(0, 3)
        progress(3, 3)
    err = capsys.readouterr().err
    assert "reading" in err
    assert "3/3 files" in err
    assert "━" in err
