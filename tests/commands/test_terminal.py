from __future__ import annotations

import argparse

import pytest

from hhmnet.commands import terminal
from hhmnet.commands.terminal import console, counting, duration


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("9m", 540), ("1.5h", 5400), ("0.25", 0.25)])
def test_duration(text: str, seconds: float) -> None:
    assert duration(text) == seconds
    for wrong in (f"-{text}", f"{text} {text}", "0", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"write 90s, 9m or 1\.5h"):
            duration(wrong)


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(terminal, "monotonic", lambda: now)
    with counting(console(), "reading", "files") as progress:
        for done in range(500, 1001, 10):  # 500 were there before
            progress(done, 1000)
            now += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "reading 550/1,000 files, 10 files/s, 0:00:45 left"
    with counting(console(), "reading", "files") as progress:
        progress(0, 114_000)
        now += 10
        progress(10, 114_000)
    assert capsys.readouterr().err == "reading 10/114,000 files, 1.0 files/s, 1 day, 7:39:50 left\n"
