"""From the joints that a file gives to those that a sample holds."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from hhmnet.readers import ReadError

MISSING = "joint missing: its position is not a number"
LEFT_OUT = "person left out: never there"
HIDDEN = "body left out: said to be absent"


class Bodies(NamedTuple):
    """The persons of a clip.

    Attributes:
        joints: ``(M, T, V, C)`` float32; zero for what is missing or absent.
        present: ``(M, T)`` bool.
        confidence: ``(M, T, V)`` float32, 0 for what is missing or absent; None if nothing is known of it and nothing
            is missing.
        persons: which of the file's persons are left, ``(M,)`` int64.
    """

    joints: np.ndarray
    present: np.ndarray
    confidence: np.ndarray | None
    persons: np.ndarray


def settle(
    joints: np.ndarray,
    notes: Counter[str],
    *,
    confidence: np.ndarray | None = None,
    present: np.ndarray | None = None,
    field: str = "joints",
    largest: float = np.inf,
    remedy: str = "",
) -> Bodies:
    """What is there and what is missing, by one rule for all formats.

    A joint is missing if one of its coordinates is NaN or its confidence is 0. A person is absent from a frame where
    all joints are zero or missing, or where ``present`` says so. A person who is absent from all is left out.

    Args:
        joints: ``(M, T, V, C)``, whole numbers or floats.
        notes: counts what is left out.
        confidence: ``(M, T, V)``, if known; NaN counts as 0.
        present: ``(M, T)`` bool, if known.
        field: what the file calls the joints.
        largest: no coordinate can be larger than this.
        remedy: what to do about one that is, for the message.

    Raises:
        ReadError: a coordinate is infinite or too large, a confidence lies outside 0 to 1, or no frame has a body.
    """
    with np.errstate(over="ignore"):
        found = joints.astype(np.float32)
        trust = None if confidence is None else confidence.astype(np.float32)
    _refuse(np.any(np.isinf(found), axis=-1), f"field '{field}'", "infinite or too large")
    beyond = np.any(np.abs(found) > largest, axis=-1)
    _refuse(beyond, f"field '{field}'", f"beyond {largest:,.0f}{remedy}")
    missing = np.any(np.isnan(found), axis=-1)
    found[missing] = 0
    if trust is not None:
        trust[np.isnan(trust)] = 0
        _refuse((trust < 0) | (trust > 1), "field 'confidence'", "not from 0 to 1")
        found[trust == 0] = 0
    there = np.any(found, axis=(2, 3))
    if present is not None:
        notes[HIDDEN] += int((there & ~present).sum())
        there = there & present
        found[~there] = 0
    if not there.any():
        raise ReadError("no frame has a body: all joints are zero or missing")
    # A body that isn't there at all is no missing joint.
    notes[MISSING] += int((missing & there[..., None]).sum())
    if trust is None and (missing & there[..., None]).any():
        trust = np.ones(missing.shape, np.float32)
    if trust is not None:
        trust = np.where(missing | ~there[..., None], np.float32(0), trust)
    persons = np.flatnonzero(there.any(axis=1))
    notes[LEFT_OUT] += len(there) - len(persons)
    for note in (HIDDEN, MISSING, LEFT_OUT):
        if not notes[note]:
            del notes[note]
    return Bodies(found[persons], there[persons], None if trust is None else trust[persons], persons)


def _refuse(wrong: np.ndarray, field: str, fault: str) -> None:
    """Raise ReadError naming the first joint of ``wrong (M, T, V)`` that is True."""
    if wrong.any():
        person, frame, joint = np.argwhere(wrong)[0]
        raise ReadError(f"{field}: {fault} (person {person}, frame {frame}, joint {joint})")
