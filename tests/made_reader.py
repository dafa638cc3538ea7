"""A reader of made-up files whose text says what becomes of them; worker processes import it from here."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hhmnet.readers import Reader, ReaderConfig, ReadError, SourceError
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20


@dataclass
class MadeConfig(ReaderConfig):
    """What can be chosen for the made-up files."""

    scale: float = 1.0
    """Factor of all joints."""
    table: Path | None = None
    """A file that is only named."""

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"field 'scale' must be above 0; got {self.scale:g}")


class Made(Reader):
    """Files ``*.made`` with one word and, mostly, a number.

    ``ok N``: a sample of N frames; ``full N``: one with all optional fields; ``two N``: one of two persons with a
    note; ``same``: the sample id ``same``; ``bad N``: refused at line N; ``gone``, ``misfit``, ``nan``, ``crash``,
    ``wrong``: ways to go wrong; ``torch``: goes wrong if torch is imported; ``kill``: kills the process,
    but only once; ``kill always``: every time.
    """

    name: ClassVar[str] = "made"
    title: ClassVar[str] = "made-up files"
    citation: ClassVar[str] = "None."
    protocol = "nw_ucla_cross_view"
    suffixes: ClassVar[tuple[str, ...]] = (".made",)
    config_class: ClassVar[type[ReaderConfig]] = MadeConfig
    chunk: ClassVar[int] = 3
    layout = KINECT20
    class_names = ("sit", "stand")
    config: MadeConfig

    def read(self, item: str, notes: Counter[str]) -> Sample:
        word, _, number = (self.source / item).read_text().partition(" ")
        match word:
            case "bad":
                notes["never counted"] += 1
                raise ReadError("it is\nbad", int(number))
            case "gone":
                raise PermissionError(13, "Permission denied", str(self.source / item))
            case "crash":
                raise KeyError("a fault in the reader")
            case "wrong":
                raise SourceError("the disk was taken away")
            case "torch":
                assert "torch" not in sys.modules, "torch was imported where it isn't needed"
            case "kill" if number == "always" or not (self.source / "killed").exists():
                (self.source / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self._sample(item, word, int(number) if number.isdigit() else 2, notes)

    def _sample(self, item: str, word: str, frames: int, notes: Counter[str]) -> Sample:
        rng = np.random.default_rng(list(item.encode()))
        persons = 2 if word == "two" else 1
        if persons == 2:
            notes["two persons"] += 1
            notes["frames of two persons"] += frames
        shape = (persons, frames, 17 if word == "misfit" else 20)
        joints = rng.normal(size=(*shape, 3)).astype(np.float32) * np.float32(self.config.scale)
        more: dict[str, Any] = {}
        if word == "full":
            sizes = {"pixels": (*shape, 2), "confidence": shape, "boxes": (*shape[:2], 4)}
            more = {name: rng.random(size).astype(np.float32) for name, size in sizes.items()}
            more |= {"interpolated": rng.random(shape[:2]) < 0.5, "video": f"{item}.avi"}
            more["video_frames"] = np.arange(frames, dtype=np.int32)
        return Sample(
            sample_id="same" if word == "same" else item.removesuffix(".made"),
            label=len(item) % 2,
            joints=joints * np.float32("nan") if word == "nan" else joints,
            present=np.ones((persons, frames), bool),
            frame_index=np.arange(frames, dtype=np.int32),
            subject=str(frames),
            camera=str(1 + len(item) % 3),
            **more,
        )


class Plain(Made):
    """The same without anything to choose."""

    name: ClassVar[str] = "plain"
    config_class: ClassVar[type[ReaderConfig]] = ReaderConfig

    def read(self, item: str, notes: Counter[str]) -> Sample:
        return Made(self.source).read(item, notes)


def put_made(folder: Path, texts: list[str]) -> Path:
    """One file a text, named by its place."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:04d}.made").write_text(text)
    return folder
