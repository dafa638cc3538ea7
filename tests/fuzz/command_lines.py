"""The command line as a target: any words at all to any command."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from hhmnet.cli import main
from hhmnet.commands.terminal import UsageError

if TYPE_CHECKING:
    from targets import World

OPTIONS = {
    "prepare": "--source --out --engine --json --layout --labels --units --videos --alignment --classes",
    "inspect": "--sample --json --picture --rois --guidance --videos",
    "train": "--config --data --out --videos --resume --optim.lr --optim.epochs --data.frames --model.widths "
    "--model --fold --fusion.weights --relabel --run.seed --run --protocol --phase --phase1 --augment --augment.tilt",
    "evaluate": "--knock-out --data --split --fold --out --videos --json",
    "predict": "--json --top --modality --videos --units --timeline --window --stride --every --persons",
    "live": "--source --every --window --modality --still --json --for --loop --mirrored",
    "serve": "--port --host --token --no-page --upload_mb --workers --resolution --videos --answer_seconds",
    "export": "--out --data --split --clips --json",
    "ensemble": "--weights --validation --out --json",
    "doctor": "--json",
    "demo": "--out --clips --time-limit",
}
READERS = ("nw_ucla", "ntu60", "ntu120", "pyskl", "folder", "videos", "utd_mhad", "x", "--json")
_WORDS = """
    0 1 -1 2 3 8 1e400 -0.0 nan inf -inf 99999999999999999999 0x1 ٣ 1_0 x true null [] [16,16] {} [[[ all test train
    val none skeleton video m cm joint+bone kinect20 nw_ucla_cross_view -- - --- -h=1 --json=1 --= = @x ~ %s %(prog)s
    {0} $HOME é😀 ../../.. /dev/null /dev/full /proc/self/mem /nowhere/at/all . 127.0.0.1 0.0.0.0 ::1
    a-token-that-is-long-enough 30d 1.5h http://127.0.0.1:9/x pipe:0 tcp://127.0.0.1:9 concat:a|b subfile:x 1s 0s
    nothing.mp4 nothing.onnx nothing.parquet nw_ucla/skeleton org/name
"""
VALUES = [
    *("", " ", "[1, 2]", "{a: b}", "{'a': }", "!!python/none", "&a *a", "a\nb", "a\0b", "\udcff", "\x1b[31m"),
    *("s" * 5000, "[&a [x, x], &b [*a, *a], &c [*b, *b], &d [*c, *c], &e [*d, *d]]", "&a [*a]"),
    *_WORDS.split(),
]
ENDS = dict.fromkeys(("demo", "bench"), "--config nowhere.yaml")
ENDS |= {"prepare": "--jobs 1", "train": "--time-limit 0.01s"}
"""What keeps a call that happens to be right from working for hours."""


def attempt_command(name: str, world: World, rng: random.Random, folder: Path) -> None:
    """Give some words to a command, or to none if its name is ``nothing``."""
    places = _places(name, world, folder)
    words = []
    if name == "prepare":
        words.append(rng.choice(READERS))
    elif rng.random() < 0.8:
        words.append(rng.choice([*places, *VALUES]))
    for _ in range(rng.choice((0, 1, 2, 3, 4, 6))):
        option = rng.choice(OPTIONS.get(name, "--json").split())
        value = rng.choice(places if rng.random() < 0.5 else VALUES)
        words += rng.choice(([option, value], [option, value], [f"{option}={value}"], [option], [value]))
    first = rng.choice([*VALUES, "trian", "-h", "--version", "--help=1"]) if name == "nothing" else name
    run_words([first, *words, *ENDS.get(name, "").split()], folder / "here")


def _places(name: str, world: World, folder: Path) -> list[str]:
    """Things that exist, as far as giving them to the command doesn't start hours of work."""
    garbage = folder / "garbage"
    garbage.mkdir()
    for ending in ("json", "npy", "csv", "yaml", "onnx", "mp4", "parquet", "safetensors", "skeleton", "pkl"):
        (garbage / f"a.{ending}").write_bytes(b"1\0garbage,\xff")
    shutil.copytree(world.run, garbage / "run")
    (garbage / "run/model.safetensors").write_bytes(b"no weights")
    found = [garbage, *garbage.iterdir(), folder / "new", folder]
    if name in ("inspect", "predict", "evaluate", "ensemble", "prepare", "train"):
        found += [world.store, world.recipe, world.clip] * 2
    if name in ("inspect", "predict", "evaluate"):
        found += [world.run] * 4
    return list(map(str, found))


def run_words(words: list[str], here: Path) -> None:
    """Give words to the command line, in a folder of its own.

    Raises:
        UsageError: exit code 2, after one line of error.
        AssertionError: another exit code than 0 and 2, or more than one line of error.
    """
    here.mkdir(exist_ok=True)
    err = io.StringIO()
    with _away(here), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        code = main(words)
    told = err.getvalue()
    errors = [line for line in told.splitlines() if ": error: " in line]
    assert code in (0, 2), f"exit code {code} of {words}: {told[-500:]}"
    assert "Traceback" not in told, told
    if code == 2 and errors:
        # One line, or one an input: a folder may hold several that can't be read.
        assert errors == told.splitlines()[-len(errors) :], f"{words}: {told[-1000:]}"
        assert len(errors) == 1 or words[0] == "predict", f"{words}: {told[-1000:]}"
        assert errors[0].replace("\t", " ").isprintable(), errors[0]
        assert len(errors[0]) < 1500 + sum(map(len, words)), f"{len(errors[0])} characters: {errors[0][:300]}"
        raise UsageError(errors[0])
    assert code == 0 or not words or not words[0], f"no error was named for {words}: {told[-500:]}"


@contextlib.contextmanager
def _away(here: Path) -> Iterator[None]:
    """Another folder, caches of its own, no network, and no server that stays."""
    before = Path.cwd()
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, {"HHMNET_CACHE": str(here / "cache")}))
        for place in ("hhmnet.serving.workers.Workers.start", "uvicorn.Server.run"):
            with contextlib.suppress(ImportError):
                stack.enter_context(patch(place, return_value=None))
        stack.enter_context(patch("huggingface_hub.constants.HF_HUB_OFFLINE", True))
        stack.enter_context(patch("urllib.request.urlopen", side_effect=OSError("there is no network")))
        os.chdir(here)
        try:
            yield
        finally:
            os.chdir(before)
