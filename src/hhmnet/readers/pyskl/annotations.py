"""What an annotation file of pyskl or MMAction2 holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hhmnet.readers.base import ReadError, SourceError
from hhmnet.readers.pyskl.unpickling import StoredArray, UnpicklingError, load_plain

MAX_LABEL = 9_999

_PART = re.compile(r"(?:(.*)_)?(?:train|val|test)|(?:train|val|test)(.*)")


class Clip(NamedTuple):
    """An annotation as it stands in the file; nothing of it is checked.

    Attributes:
        label: class index.
        keypoint: joints, an array ``(M, T, V, C)`` that is still in the file.
        score: their confidence, likewise ``(M, T, V)``; None if there is none.
        total_frames: number of frames.
        elsewhere: whether the joints are in another file, as those of Kinetics are.
    """

    label: Any
    keypoint: Any
    score: Any
    total_frames: Any
    elsewhere: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the joints; () if there are none."""
        return (self.keypoint.shape or ()) if isinstance(self.keypoint, StoredArray) else ()

    def load_joints(self) -> np.ndarray:
        """The joints ``(M, T, V, C)``; raises ReadError if there are none."""
        if self.keypoint is None and self.elsewhere:
            raise ReadError("field 'keypoint' is missing: its joints are in the file that 'raw_file' names")
        return _load(self.keypoint, "keypoint", "(M, T, V, C)")

    def load_score(self) -> np.ndarray | None:
        """The joints' confidence ``(M, T, V)``; raises ReadError if that isn't its shape."""
        if self.score is None:
            return None
        score = _load(self.score, "keypoint_score", "(M, T, V)")
        if score.shape != self.shape[:3]:
            raise ReadError(f"field 'keypoint_score' must have the shape {self.shape[:3]}, has {score.shape}")
        return score


class Annotations(NamedTuple):
    """One annotation file.

    Attributes:
        clips: the clips by name. One without a name, or with that of another, is called ``[7]`` by its place.
        parts: by clip, the published parts that it belongs to.
        sizes: how many clips each part has.
    """

    clips: dict[str, Clip]
    parts: dict[str, list[str]]
    sizes: dict[str, int]


def read_annotations(file: Path) -> Annotations:
    """Read an annotation file, but for its arrays.

    Raises:
        SourceError: it can't be read, or isn't an annotation file; says why.
    """
    try:
        content = load_plain(file)
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror or error}") from None
    except UnpicklingError as error:
        raise SourceError(f"{file}: {error}") from None
    if isinstance(content, dict):
        annotations, split = content.get("annotations"), content.get("split", {})
    else:
        annotations, split = content, None
    if not isinstance(annotations, list):
        raise SourceError(f"{file}: is no annotation file: it has no list 'annotations'")
    clips: dict[str, Clip] = {}
    for place, annotation in enumerate(annotations):
        fields = annotation if isinstance(annotation, dict) else {}
        name = fields.get("frame_dir")
        usable = isinstance(name, str) and name and not name.startswith("[") and name not in clips
        clips[str(name) if usable else f"[{place}]"] = Clip(
            label=fields.get("label"),
            keypoint=fields.get("keypoint"),
            score=fields.get("keypoint_score"),
            total_frames=fields.get("total_frames"),
            elsewhere="raw_file" in fields,
        )
    if split is None:  # older versions of MMAction2 have a file for each part
        split = {file.stem: [name for name in clips if not name.startswith("[")]}
    return Annotations(clips, *_read_parts(file, split))


def _read_parts(file: Path, split: Any) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The parts of each clip, and the size of each part."""
    if not isinstance(split, dict):
        raise SourceError(f"{file}: field 'split' must be a dict of parts, each a list of names")
    parts: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for part, names in split.items():
        if (
            not isinstance(part, str)
            or not part.strip()
            or not isinstance(names, (list, tuple, set, frozenset))
        ):
            raise SourceError(f"{file}: field 'split' must be a dict of parts, each a list of names")
        word = "_".join(part.split())  # a sample's parts are separated by spaces
        sizes[word] = len(names)
        for name in names:
            if not isinstance(name, str):
                raise SourceError(f"{file}: field 'split': part '{part}' must be a list of names")
            if word not in parts.setdefault(name, []):
                parts[name].append(word)
    return parts, sizes


def prefixes(parts: list[str]) -> list[str]:
    """The split that each part belongs to, if it is one's: ``xsub`` for ``xsub_train``, ``1`` for ``train1``."""
    found = (match for part in parts if (match := _PART.fullmatch(part)) is not None)
    return [match[1] or match[2] or "" for match in found]


def is_label(label: Any) -> bool:
    """Whether ``label`` is a class index."""
    return (
        isinstance(label, (int, np.integer)) and not isinstance(label, bool) and 0 <= int(label) <= MAX_LABEL
    )


def _load(array: Any, field: str, shape: str) -> np.ndarray:
    if not isinstance(array, StoredArray) or array.shape is None or len(array.shape) != shape.count(",") + 1:
        got = f"has {array.shape}" if isinstance(array, StoredArray) else "is none"
        raise ReadError(f"field '{field}' must be an array of shape {shape}, {got}")
    try:
        return array.load()
    except UnpicklingError as error:
        raise ReadError(f"field '{field}': {error}") from None
