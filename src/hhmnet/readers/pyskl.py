"""Annotation files of pyskl and MMAction2: one pickle, all clips of a data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hhmnet.layout_files import load_layout
from hhmnet.readers import Reader, ReaderConfig, ReadError, SourceError
from hhmnet.readers.joints import settle
from hhmnet.readers.labels import PARTS
from hhmnet.readers.ntu import NTU120_CLASSES
from hhmnet.readers.text import decode
from hhmnet.readers.unpickling import StoredArray, UnpicklingError, load_plain
from hhmnet.sample import UNKNOWN_LABEL, Sample
from hhmnet.skeleton import COCO17, KINECT20, NTU25, LayoutError, SkeletonLayout

MAX_LABEL = 9_999

_PART = re.compile("(?:(.*)_)?(?:{0})|(?:{0})(.*)".format("|".join(PARTS)))
SCORE_MOVED = "score below 0 or above 1: set to 0 or 1"
FRAMES_DIFFER = "total_frames differs from the frames of keypoint; the latter are taken"

_SHAPES = {(17, 2): COCO17, (20, 3): KINECT20, (25, 3): NTU25}
_CLASSES = {"ntu60": NTU120_CLASSES[:60], "ntu120": NTU120_CLASSES}
_NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})(_rgb)?", re.ASCII)


@dataclass
class PysklConfig(ReaderConfig):
    """What can be chosen for annotation files."""

    layout: str = ""
    """The skeleton: a known layout's name or a YAML file. By default 17 joints of 2 coordinates are coco17, 20 of 3
    kinect20, 25 of 3 ntu25."""
    classes: str = ""
    """Names of the classes, which the file doesn't have: a text file with one a line, or ntu60 or ntu120. By default
    NTU's if the clips are named as NTU's are, else "class 0" and so on."""


class Pyskl(Reader):
    """Annotation files of pyskl and MMAction2, in 2-D and 3-D.

    Format: a pickle with ``{"split": {part: [frame_dir, ...]}, "annotations": [...]}``, or, as older versions of
    MMAction2 have it, the list of annotations alone, a file for each part. An annotation is a dict with ``frame_dir``
    (the clip's name), ``label`` (from 0), ``keypoint`` ``(M, T, V, 2 or 3)``, and mostly ``keypoint_score``
    ``(M, T, V)`` and ``total_frames``. 2-D joints are pixels, and so the sample's ``pixels`` too; 3-D joints are left
    as they are, pyskl's own files have NTU's metres.

    A pickle can run any program when Python loads it. Here it can't, see :mod:`hhmnet.readers.unpickling`; what
    is neither a NumPy array nor a plain container is refused by name.

    Splits: the parts of a clip become the sample's ``split``, and the protocol is that of the first split in the file,
    such as ``pyskl:xsub`` for ``xsub_train`` and ``xsub_val``.

    Citation: H. Duan, J. Wang, K. Chen, D. Lin. PYSKL: Towards Good Practices for Skeleton Action Recognition.
    ACM Multimedia 2022.

    Args:
        source: the pickle, or a folder of pickles.
        config: see :class:`PysklConfig`.

    Raises:
        SourceError: a file can't be used, or the skeleton must be named.
    """

    name: ClassVar[str] = "pyskl"
    title: ClassVar[str] = "pyskl and MMAction2 annotations"
    citation: ClassVar[str] = (
        "H. Duan, J. Wang, K. Chen, D. Lin. PYSKL: Towards Good Practices for Skeleton Action Recognition. "
        "ACM Multimedia 2022."
    )
    protocol = "given"
    suffixes: ClassVar[tuple[str, ...]] = (".pkl", ".pickle")
    config_class: ClassVar[type[ReaderConfig]] = PysklConfig
    config: PysklConfig

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        source = Path(source)
        super().__init__(source.parent if source.is_file() else source, config)
        self._files = [source.name] if source.is_file() else super().items()
        self._opened: dict[str, Annotations] = {}
        opened = [self._open(file) for file in self._files]
        clips = [clip for found in opened for clip in found.clips.values()]
        self.layout = self._find_layout(clips)
        self.class_names = self._name_classes(clips)
        splits = prefixes([part for found in opened for part in found.sizes])
        if splits:
            self.protocol = f"pyskl:{splits[0]}"  # a data set's, not the format's

    def __getstate__(self) -> dict[str, Any]:
        # A worker opens the files itself: that costs less than to send it what is in them.
        return self.__dict__ | {"_opened": {}}

    @property
    def options(self) -> dict[str, Any]:
        """The layout that was found or chosen, and where the class names are from."""
        return {"layout": self.layout.name, "classes": PurePath(self.config.classes).name}

    def items(self) -> list[str]:
        """The clips, ``file#frame_dir``, sorted."""
        return sorted(f"{file}#{name}" for file in self._files for name in self._open(file).clips)

    def describe(self) -> list[str]:
        """What was found: clips, layout, parts, classes, and what is odd about them."""
        lines = super().describe()
        for file in self._files:
            found = self._open(file)
            sizes = ", ".join(f"{part} {size:,}" for part, size in found.sizes.items()) or "none"
            lines.append(f"{file}: {len(found.clips):,} clips; parts: {sizes}")
            if missing := len(found.parts.keys() - found.clips.keys()):
                lines.append(f"{file}: warning: {missing:,} names in the parts have no annotation")
            if twice := sum(
                len(set(splits := prefixes(parts))) < len(splits) for parts in found.parts.values()
            ):
                lines.append(f"{file}: warning: {twice:,} clips are in two parts of one split")
        shown = ", ".join(self.class_names[:4]) + (", …" if len(self.class_names) > 4 else "")
        return [*lines, f"classes: {shown}", f"protocol: {self.protocol}"]

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError, naming the field, if it can't be used."""
        file = next(file for file in self._files if item.startswith(f"{file}#"))
        name = item[len(file) + 1 :]
        found = self._open(file)
        clip = found.clips[name]
        if name.startswith("["):
            raise ReadError(
                f"annotation {name[1:-1]}: field 'frame_dir' must be a name that no other clip has"
            )
        joints = self._load_joints(clip)
        if isinstance(clip.total_frames, (int, np.integer)) and clip.total_frames != joints.shape[1]:
            notes[FRAMES_DIFFER] += 1
        bodies = settle(joints, notes, confidence=_load_score(clip, notes), field="keypoint")
        setup, camera, subject = _recorded(name)
        return Sample(
            sample_id=name,
            label=self._label(clip.label),
            joints=bodies.joints,
            present=bodies.present,
            frame_index=np.arange(joints.shape[1], dtype=np.int32),
            subject=subject,
            camera=camera,
            setup=setup,
            split=" ".join(found.parts.get(name, ())),
            pixels=bodies.joints if self.layout.dims == 2 else None,
            confidence=bodies.confidence,
        )

    def _open(self, file: str) -> Annotations:
        if file not in self._opened:
            self._opened[file] = read_annotations(self.source / file)
        return self._opened[file]

    def _load_joints(self, clip: Annotation) -> np.ndarray:
        joints = clip.load_joints()
        try:
            self.layout.check(joints)
        except LayoutError as error:
            raise ReadError(f"field 'keypoint': {error}") from None
        return joints

    def _label(self, label: Any) -> int:
        if label is None:
            return UNKNOWN_LABEL
        if not is_label(label):
            raise ReadError(f"field 'label' must be a class index from 0 to {MAX_LABEL:,}")
        if label >= len(self.class_names):
            raise ReadError(f"field 'label' is {label}, but there are {len(self.class_names)} class names")
        return int(label)

    def _find_layout(self, clips: Iterable[Annotation]) -> SkeletonLayout:
        if self.config.layout:
            try:
                return load_layout(self.config.layout)
            except LayoutError as error:
                raise SourceError(f"field 'layout': {error}") from None
        where = self.source / self._files[0] if len(self._files) == 1 else self.source
        shapes = Counter(clip.shape[2:] for clip in clips if len(clip.shape) == 4)
        if not shapes:
            raise SourceError(f"{where}: no clip has an array 'keypoint' of shape (M, T, V, C)")
        shape = max(shapes, key=lambda shape: (shapes[shape], shape in _SHAPES))
        if shape not in _SHAPES:
            raise SourceError(
                f"{where}: which skeleton has {shape[0]} joints of {shape[1]} coordinates? "
                "Give field 'layout' its name, or a YAML file that describes it"
            )
        return _SHAPES[shape]

    def _name_classes(self, clips: Iterable[Annotation]) -> tuple[str, ...]:
        if self.config.classes:
            return _CLASSES.get(self.config.classes) or _read_classes(Path(self.config.classes))
        count = 1 + max((int(clip.label) for clip in clips if is_label(clip.label)), default=0)
        for names in _CLASSES.values():
            if count <= len(names) and self._is_ntu():
                return names
        return tuple(f"class {label}" for label in range(count))

    def _is_ntu(self) -> bool:
        """Whether all clips are named as NTU's are, and their labels are what those names say."""
        return all(
            (named := _ntu_name(name)) is not None and int(named[5]) - 1 == clip.label
            for file in self._files
            for name, clip in self._open(file).clips.items()
        )


def _load_score(clip: Annotation, notes: Counter[str]) -> np.ndarray | None:
    score = clip.load_score()
    if score is None:
        return None
    inside = np.clip(score, 0, 1)  # a heatmap's peak, which pyskl takes, can be a little above 1
    if moved := int((inside < score).sum() + (inside > score).sum()):
        notes[SCORE_MOVED] += moved
    return inside


def _ntu_name(name: str) -> re.Match[str] | None:
    return _NTU_NAME.fullmatch(PurePosixPath(name).name)


def _recorded(name: str) -> tuple[str, str, str]:
    """Setup, camera and subject, which NTU's clips have in their names; "" each for others."""
    named = _ntu_name(name)
    if named is None:
        return "", "", ""
    setup, camera, subject = (str(int(named[group])) for group in (1, 2, 3))
    return setup, camera, subject


def _read_classes(file: Path) -> tuple[str, ...]:
    """The names in a text file, one a line; raises SourceError."""
    where = f"field 'classes': {file}"
    try:
        text = decode(file.read_bytes())
    except OSError as error:
        known = " or ".join(_CLASSES)
        raise SourceError(f"{where}: {error.strerror or error}; give a text file, or {known}") from None
    except ReadError as error:
        raise SourceError(f"{where}: {error}") from None
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names or len(set(names)) != len(names):
        raise SourceError(f"{where}: must name the classes, one a line and each once")
    return tuple(names)


class Annotation(NamedTuple):
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
        return self.keypoint.shape if isinstance(self.keypoint, StoredArray) else ()

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

    clips: dict[str, Annotation]
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
    clips: dict[str, Annotation] = {}
    for place, annotation in enumerate(annotations):
        fields = annotation if isinstance(annotation, dict) else {}
        name = fields.get("frame_dir")
        usable = isinstance(name, str) and name and not name.startswith("[") and name not in clips
        clips[str(name) if usable else f"[{place}]"] = Annotation(
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
    if not isinstance(array, StoredArray) or len(array.shape) != shape.count(",") + 1:
        got = f"has {array.shape}" if isinstance(array, StoredArray) else "is none"
        raise ReadError(f"field '{field}' must be an array of shape {shape}, {got}")
    try:
        return array.load()
    except UnpicklingError as error:
        raise ReadError(f"field '{field}': {error}") from None
