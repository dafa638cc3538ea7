"""From the persons that a pose estimator found in each frame to the persons of a clip."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hhmnet.readers import ReadError
from hhmnet.readers.clip_files import RawClip
from hhmnet.skeleton import LAYOUTS

MOST = 20
"""Persons that are kept of a clip; passers-by and mistakes of a detector make hundreds."""
_LARGEST = 1e9
"""Coordinates and scores beyond this are no one's."""
_TALL = 400.0
"""Height that persons are brought to before they are followed: the tracker thinks in pixels."""


class Person(NamedTuple):
    """One person in one frame: joints ``(V, C)`` float64, NaN where one wasn't found; how sure each is, ``(V,)``, if
    that is known; what the file calls the person in all frames, if it says that; the layout.
    """

    points: np.ndarray
    trust: np.ndarray | None
    who: Hashable
    layout: str


def person(
    values: Any,
    size: int,
    known: Mapping[int, str],
    where: str,
    *,
    who: Any = None,
    trust: Any = None,
    dims: int = 2,
) -> Person:
    """A person from a flat list of numbers, or from a list of joints; raises ReadError if ``values`` are no such.

    A joint has ``size`` numbers: ``dims`` coordinates, and then perhaps its confidence, unless ``trust`` has that for
    all of them. ``known`` are the layouts by the number of joints in the file; those after the layout's own (hands,
    face) are left out. ``where`` names the place in the file, ``who`` is what the file calls the person.
    """
    array = numbers(values, where).reshape(-1)
    count = len(array) // size
    if len(array) % size or count not in known:
        wanted = ", ".join(f"{joints} ({layout})" for joints, layout in known.items())
        raise ReadError(f"{where}: {len(array)} numbers; joints of {size} numbers can be {wanted}")
    joints = LAYOUTS[known[count]].num_joints
    array = array.reshape(count, size)[:joints]
    points, rated = array[:, :dims].copy(), array[:, dims] if size > dims else None
    if trust is not None:
        rated = numbers(trust, where).reshape(-1)[:joints]
        if len(rated) != joints:
            raise ReadError(f"{where}: {len(rated)} scores for {joints} joints")
    if dims == 2:
        points[~points.any(axis=1)] = np.nan  # estimators write (0, 0) for a joint that they didn't find
    return Person(points, rated, who if isinstance(who, (int, str)) else None, known[count])


def numbers(values: Any, where: str) -> np.ndarray:
    """``values`` as float64, null as NaN; raises ReadError if they aren't finite numbers."""
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ReadError(f"{where}: must be numbers") from None
    if (np.abs(array) > _LARGEST).any():
        raise ReadError(f"{where}: infinite or too large")
    return array


def gather(found: Iterable[tuple[int, Sequence[Person]]], form: str) -> RawClip:
    """A clip of all persons in frames by their numbers; those who are there longest come first.

    Who is who is what the file says, or else follows from where they are
    (:class:`~hhmnet.pose.tracking.Tracker`); where no frame has more than one, that is one person. ``form`` is what the
    file's format is called. Raises ReadError where nobody is there, or their skeletons differ.
    """
    frames = sorted(found, key=lambda frame: frame[0])
    seen = [[one for one in persons if np.isfinite(one.points).any()] for _, persons in frames]
    layouts = sorted({one.layout for persons in seen for one in persons})
    if not layouts:
        raise ReadError(f"{form}: no frame has a body: it lists no persons")
    if len(layouts) > 1:
        raise ReadError(f"{form}: its persons have different skeletons: {', '.join(layouts)}")
    tracks: dict[Hashable, dict[int, Person]] = {}
    for place, called in enumerate(_follow(seen)):
        for one, who in zip(seen[place], called, strict=True):
            tracks.setdefault(who, {}).setdefault(place, one)
    kept = sorted(tracks.values(), key=len, reverse=True)[:MOST]
    size = (len(kept), len(frames), LAYOUTS[layouts[0]].num_joints)
    joints, trust = np.full((*size, next(iter(kept[0].values())).points.shape[1]), np.nan), np.ones(size)
    for who, track in enumerate(kept):
        for place, one in track.items():
            joints[who, place] = one.points
            trust[who, place] = 1 if one.trust is None else one.trust
    notes = [f"{form}: read as {layouts[0]}"]
    if len(tracks) > MOST:
        notes.append(f"persons left out: more than {MOST} in a clip")
    if (trust < 0).any() or (trust > 1).any():
        notes.append("confidence moved to 0 to 1")
    is_rated = any(one.trust is not None for track in kept for one in track.values())
    confidence = np.clip(trust, 0, 1) if is_rated else None
    index = np.array([number for number, _ in frames])
    return RawClip(joints, index, confidence, layout=layouts[0], notes=tuple(notes))


def _follow(frames: Sequence[Sequence[Person]]) -> list[list[Hashable]]:
    """What each person in each frame is called."""
    if all(one.who is not None for persons in frames for one in persons):
        return [[one.who for one in persons] for persons in frames]
    if max(map(len, frames)) == 1:
        return [[0] * len(persons) for persons in frames]
    from hhmnet.pose.tracking import Tracker  # SciPy's optimiser takes longer to load than most files to read

    boxes = [np.array([_box(one.points) for one in persons]).reshape(-1, 4) for persons in frames]
    scale = _TALL / max(float(np.median([box[3] - box[1] for inner in boxes for box in inner])), 1e-9)
    tracker, called = Tracker(), list[list[Hashable]]()
    for place, inner in enumerate(boxes):
        wide = np.clip(inner * scale, -1e6, 1e6) + np.array([-1, -1, 1, 1])
        called.append(tracker.update(place, wide, np.ones(len(inner))).tolist())
    return called


def _box(points: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of the joints that were found."""
    return np.concatenate([np.nanmin(points[:, :2], axis=0), np.nanmax(points[:, :2], axis=0)])
