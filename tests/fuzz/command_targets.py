"""The command line as a target: any words at all to any command."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hunt import Target

from hhmnet.cli import COMMANDS, main
from hhmnet.commands.terminal import UsageError

if TYPE_CHECKING:
    from targets import World

OPTIONS = {
    "prepare": "--source --out --strict --json --layout --labels --units --videos --alignment --focal --classes",
    "inspect": "--sample --json --picture --attention --rois --guidance --videos",
    "train": "--config --data --out --from --videos --resume --optim.lr --optim.epochs --data.frames --model.widths "
    "--model --fold --fusion.weights --relabel --run.seed --run --protocol --phase --phase1 --augment --augment.tilt",
    "evaluate": "--data --split --fold --out --videos --json",
    "predict": "--json --top --modality --videos --units --timeline --window --stride --every --persons",
    "live": "--source --view --every --window --persons --modality --top --json --for --loop --estimator",
    "serve": "--port --host --token --no-page --upload_mb --workers --resolution --videos --answer_seconds",
    "export": "--out --data --split --clips --json",
    "ensemble": "--weights --validation --out --json",
    "embedding": "--data --split --fold --out --json",
    "cache": "--videos --folder --older-than --json --instants --cell --scene clear",
    "doctor": "--json",
    "demo": "--out --data --clips --time-limit",
}
VALUES = [
    *(
        "0",
        "1",
        "-1",
        "2",
        "3",
        "8",
        "1e400",
        "-0.0",
        "nan",
        "inf",
        "-inf",
        "99999999999999999999",
        "0x1",
        "٣",
        "1_0",
    ),
    *(
        "",
        " ",
        "x",
        "true",
        "null",
        "[]",
        "[1, 2]",
        "[16,16]",
        "{}",
        "{a: b}",
        "[[[",
        "{'a': }",
        "!!python/none",
        "&a *a",
    ),
    *(
        "all",
        "test",
        "train",
        "val",
        "none",
        "skeleton",
        "video",
        "m",
        "cm",
        "joint+bone",
        "kinect20",
        "nw_ucla_cross_view",
    ),
    *(
        "--",
        "-",
        "---",
        "-h=1",
        "--json=1",
        "--=",
        "=",
        "@x",
        "~",
        "%s",
        "%(prog)s",
        "{0}",
        "$HOME",
        "a\nb",
        "é😀",
        "\udcff",
    ),
    *(
        "\x1b[31m",
        "a\0b",
        "../../..",
        "/dev/null",
        "/dev/full",
        "/proc/self/mem",
        "/nowhere/at/all",
        ".",
        "s" * 5000,
    ),
    *(
        "[&a [x, x], &b [*a, *a], &c [*b, *b], &d [*c, *c], &e [*d, *d]]",
        "&a [*a]",
        "127.0.0.1",
        "0.0.0.0",
        "::1",
        "a-token-that-is-long-enough",
        "30d",
        "1.5h",
        "http://127.0.0.1:9/x",
        "pipe:0",
    ),
    *(
        "tcp://127.0.0.1:9",
        "concat:a|b",
        "subfile:x",
        "1s",
        "0s",
        "nothing.mp4",
        "nothing.onnx",
        "nothing.parquet",
    ),
]
FEW = ["--jobs", "1"]


def command_targets(world: World) -> list[Target]:
    """One target a command, and one for what is no command."""
    return [Target(f"hhmnet_{name}", _command(name, world)) for name in [*COMMANDS, "nothing"]]


def _places(name: str, world: World, folder: Path) -> list[str]:
    """Things that exist, as far as giving them to the command doesn't start hours of work."""
    garbage = folder / "garbage"
    garbage.mkdir()
    for ending in ("json", "npy", "csv", "yaml", "onnx", "mp4", "parquet", "safetensors", "skeleton", "pkl"):
        (garbage / f"a.{ending}").write_bytes(b"1\0garbage,\xff")
    shutil.copytree(world.run, garbage / "run")
    (garbage / "run/model.safetensors").write_bytes(b"no weights")
    found = [
        str(garbage),
        str(garbage / "run"),
        *map(str, garbage.iterdir()),
        str(folder / "new"),
        str(folder),
    ]
    if name in ("inspect", "predict", "evaluate", "embedding", "ensemble", "prepare", "train"):
        found += [str(world.store), str(world.recipe), str(world.clip)] * 2
    if name in ("inspect", "predict", "evaluate", "embedding"):
        found += [str(world.run)] * 4
    return found


