"""What is not seen: joints that can't be trusted are masked, short gaps filled, and both marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def fill_bodies(
    present: np.ndarray, values: list[np.ndarray], confidence: np.ndarray, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fill short gaps of whole bodies, in place, with a straight line from the body before to the body after.

    Args:
        present: whether there is a body, ``(T,)`` bool.
        values: arrays ``(T, ...)`` that belong to it: positions, boxes.
        confidence: ``(T, V)``; a filled joint is as trusted as the less trusted of its two neighbours.
        longest: gaps of more frames stay.

    Returns:
        Which bodies are there now, and which of them were filled in, ``(T,)`` bool each.
    """
    filled = np.zeros_like(present)
    for before, after in gaps(present, longest):
        inside = slice(before + 1, after)
        share = (np.arange(before + 1, after) - before) / (after - before)
        for array in values:
            part = share.reshape(-1, *(1,) * (array.ndim - 1))
            array[inside] = array[before] * (1 - part) + array[after] * part
        confidence[inside] = np.minimum(confidence[before], confidence[after])
        filled[inside] = True
    return present | filled, filled


def fill_joints(
    present: np.ndarray,
    values: list[np.ndarray],
    confidence: np.ndarray,
    least: float,
    longest: int,
    guesses: Sequence[np.ndarray] = (),
) -> None:
    """Mask joints that can't be trusted, in place, and fill their short gaps.

    A joint whose confidence is below ``least`` is missing: its position and confidence become zero. If it was missing
    for at most ``longest`` frames between two in which it wasn't, and the body was there all the while, it gets a
    position on the straight line between them and half of ``least`` as confidence; so a confidence above zero, but
    below ``least``, tells a joint that was filled in.

    Args:
        present: whether there is a body, ``(T,)`` bool.
        values: arrays ``(T, V, C)`` of positions.
        confidence: ``(T, V)``.
        least: the least confidence of a joint that is kept.
        longest: gaps of more frames stay.
        guesses: arrays like ``values`` in which a missing joint stays where the estimator supposes it.
    """
    seen = (confidence >= least) & present[:, None]
    for array in values:
        array[~seen] = 0
    confidence[~seen] = 0
    for joint in range(confidence.shape[1]):
        for before, after in gaps(seen[:, joint], longest):
            inside = slice(before + 1, after)
            if not present[inside].all():
                continue
            share = ((np.arange(before + 1, after) - before) / (after - before))[:, None]
            for array in (*values, *guesses):
                array[inside, joint] = array[before, joint] * (1 - share) + array[after, joint] * share
            confidence[inside, joint] = least / 2


def gaps(seen: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Last frame before and first frame after each gap of at most ``longest`` frames in ``seen (T,)`` bool."""
    frames = np.flatnonzero(seen)
    wide = np.flatnonzero((np.diff(frames) > 1) & (np.diff(frames) <= longest + 1))
    return [(int(frames[i]), int(frames[i + 1])) for i in wide]
