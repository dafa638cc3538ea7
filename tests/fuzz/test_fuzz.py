"""Whatever is read: an answer or one clear error, in bounded time and memory.

``make test`` gives each target a fixed handful of damaged inputs. ``make test-long`` goes on for minutes, from another
place each day; HHMNET_FUZZ_SECONDS is the time of each target, HHMNET_FUZZ_SEED decides the inputs.
HHMNET_FUZZ_REPORT is a file that gets a line of JSON for each target, HHMNET_FUZZ_KEEP a folder for inputs that failed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hunt import hunt, report
from targets import World, targets

from hhmnet.cli import COMMANDS

COMMAND_NAMES = [f"hhmnet_{name}" for name in (*COMMANDS, "nothing")]
READERS = "nw_ucla nw_ucla_pairing ntu pyskl folder labels utd_mhad skeleton_file layout"
OTHERS = "store configuration scores model checkpoint crops onnx video upload"
NAMES = (*COMMAND_NAMES, *OTHERS.split(), *READERS.split())
SHORT = 40
FEWER = {"configuration": 15, "hhmnet_prepare": 4, "hhmnet_train": 3, "hhmnet_serve": 3}


@pytest.mark.parametrize("name", NAMES)
def test_a_handful(name: str, world: World, tmp_path: Path) -> None:
    found = {target.name: target for target in targets(world)}
    if name not in found:
        pytest.skip("exporting needs pip install 'hhmnet[export]'")
    most = FEWER.get(name, SHORT)
    outcome = hunt(found[name], tmp_path, seed=1, seconds=600, most=most)
    assert not outcome.finds, str(outcome)
    assert outcome.executions == most
    assert outcome.refusals > most / 8, str(outcome)  # else the damage would reach nothing


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_for_minutes(name: str, world: World, tmp_path: Path) -> None:
    found = {target.name: target for target in targets(world)}
    if name not in found:
        pytest.skip("exporting needs pip install 'hhmnet[export]'")
    seconds, seed = (
        float(os.environ.get("HHMNET_FUZZ_SECONDS", "20")),
        int(os.environ.get("HHMNET_FUZZ_SEED", "2")),
    )
    outcome = hunt(found[name], tmp_path, seed=seed, seconds=seconds)
    if "HHMNET_FUZZ_REPORT" in os.environ:
        report(outcome, Path(os.environ["HHMNET_FUZZ_REPORT"]))
    assert not outcome.finds, str(outcome)
