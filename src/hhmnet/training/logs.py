"""What a run leaves for people to read: ``log.csv``, TensorBoard events and ``environment.json``."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import hhmnet
from hhmnet.files import append, replacing

LOG_FILE = "log.csv"
ENVIRONMENT_FILE = "environment.json"
TENSORBOARD_FOLDER = "tensorboard"
_TAGS = {
    "loss": "train/loss",
    "accuracy": "train/accuracy",
    "lr": "train/lr",
    "samples_per_second": "speed/samples_per_second",
    "val_top1": "val/top1",
}


@dataclasses.dataclass
class EpochLog:
    """Figures of one epoch, as the log file and the progress bar show them."""

    epoch: int
    loss: float
    accuracy: float
    lr: float
    samples_per_second: float
    seconds: float
    val_top1: float | None


_HEAD = ",".join(field.name for field in dataclasses.fields(EpochLog)) + "\n"


class LogError(ValueError):
    """A log file that can't be gone on with."""


class RunLog:
    """Appends every epoch to ``log.csv`` and, where tensorboard is installed, to TensorBoard's events.

    Args:
        folder: run folder; it exists.
        epochs_done: epochs that the resumed checkpoint has behind it. Rows of later ones, which are about to
            be trained again, are dropped.

    Attributes:
        writer: of TensorBoard's events; None where tensorboard isn't installed.

    Raises:
        LogError: the ``log.csv`` that stands there is none of ours.
    """

    def __init__(self, folder: Path, epochs_done: int = 0) -> None:
        self.file = folder / LOG_FILE
        kept = [row for row in read_log(self.file) if row.epoch <= epochs_done] if self.file.exists() else []
        with replacing(self.file) as handle:
            handle.write("".join([_HEAD, *map(_line, kept)]).encode())
        self.writer: Any = None
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=epochs_done + 1)

    def add(self, log: EpochLog) -> None:
        """Write one epoch's figures; they are on disk when this returns."""
        append(self.file, _line(log).encode())
        if self.writer is not None:
            for name, tag in _TAGS.items():
                if (value := getattr(log, name)) is not None:
                    self.writer.add_scalar(tag, value, log.epoch)
            self.writer.flush()

    def close(self) -> None:
        """Finish the TensorBoard events."""
        if self.writer is not None:
            self.writer.close()


def read_log(file: Path) -> list[EpochLog]:
    """The rows of a ``log.csv``; raises LogError naming the file and line."""
    text = file.read_bytes().decode(errors="replace")
    lines = text[: text.rfind("\n") + 1].splitlines()  # a machine that loses power may leave half a line
    if not lines or lines[0] != _HEAD.strip():
        raise LogError(f"{file}: line 1 must be {_HEAD.strip()}; move the file away")
    found = []
    for number, line in enumerate(lines[1:], start=2):
        epoch, *cells = line.split(",")
        try:
            figures: list[Any] = [float(cell) if cell else None for cell in cells]
            found.append(EpochLog(int(epoch), *figures))
        except (ValueError, TypeError):
            raise LogError(f"{file}: line {number} is not a row of a training log; remove it") from None
    return found


def _line(log: EpochLog) -> str:
    values = dataclasses.astuple(log)
    return (
        ",".join("" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values) + "\n"
    )


def environment(device: torch.device) -> dict[str, Any]:
    """What a run is trained with and on: versions, commit and machine, for tables of results."""
    return {
        "hhmnet": hhmnet.__version__,
        "commit": git_commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def device_name(device: torch.device) -> str:
    """The processor's or the GPU's model, as its maker calls it where the system tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """Commit of the checkout this package runs from, ``+changes`` added if files differ; None outside one.

    A package installed below some other repository, say in its ``.venv``, isn't tracked there and has none.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def is_finished(folder: Path) -> bool:
    """Whether a run noted what it took, the last thing that it does."""
    try:
        return "training_seconds" in json.loads((folder / ENVIRONMENT_FILE).read_bytes())
    except (OSError, ValueError, TypeError):
        return False
