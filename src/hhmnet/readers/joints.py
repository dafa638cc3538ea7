"""From the joints that a file gives to those that a sample holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from hhmnet.readers import ReadError
from hhmnet.skeleton import SkeletonLayout

TALL = (0.3, 3.0)  # metres that a person measures from one end to the other, with a good margin
ODD = {2: 3.0, 3: 2.0}
"""Bones so many times as long as they could be aren't those of a body, in 2-D and 3-D. Those of 150 clips of UTD-MHAD
are at most 1.45 times as long, with shuffled joints at least 2.6 times; in a picture limbs may cover each other."""
_FRAMES = 16  # so many of a clip are enough to see what it is
MISSING = "joint missing: its position is not a number"
LEFT_OUT = "person left out: never there"
HIDDEN = "body left out: said to be absent"
DOUBT = "doubt: "  # how notes begin that say what may be wrong, and not what was done
ORDERED = "persons put in order of motion: the file has another first"


def settle(
    joints: np.ndarray,
    notes: Counter[str],
    *,
    confidence: np.ndarray | None = None,
    present: np.ndarray | None = None,
    pixels: np.ndarray | None = None,
    frame_index: np.ndarray | None = None,
    field: str = "joints",
    largest: float = np.inf,
    remedy: str = "",
) -> dict[str, Any]:
    """A sample's fields ``joints``, ``present``, ``frame_index``, ``confidence`` and ``pixels``, by one rule for all
    formats: zero for what is missing or absent.

    A joint is missing if one of its coordinates is NaN or its confidence is 0 or NaN. A person is absent from a frame
    where all joints are zero or missing, or where ``present`` says so; who is absent from all is left out, the others
    are in order of :func:`motion`. The confidence is None if nothing is known of it and nothing is missing.

    Args:
        joints: ``(M, T, V, C)``, whole numbers or floats, which the file calls ``field``; ``confidence`` ``(M, T, V)``,
            ``present`` ``(M, T)`` bool, ``pixels`` ``(M, T, V, 2)`` and ``frame_index`` ``(T,)``, if known.
        notes: counts what is left out.
        largest: no coordinate can be larger than this; ``remedy`` says what to do about one that is.

    Raises ReadError: a coordinate is infinite or too large, a confidence lies outside 0 to 1, or no frame has a body.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # nor does a signalling NaN warn
        found = joints.astype(np.float32)
        trust = None if confidence is None else np.nan_to_num(confidence.astype(np.float32), posinf=np.inf)
        pixels = None if pixels is None else pixels.astype(np.float32)
    _refuse(np.isinf(found).any(axis=-1), f"field '{field}': infinite or too large")
    _refuse((np.abs(found) > largest).any(axis=-1), f"field '{field}': beyond {largest:,.0f}{remedy}")
    missing = np.isnan(found).any(axis=-1)
    found[missing] = 0
    if trust is not None:
        _refuse((trust < 0) | (trust > 1), "field 'confidence': not from 0 to 1")
        found[trust == 0] = 0
    there = found.any(axis=(2, 3))
    hidden = np.zeros_like(there) if present is None else there & ~present
    there &= ~hidden
    found[~there] = 0
    if not there.any():
        raise ReadError("no frame has a body: all joints are zero or missing")
    lost = missing & there[..., None]  # a body that isn't there at all is no missing joint
    if trust is None and lost.any():
        trust = np.ones(missing.shape, np.float32)
    persons = np.flatnonzero(there.any(axis=1))
    order = np.argsort(-motion(found[persons], there[persons]), kind="stable")
    counts = {HIDDEN: int(hidden.sum()), MISSING: int(lost.sum()), LEFT_OUT: len(there) - len(persons)}
    counts[ORDERED] = int((np.diff(order) < 0).any())
    notes.update(+Counter(counts))
    if trust is not None:
        trust[missing | ~there[..., None]] = 0
    if pixels is not None:
        pixels[np.broadcast_to(~there[..., None] if trust is None else trust == 0, missing.shape)] = 0
        lost = ~np.isfinite(pixels).all(axis=-1)
        _refuse(lost, "field 'pixels': not a number, or infinite, for a joint that is there")
    arrays = {"joints": found, "present": there, "confidence": trust, "pixels": pixels}
    index = np.arange(found.shape[1]) if frame_index is None else frame_index
    of_persons = {name: None if array is None else array[persons[order]] for name, array in arrays.items()}
    return of_persons | {"frame_index": index.astype(np.int32)}


