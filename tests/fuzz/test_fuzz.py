"""Whatever is read: an answer or one clear error, in bounded time and memory.

``make test`` gives each target a fixed handful of damaged inputs. ``make test-long`` goes on for HHMNET_FUZZ_SECONDS
(20) each; HHMNET_FUZZ_SEED decides the inputs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hunt import hunt
from targets import TABLE, World

HANDFUL = 24
FEWER = {"configuration": 8, "onnx": 8, "hhmnet_prepare": 4, "hhmnet_train": 3, "hhmnet_serve": 3}


# The exported model is made once for all tests that need one.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xdist_group("export") if name == "onnx" else ()) for name in TABLE],
)
def test_a_handful(name: str, world: World, tmp_path: Path) -> None:
    (attempt, words), most = TABLE[name], FEWER.get(name, HANDFUL)
    outcome = hunt(partial(attempt, world), words, tmp_path, seed=1, seconds=math.inf, most=most)
    assert outcome.answers < outcome.executions == most  # else the damage would reach nothing


@pytest.mark.long
@pytest.mark.parametrize("name", TABLE)
def test_for_a_while(
    name: str, world: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    attempt, words = TABLE[name]
    seconds = float(os.environ.get("HHMNET_FUZZ_SECONDS", "20"))
    seed = int(os.environ.get("HHMNET_FUZZ_SEED", "2"))
    outcome = hunt(partial(attempt, world), words, tmp_path, seed=seed, seconds=seconds, most=10**9)
    counts = f"{outcome.executions:,} | {seconds / 60:.1f} | {outcome.refusals}"
    record_property("counts", f"| {name} | {counts} |")
