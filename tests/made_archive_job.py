"""A job that needs no model, for tests of how archives are worked through."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hhmnet.predict.archive import ArchiveJob
from hhmnet.predict.sources import Input, InputError


@dataclass(frozen=True)
class MadeJob(ArchiveJob):
    """Answers with what stands in a file: ``bad``, ``odd`` and ``kill`` are files that go wrong.

    Attributes:
        seconds: how long a clip takes.
    """

    seconds: float = 0.0

    def load(self) -> Callable[[Input], dict[str, Any]]:
        """The function that recognises; raises OSError where there is no model."""
        (self.run / "model.safetensors").read_bytes()
        return self._recognise

    def _recognise(self, item: Input) -> dict[str, Any]:
        text = item.path.read_text()
        with open(self.run / "tried", "a") as notes:
            notes.write(f"{os.getpid()} {item.name}\n")
        time.sleep(self.seconds)
        if text == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "bad":
            raise InputError(f"{item.name}: is no clip")
        if text == "odd":
            raise ZeroDivisionError("division by zero")
        return {"input": item.name, "label": text, "row": item.row}


def put_clips(folder: Path, texts: list[str]) -> list[Input]:
    """Files with these texts, as inputs."""
    folder.mkdir(parents=True)
    files = [folder / f"{number:04d}.txt" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return [Input(f"clip {number}", file, number) for number, file in enumerate(files)]


def make_job(folder: Path, **changed: Any) -> MadeJob:
    """A job with a model in a new folder."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("weights")
    return MadeJob(folder, **changed)