def _command(name: str, world: World) -> Callable[[random.Random, Path], None]:
    def attempt(rng: random.Random, folder: Path) -> None:
        places = _places(name, world, folder)
        words = [*_begin(rng, name, places), *_words(rng, name, places)]
        if name == "nothing":
            words, first = words[1:], rng.choice([*VALUES, "trian", "-h", "--version", "--help=1"])
        else:
            first = name
        run_words([first, *words, *_end(name)], folder / "here")

    return attempt


def _begin(rng: random.Random, name: str, places: list[str]) -> list[str]:
    if name == "prepare":
        return [
            rng.choice(("nw_ucla", "ntu60", "ntu120", "pyskl", "folder", "videos", "utd_mhad", "x", "--json"))
        ]
    return [rng.choice([*places, *VALUES])] if rng.random() < 0.8 else []


def _words(rng: random.Random, name: str, places: list[str]) -> list[str]:
    words = []
    for _ in range(rng.choice((0, 1, 2, 3, 4, 6))):
        option = rng.choice(OPTIONS.get(name, "--json").split())
        value = rng.choice(places if rng.random() < 0.5 else VALUES)
        words += rng.choice(([option, value], [option, value], [f"{option}={value}"], [option], [value]))
    return words


def _end(name: str) -> list[str]:
    """What keeps a call that happens to be right from working for hours."""
    ends = {
        "prepare": FEW,
        "cache": FEW,
        "train": ["--time-limit", "0.01s"],
        "demo": ["--config", "nowhere.yaml"],
        "bench": ["--config", "nowhere.yaml"],
    }
    return ends.get(name, [])


def run_words(words: list[str], here: Path) -> str:
    """Give words to the command line, in a folder of its own; returns standard error.

    Raises:
        UsageError: exit code 2, after one line of error.
        AssertionError: another exit code than 0 and 2, or more than one line of error.
    """
    here.mkdir(exist_ok=True)
    out, err = io.StringIO(), io.StringIO()
    with _away(here), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    said = err.getvalue()
    errors = [line for line in said.splitlines() if ": error: " in line]
    assert code in (0, 2), f"exit code {code} of {words}: {said[-500:]}"
    assert "Traceback" not in said, said
    if code == 2 and errors:
        assert errors == said.splitlines()[-1:], f"{words}: {said[-1000:]}"
        assert errors[0].replace("\t", " ").isprintable(), errors[0]
        assert len(errors[0]) < 1500 + sum(map(len, words)), f"{len(errors[0])} characters: {errors[0][:300]}"
        raise UsageError(errors[0])
    else:
        assert code == 0 or not words or not words[0], f"no error was named for {words}: {said[-500:]}"
    return said


@contextlib.contextmanager
def _away(here: Path) -> Iterator[None]:
    """Another folder, caches of its own, and no server that stays."""
    before, nothing = Path.cwd(), {"HHMNET_CACHE": str(here / "cache")}

    def no(*_: Any, **__: Any) -> None:
        return None

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, nothing))
        for place in ("hhmnet.serving.workers.Workers.start", "uvicorn.Server.run"):
            with contextlib.suppress(ImportError):
                stack.enter_context(patch(place, no))
        stack.enter_context(patch("urllib.request.urlopen", side_effect=OSError("there is no network")))
        os.chdir(here)
        try:
            yield
        finally:
            os.chdir(before)
