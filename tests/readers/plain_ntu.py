"""A plain parser of ``.skeleton`` files, written from the description of the format alone, to compare with."""

from __future__ import annotations

import numpy as np

NOT_FINITE = {"nan", "inf", "infinity", "1.#ind", "1.#inf", "1.#qnan", "1.#snan"}


def plain_parse(data: bytes) -> list[dict[int, np.ndarray]]:
    """For every frame the bodies by their ids, each the kept values of its joints ``(25, 6)`` float32: x, y, z, pixels
    and tracking state. Raises ValueError for anything that isn't the format.
    """
    lines = data.decode("ascii").split("\n")
    while lines and not lines[-1].encode().split():
        lines.pop()
    lines.reverse()  # so that the next line is the last
    frames = []
    for _ in range(_whole(lines, 100_000)):
        count, bodies = _whole(lines, len(lines)), {}
        for _ in range(count):
            body, values = _body(lines)
            bodies[body] = values
        if len(bodies) != count:
            raise ValueError("an id twice")
        frames.append(bodies)
    if lines or not frames:
        raise ValueError("lines are left, or there is no frame")
    return frames


def _body(lines: list[str]) -> tuple[int, np.ndarray]:
    words = _words(lines, 10)
    for word in words[1:]:
        _number(word)
    if not words[0].isdigit() or len(words[0]) > 20 or int(words[0]) >= 2**64 or _whole(lines, 25) != 25:
        raise ValueError("id or number of joints")
    values = np.array([[_number(word) for word in _words(lines, 12)] for _ in range(25)])
    with np.errstate(over="ignore"):
        kept = values[:, [0, 1, 2, 5, 6, 11]].astype(np.float32)
    if not np.isfinite(kept[:, :3]).all() or not np.isin(values[:, 11], [0, 1, 2]).all():
        raise ValueError("position or state")
    return int(words[0]), kept


def _words(lines: list[str], count: int) -> list[str]:
    words = [word.decode() for word in lines.pop().encode().split()] if lines else []
    if len(words) != count:
        raise ValueError("cut short, or a wrong number of values")
    return words


def _whole(lines: list[str], most: int) -> int:
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