def _refuse(wrong: Any, fault: str) -> None:
    """Raise ReadError naming the first joint of ``wrong (M, T, V)`` that is True."""
    if wrong.any():
        person, frame, joint = np.argwhere(wrong)[0]
        raise ReadError(f"{fault} (person {person}, frame {frame}, joint {joint})")


def motion(joints: np.ndarray, present: np.ndarray) -> np.ndarray:
    """How much each person moves, ``(M,)``: variance of the joints over time, summed over joints and coordinates, times
    the share of frames they are in. ``joints (M, T, V, C)`` are zero where missing, ``present`` is ``(M, T)`` bool.
    """
    seen = (joints.any(axis=3) & present[..., None])[..., None]
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    values = joints.astype(np.float64) * seen
    apart = np.where(seen, values - values.sum(axis=1, keepdims=True) / count, 0)
    return (apart**2 / count).sum(axis=(1, 2, 3)) * present.mean(axis=1)


def tallness(joints: np.ndarray) -> float:
    """Median length of the bodies ``(..., V, C)`` along the axis in which they are longest; 0 without any."""
    bodies = _known(joints).reshape(-1, *joints.shape[-2:])
    bodies = bodies[np.isfinite(bodies).any(axis=(1, 2))]
    if not len(bodies):
        return 0.0
    spans = np.nanmax(bodies, axis=1, initial=-np.inf) - np.nanmin(bodies, axis=1, initial=np.inf)
    return float(np.median(spans.max(axis=1)))


def bone_ratio(joints: np.ndarray, layout: SkeletonLayout) -> float:
    """How many times as long a skeleton's bones are as the shortest that could join the joints; 1 if none are seen.
    Of ``joints (M, T, V, C)`` the body of which most is seen counts.
    """
    from scipy.sparse.csgraph import minimum_spanning_tree  # takes longer to load than most files to read

    bodies = _known(joints).reshape(-1, *joints.shape[2:])
    body = bodies[np.isfinite(bodies).all(axis=2).sum(axis=1).argmax()]
    seen = np.isfinite(body).all(axis=1)
    apart = np.linalg.norm(body[:, None] - body[None], axis=-1).clip(1e-6, 1e100)  # 0 would be no way at all
    bones = [apart[child, parent] for child, parent in layout.edges if seen[child] and seen[parent]]
    if seen.sum() < layout.num_joints / 2 or not bones:
        return 1.0
    return float(np.mean(bones) / minimum_spanning_tree(apart[np.ix_(seen, seen)]).data.mean())


def doubts(joints: np.ndarray, layout: SkeletonLayout) -> list[str]:
    """What looks wrong in ``joints (M, T, V, C)``, zero for what is missing: units, an axis that points the wrong way,
    joints in another order than the layout's.
    """
    joints, (low, high), found = joints[:, :: joints.shape[1] // _FRAMES + 1], TALL, []
    if layout.dims == 3 and not low <= tallness(joints) <= high:
        found.append(
            f"body not {low:g} to {high:g} m tall: does --units say what the joints are measured in?"
        )
    if is_upside_down(joints, layout):
        turn = "minus_y" if layout.dims == 3 else "y"
        found.append(f"head below the feet: if y points the other way, --up {turn} turns it")
    if bone_ratio(joints, layout) > ODD[layout.dims]:
        remedy = "is it their order? --layout names another skeleton"
        found.append(f"joints not where {layout.name} has them: {remedy}")
    return [DOUBT + doubt for doubt in found]


def is_upside_down(joints: np.ndarray, layout: SkeletonLayout) -> bool:
    """Whether the heads of ``joints (M, T, V, C)`` are below the feet: y is up in 3-D, down in pictures."""
    heights = _known(joints)[..., 1] * (1 if layout.dims == 3 else -1)
    feet = layout.parts["left_foot"] + layout.parts["right_foot"]
    ends = [heights[..., list(part)] for part in (layout.parts["head"], feet)]
    head, foot = (np.median(end[np.isfinite(end)]) if np.isfinite(end).any() else np.nan for end in ends)
    return bool(head < foot)


def _known(joints: np.ndarray) -> np.ndarray:
    """Joints ``(..., C)`` in float64, NaN where one is missing."""
    missing = ~joints.any(axis=-1) | ~np.isfinite(joints).all(axis=-1)
    return np.where(missing[..., None], np.nan, joints.astype(np.float64))
