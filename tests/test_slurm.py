"""The batch scripts in examples/slurm, with stand-ins for Slurm's programs and torchrun."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "examples/slurm").glob("*.sbatch"))
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash here")

STAND_INS = {
    "scontrol": 'echo "scontrol $*" >> "$NOTES"; if [ "$1" = show ]; then echo first; echo second; fi',
    "srun": 'echo "srun $1" >> "$NOTES"; shift; exec "$@"',
    "scancel": 'echo "scancel $*" >> "$NOTES"; kill -TERM "$(cat "$NOTES.pid")"',
    "torchrun": 'echo "torchrun $*" >> "$NOTES"; echo $$ > "$NOTES.pid"; eval "$TRAINING"',
}
STOPPABLE = 'trap \'touch "$NOTES.told"; sleep 0.2; exit 1\' TERM; touch "$NOTES.up"; sleep 20 & wait $!'


@pytest.fixture
def start(tmp_path: Path):
    """A function that starts a script with a training that does what the text says."""
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!{BASH}\n{text}\n")
        (tmp_path / name).chmod(0o755)
    names = {"NOTES": str(tmp_path / "notes"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    slurm = {"SLURM_JOB_ID": "17", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "host[1-2]"}

    def start(script: Path, training: str) -> subprocess.Popen[bytes]:
        words = [str(BASH), str(script), "recipe.yaml", "my store", str(tmp_path / "run"), "--run.seed", "3"]
        return subprocess.Popen(words, env=os.environ | names | slurm | {"TRAINING": training})

    return start


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_the_shell_understands_it(script: Path) -> None:
    assert subprocess.run([str(BASH), "-n", str(script)], check=False).returncode == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
@pytest.mark.parametrize(
    ("training", "code", "again"),
    [
        ('mkdir -p "$(dirname "$NOTES")/run" && touch "$(dirname "$NOTES")/run/model.safetensors"', 0, False),
        ("true", 0, True),  # the turn was over
        ("exit 2", 2, False),
    ],
    ids=["finished", "time is up", "mistake"],
)
def test_it_queues_again_only_if_another_turn_helps(
    start, tmp_path: Path, script: Path, training: str, code: int, again: bool
) -> None:
    assert start(script, training).wait(timeout=30) == code
    notes = (tmp_path / "notes").read_text()
    assert ("scontrol requeue 17" in notes) == again
    line = next(line for line in notes.splitlines() if line.startswith("torchrun"))
    assert f"--config recipe.yaml --data my store --out {tmp_path / 'run'} --resume --time-limit 3.8h" in line
    assert line.endswith("--run.seed 3")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_when_slurm_ends_it_the_training_is_told_and_waited_for(start, tmp_path: Path, script: Path) -> None:
    job = start(script, STOPPABLE)
    for _ in range(300):
        if (tmp_path / "notes.up").exists():
            break
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=30) == 0
    assert (tmp_path / "notes.told").exists()
    assert (tmp_path / "notes").read_text().splitlines()[-1] == "scontrol requeue 17"


def test_several_machines_meet_at_the_first_one(start, tmp_path: Path) -> None:
    script = next(script for script in SCRIPTS if script.stem == "many_nodes")
    assert start(script, "true").wait(timeout=30) == 0
    line = next(line for line in (tmp_path / "notes").read_text().splitlines() if line.startswith("torchrun"))
    assert (
        "--nnodes=2 --nproc_per_node=gpu --rdzv_backend=c10d --rdzv_id=17 --rdzv_endpoint=first:29500" in line
    )
