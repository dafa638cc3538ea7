"""The command line: imports the chosen command only, and turns what goes wrong into an exit code."""

from __future__ import annotations

import difflib
import gc
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from hhmnet import __version__
from hhmnet.allocator import keep_freed_memory
from hhmnet.fields import brief
from hhmnet.files import remedy

# Name of a command → where its function is, and what it does. torch takes seconds to import, so a command's
# module is imported when it is chosen and not before.
COMMANDS = {
    "prepare": ("hhmnet.commands.prepare:main", "turn the raw files of a data set into a store"),
    "inspect": ("hhmnet.commands.inspect:main", "show what a store holds, or one of its clips"),
    "train": ("hhmnet.commands.train:main", "train a model on a store"),
    "evaluate": ("hhmnet.commands.evaluate:main", "measure a trained model on a store"),
    "enroll": ("hhmnet.commands.enroll:main", "make a model of your own classes from a few examples of each"),
    "predict": ("hhmnet.commands.predict:main", "name the action in videos and skeleton files"),
    "live": ("hhmnet.commands.live:main", "name the action before a camera, while it happens"),
    "serve": ("hhmnet.commands.serve:main", "answer over HTTP, with a page for the browser"),
    "export": ("hhmnet.commands.export:main", "write a trained model as an ONNX file"),
    "ensemble": ("hhmnet.commands.ensemble:main", "join the scores of several models into one answer"),
    "bench": ("hhmnet.commands.bench:main", "measure how fast a recipe trains and answers here"),
    "doctor": ("hhmnet.commands.doctor:main", "say what is installed, on what machine, and what is missing"),
    "demo": ("hhmnet.commands.demo:main", "all of these in a row, on made-up sample data"),
}

# Those that run networks for long, and want the memory of one step again in the next.
NETWORKED = {"train", "evaluate", "enroll", "predict", "live", "serve"}

DONE, OUR_FAULT, CALLERS_MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """Run one command, by the words after the program's name; this process's own by default.

    Returns 0 when done, 2 after a mistake of the caller's (one line on standard error says which), 1 where a process of
    ours was killed, 130 after Ctrl-C or SIGTERM. A fault of ours is raised, so Python shows the traceback and exits
    with 1.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if words is None else list(words)
    name, *rest = words or [""]
    if name in ("-h", "--help"):
        print(_help())
        return DONE
    if name == "--version":
        print(f"hhmnet {__version__}")
        return DONE
    if not name:
        print(_help(), file=sys.stderr)
        return CALLERS_MISTAKE
    if name not in COMMANDS:
        near = difflib.get_close_matches(name[:50], COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(COMMANDS)}"
        print(f"hhmnet: error: unknown command '{_shown(name[:50])}'; {hint}", file=sys.stderr)
        return CALLERS_MISTAKE
    with _terminable():
        return _run(name, rest)


def program() -> int:
    """The program ``hhmnet``: one command in a process of its own."""
    code = main()
    gc.freeze()  # Python looks through all objects of torch at the end otherwise, for a third of a second
    return code


def _run(name: str, words: list[str]) -> int:
    # OpenMP's threads wait for each other by spinning, for long: with another process on the cores a step takes up
    # to ten times as long. A short spin costs next to nothing on an idle machine (results/performance.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if name in NETWORKED:
        keep_freed_memory()
    module, _, function = COMMANDS[name][0].partition(":")
    try:
        code: int = getattr(import_module(module), function)(words)
        sys.stdout.flush()
    except SystemExit as leaving:  # argparse leaves this way after --help
        return DONE if leaving.code is None else int(leaving.code)
    except KeyboardInterrupt:
        print(f"hhmnet {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output (`| head`) has enough. Python would try to write the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        ours = any(kind.__module__.partition(".")[0] == "hhmnet" for kind in type(error).__mro__)
        if not ours and not isinstance(error, OSError):  # what one line doesn't explain
            raise
        print(f"hhmnet {name}: error: {_one_line(error)}", file=sys.stderr)
        return getattr(error, "exit_code", CALLERS_MISTAKE)
    return code


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        # A file is written under a temporary name first, which says nothing to the caller.
        name = re.sub(r"\.([^/]+)\.[0-9a-f]{32}\.tmp$", r"\1", str(error.filename or ""))
        reason = "is a file; name a folder" if isinstance(error, FileExistsError) else error.strerror
        text = (f"{name}: {reason}" if name else reason) + remedy(error)
    return brief(_shown(" ".join(text.split())), 1000)


def _shown(text: str) -> str:
    """A text in which nothing steers the terminal: what a file or an argument holds is quoted on it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return (
        f"usage: hhmnet COMMAND [options]\n\nAction recognition from skeletons and video.\n\n{lines}\n\n"
        "hhmnet COMMAND --help says more about a command; hhmnet --version shows the version."
    )


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that temporary files go away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
