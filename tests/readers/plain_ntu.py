"""A plain parser of ``.skeleton`` files, written from the description of the format alone, to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOT_FINITE = {"nan", "inf", "infinity", "1.#ind", "1.#inf", "1.#qnan", "1.#snan"}


@dataclass
class PlainBody:
    """One body in one frame: its id, and its joints' twelve values ``(25, 12)`` float64."""

    id: int
    values: np.ndarray

    def __post_init__(self) -> None:
        """Positions and pixels (zero where not finite), and confidence: half the state of what has pixels."""
        with np.errstate(over="ignore"):
            self.joints, self.pixels = (
                self.values[:, :3].astype(np.float32),
                self.values[:, 5:7].astype(np.float32),
            )
        self.mapped, self.state = np.isfinite(self.pixels).all(1), self.values[:, 11].astype(np.float32)
        self.pixels[~self.mapped] = 0
        self.confidence = self.state / 2 * self.mapped


def plain_parse(data: bytes) -> list[list[PlainBody]]:
    """The bodies of every frame; raises ValueError for anything that isn't the format."""
    data.decode("ascii")
    lines = data.split(b"\n")
    while lines and not lines[-1].split():
        lines.pop()
    lines.reverse()  # so that the next line is the last
    frames = [_frame(lines) for _ in range(_whole(lines, 100_000))]
    if lines or not frames:
        raise ValueError("lines are left, or there is no frame")
    return frames


def _frame(lines: list[bytes]) -> list[PlainBody]:
    bodies = [_body(lines) for _ in range(_whole(lines, len(lines)))]
    if len({body.id for body in bodies}) != len(bodies):
        raise ValueError("an id twice")
    return bodies


def _body(lines: list[bytes]) -> PlainBody:
    words = _words(lines, 10)
    for word in words[1:]:
        _number(word)
    if not words[0].isdigit() or len(words[0]) > 20 or int(words[0]) >= 2**64 or _whole(lines, 25) != 25:
        raise ValueError("id or number of joints")
    values = np.array([[_number(word) for word in _words(lines, 12)] for _ in range(25)])
    body = PlainBody(int(words[0]), values)
    if not np.isfinite(body.joints).all() or not np.isin(values[:, 11], [0, 1, 2]).all():
        raise ValueError("position or state")
    return body


def _words(lines: list[bytes], count: int) -> list[str]:
    if not lines:
        raise ValueError("cut short")
    words = [word.decode() for word in lines.pop().split()]
    if len(words) != count:
        raise ValueError("wrong number of values")
    return words


def _whole(lines: list[bytes], most: int) -> int:
    word = _words(lines, 1)[0]
    if not word.isdigit() or len(word) > 9 or int(word) > most:
        raise ValueError("no count, or too large")
    return int(word)


def _number(word: str) -> float:
    rest = word[1:] if word[0] in "+-" else word
    # Windows writes 1.#IND00 where it was asked for more digits.
    if rest.lower() in NOT_FINITE or (rest.startswith("1.#") and rest.rstrip("0").lower() in NOT_FINITE):
        return float("nan")
    if not set(rest) <= set("0123456789.eE+-"):
        raise ValueError("no number")
    return float(word)
