"""Made ``.skeleton`` files in NTU RGB+D's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NAME = "S001C002P003R002A013"
ID = 72057594037937101
JOINTS = 25


@dataclass
class Body:
    """A body that stands somewhere and moves its hands.

    ``frames`` are those it is seen in, ``at`` its centre in metres, ``size`` its width, height and depth, ``sway`` how
    far the hands go, ``pace`` metres a frame along x. ``values`` replaces single values: (frame, joint, column) → text.
    """

    id: int = ID
    frames: Sequence[int] = range(20)
    at: tuple[float, float, float] = (0.0, 0.0, 3.0)
    size: tuple[float, float, float] = (0.5, 1.7, 0.2)
    sway: float = 0.3
    pace: float = 0.0
    values: dict[tuple[int, int, int], str] = field(default_factory=dict)

    def joints(self, frame: int) -> np.ndarray:
        """Positions ``(25, 3)``."""
        rng = np.random.default_rng(self.id % 2**32)
        rest = rng.uniform(-0.5, 0.5, (JOINTS, 3))
        rest[0], rest[1] = (-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)
        joints = rest * self.size + self.at
        joints[[7, 11, 21, 23], 1] += self.sway * np.sin(0.7 * frame)
        joints[:, 0] += self.pace * frame
        return joints

    def lines(self, frame: int) -> list[str]:
        """The body's lines in one frame."""
        rows = [f"{self.id} 0 1 1 1 1 0 0.02764709 -0.05745083 2", str(JOINTS)]
        for joint, (x, y, z) in enumerate(self.joints(frame)):
            depth = (256 + 365 * x / z, 212 - 365 * y / z)
            colour = (960 + 1080 * x / z, 540 - 1080 * y / z)
            numbers = [x, y, z, *depth, *colour, 0.2179059, -0.7353331, 1e-05, 0]
            words = [f"{number:.7g}" for number in numbers] + [str((frame + joint) % 3)]
            for column in range(12):
                words[column] = self.values.get((frame, joint, column), words[column])
            rows.append(" ".join(words))
        return rows


def skeleton(bodies: Sequence[Body] = (Body(),), frames: int = 20, end: str = "\r\n") -> bytes:
    """A file's text; frames in which nobody is seen have no body."""
    lines = [str(frames)]
    for frame in range(frames):
        seen = [body for body in bodies if frame in body.frames]
        lines += [str(len(seen)), *(line for body in seen for line in body.lines(frame))]
    return "".join(line + end for line in lines).encode()


def put(folder: Path, content: bytes | None = None, name: str = NAME) -> Path:
    """Write a file; by default one with one body in 20 frames."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.skeleton"
    file.write_bytes(skeleton() if content is None else content)
    return file


def changed(line: int, text: str | None, content: bytes | None = None) -> bytes:
    """A file with one line, counted from 1, replaced; taken out if ``text`` is None."""
    lines = (skeleton() if content is None else content).decode().splitlines(keepends=True)
    lines[line - 1 : line] = [] if text is None else [text + "\r\n"]
    return "".join(lines).encode()
