"""The batch scripts in examples/slurm, with stand-ins for Slurm's programs and torchrun."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "examples/slurm").glob("*.sbatch"))
BASH = shutil.which("bash")
STAND_INS = {
    "scontrol": 'echo "scontrol $*" >> "$NOTES"; if [ "$1" = show ]; then echo first; echo second; fi',
    "srun": 'echo "srun $1" >> "$NOTES"; shift; exec "$@"',
    "scancel": 'echo "scancel $*" >> "$NOTES"; kill -TERM "$(cat "$NOTES.pid")"',
    "torchrun": 'echo "torchrun $*" >> "$NOTES"; echo $$ > "$NOTES.pid"; eval "$TRAINING"',
}
FINISHES = 'mkdir -p "$(dirname "$NOTES")/run" && touch "$(dirname "$NOTES")/run/model.safetensors"'
STOPPABLE = 'trap \'kill $!; touch "$NOTES.told"; exit 1\' TERM; touch "$NOTES.up"; sleep 600 & wait $!'
ENDS = {
    "finished": (FINISHES, 0, False),
    "the turn is over": ("true", 0, True),
    "mistake": ("exit 2", 2, False),
}

pytestmark = [
    pytest.mark.skipif(BASH is None, reason="there is no bash here"),
    pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem),
]


@pytest.fixture
def start(script: Path, tmp_path: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """A function that starts the script with a training that does what the text says."""
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!{BASH}\n{text}\n")
        (tmp_path / name).chmod(0o755)
    names = {"NOTES": str(tmp_path / "notes"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    slurm = {"SLURM_JOB_ID": "17", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "host[1-2]"}
    words = [str(BASH), str(script), "recipe.yaml", "my store", str(tmp_path / "run"), "--run.seed", "3"]
    return lambda training: subprocess.Popen(words, env=os.environ | names | slurm | {"TRAINING": training})


@pytest.mark.parametrize("end", ENDS)
def test_it_queues_again_only_if_another_turn_helps(start, script: Path, tmp_path: Path, end: str) -> None:
    training, code, again = ENDS[end]
    assert start(training).wait() == code
    notes = (tmp_path / "notes").read_text()
    assert ("scontrol requeue 17" in notes) == again
    line = next(line for line in notes.splitlines() if line.startswith("torchrun"))
    assert f"--config recipe.yaml --data my store --out {tmp_path / 'run'} --resume --time-limit 3.8h" in line
    assert line.endswith("--run.seed 3")
    if script.stem == "many_nodes":  # they meet at the first machine
        meeting = (
            "--nnodes=2 --nproc_per_node=gpu --rdzv_backend=c10d --rdzv_id=17 --rdzv_endpoint=first:29500"
        )
        assert meeting in line


def test_when_slurm_ends_it_the_training_is_told_and_waited_for(start, tmp_path: Path) -> None:
    job = start(STOPPABLE)
    while not (tmp_path / "notes.up").exists():
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.wait() == 0
    assert (tmp_path / "notes.told").exists()
    assert (tmp_path / "notes").read_text().splitlines()[-1] == "scontrol requeue 17"
