"""Annotation files of pyskl and MMAction2: one pickle, all clips of a data set."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hhmnet.readers import Reader, ReaderConfig, ReadError, SourceError
from hhmnet.readers.arrays import ArrayConfig, clip_fields, survey
from hhmnet.readers.clip_files import RawClip, nested, to_clip
from hhmnet.readers.labels import few, hold_out, split_of
from hhmnet.readers.ntu import NAME, NTU120_CLASSES
from hhmnet.readers.text import disguised, read_lines
from hhmnet.readers.unpickling import StoredArray, load_plain
from hhmnet.sample import UNKNOWN_LABEL, Sample

MAX_LABEL = 9_999
FRAMES_DIFFER = "total_frames differs from the frames of keypoint; the latter are taken"

_CALLED = {"joints": "keypoint", "confidence": "keypoint_score"}
_CLASSES = {"ntu60": NTU120_CLASSES[:60], "ntu120": NTU120_CLASSES}
_OPENED = ("_sets", "_clips", "_parts", "_held")
_PART = re.compile("(?:(.*)_)?(?:train|val|test)|(?:train|val|test)(.*)")


class SetClip(NamedTuple):
    """One of the clips of a data set in a file: its label as the file has it, None if it doesn't say; what reads its
    joints, given the order of their axes or ""; what its class is called, "" if the file doesn't say.
    """

    label: Any
    load: Callable[[str], RawClip]
    action: str = ""


class ClipSet(NamedTuple):
    """The clips of a data set in a file by name, whose arrays are still there, and the parts that each belongs to. A
    clip without a name, or with that of another, is called ``[7]`` by its place.
    """

    clips: dict[str, SetClip]
    parts: dict[str, list[str]]


@dataclass
class PysklConfig(ArrayConfig):
    """What can be chosen for annotation files."""

    classes: str = ""
    """Names of the classes, which the file doesn't have: a text file with one a line, or ntu60 or ntu120. By default
    NTU's if the clips are named as NTU's are, else "class 0" and so on."""


class Pyskl(Reader):
    """Annotation files of pyskl and MMAction2, in 2-D and 3-D: a pickle, or a folder of pickles.

    Format: ``{"split": {part: [frame_dir, ...]}, "annotations": [...]}``, or, as older versions of MMAction2 have it,
    the list of annotations alone, a file for each part. An annotation is a dict with ``frame_dir`` (the clip's name),
    ``label`` (from 0), ``keypoint`` ``(M, T, V, 2 or 3)``, and mostly ``keypoint_score`` ``(M, T, V)``,
    ``total_frames`` and ``img_shape`` (height, width). Arrays may be nested lists. Nothing in the pickle is run, see
    :mod:`hhmnet.readers.unpickling`.

    The parts of a clip become the sample's ``split``, and the protocol is that of the first split in the file, such as
    ``pyskl:xsub`` for ``xsub_train`` and ``xsub_val``. Without parts, clips are held out.
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
        where = self.source / self._files[0] if len(self._files) == 1 else self.source
        self.form, self._found = survey(self.items(), self._raw, self.config, where)
        self.layout = self.form.layout
        self.class_names = self._name_classes()
        if splits := _splits(self._parts):
            self.protocol = f"pyskl:{splits[0]}"  # a data set's, not the format's

    def __getstate__(self) -> dict[str, Any]:
        # A worker opens the files itself: that costs less than to send it what is in them.
        return {key: value for key, value in self.__dict__.items() if key not in _OPENED}

    @property
    def options(self) -> dict[str, Any]:
        """What was found or chosen, and where the class names are from."""
        return self.form.options | {"classes": PurePath(self.config.classes).name}

    def items(self) -> list[str]:
        """The clips, ``file#name``, sorted."""
        return sorted(self._clips)

    def describe(self) -> list[str]:
        """What was found: clips, layout, parts, classes, and what is odd about them."""
        lines = [*super().describe(), *self._found]
        for file, (clips, parts) in self._sets.items():
            sizes = Counter(part for named in parts.values() for part in named)
            shown = ", ".join(f"{part} {size:,}" for part, size in sizes.items()) or "none"
            lines.append(f"{file}: {len(clips):,} clips; parts: {shown}")
            if missing := len(parts.keys() - clips.keys()):
                lines.append(f"{file}: warning: {missing:,} names in the parts have no annotation")
            if twice := sum(len({*_splits(named)}) < len(_splits(named)) for named in parts.values()):
                lines.append(f"{file}: warning: {twice:,} clips are in two parts of one split")
        if not self._parts:
            lines.append(f"split: {self._held[1]}")
        elif all(part.endswith("train") for part in self._parts):
            lines.append("warning: no clip is tested: no part is called val or test")
        return [*lines, f"classes: {few(self.class_names, 4)}", f"protocol: {self.protocol}"]

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError, naming the field, if it can't be used."""
        fields = clip_fields(self._raw(item), self.form, notes, "keypoint")
        name, clip, parts = self._clips[item]
        label = UNKNOWN_LABEL if clip.label is None else clip.label
        if clip.label is not None and not _is_label(label):
            raise ReadError(f"field 'label' must be a class index from 0 to {MAX_LABEL:,}")
        if label >= len(self.class_names):
            raise ReadError(f"field 'label' is {label}, but there are {len(self.class_names)} class names")
        split = " ".join(parts) if self._parts else self._held[0][item]
        return Sample(name, int(label), split=split, **_recorded(name), **fields)

    def _read_file(self, file: Path) -> ClipSet:
        """The clips of a file, but for their arrays; raises SourceError if it isn't one of this data set."""
        try:
            if what := disguised(file, ".pkl"):
                raise ReadError(f"is {what}")
            with open(file, "rb") as handle:
                return _annotations(load_plain(handle), file.stem)
        except (OSError, ReadError) as error:
            raise SourceError(f"{file}: {getattr(error, 'strerror', None) or error}") from None

    @cached_property
    def _sets(self) -> dict[str, ClipSet]:
        return {file: self._read_file(self.source / file) for file in self._files}

    @cached_property
    def _clips(self) -> dict[str, tuple[str, SetClip, list[str]]]:
        """Name, clip and parts by item."""
        found: dict[str, tuple[str, SetClip, list[str]]] = {}
        for file, (clips, parts) in self._sets.items():
            found |= {f"{file}#{name}": (name, clip, parts.get(name, [])) for name, clip in clips.items()}
        return found

    @cached_property
    def _parts(self) -> list[str]:
        """The parts that the files name, each once."""
        return list(dict.fromkeys(chain(*chain(*(found.parts.values() for found in self._sets.values())))))

    @cached_property
    def _held(self) -> tuple[dict[str, str], str]:
        """The part of each clip where the files name none, and by which rule."""
        subjects = {item: _recorded(name).get("subject", "") for item, (name, *_) in self._clips.items()}
        return hold_out(subjects)

    def _raw(self, item: str) -> RawClip:
        return self._clips[item][1].load(self.config.axes)

    def _name_classes(self) -> tuple[str, ...]:
        chosen = self.config.classes
        if chosen in _CLASSES:
            return _CLASSES[chosen]
        if chosen:
            purpose = f"field 'classes' must be a text file, or {' or '.join(_CLASSES)}"
            names = [line.strip() for line in read_lines(Path(chosen), purpose) if line.strip()]
            if not names or len(set(names)) != len(names):
                rule = "must name the classes, one a line and each once"
                raise SourceError(f"field 'classes': {chosen}: {rule}")
            return tuple(names)
        clips = self._clips.values()
        if actions := {clip.label: clip.action for _, clip, _ in clips if clip.action}:
            return tuple(actions[label] for label in sorted(actions))
        count = 1 + max((int(clip.label) for _, clip, _ in clips if _is_label(clip.label)), default=0)
        # Whether all clips are named as NTU's are, and their labels are what those names say.
        named = [(_ntu_name(name), clip.label) for name, clip, _ in clips]
        is_ntu = all(match is not None and int(match["action"]) - 1 == label for match, label in named)
        numbered = tuple(f"class {label}" for label in range(count))
        return next((known for known in _CLASSES.values() if is_ntu and count <= len(known)), numbered)


def _ntu_name(name: str) -> re.Match[str] | None:
    return NAME.fullmatch(PurePosixPath(name).name.removesuffix("_rgb"))


def _recorded(name: str) -> dict[str, Any]:
    """Setup, camera and subject, which NTU's clips have in their names."""
    match = _ntu_name(name)
    return {} if match is None else {who: str(int(match[who])) for who in ("setup", "camera", "subject")}


def _annotations(content: Any, stem: str) -> ClipSet:
    annotations = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(annotations, list):
        raise ReadError("is no annotation file: it has no list 'annotations'")
    clips: dict[str, SetClip] = {}
    for place, annotation in enumerate(annotations):
        fields = annotation if isinstance(annotation, dict) else {}
        name = fields.get("frame_dir")
        usable = isinstance(name, str) and name and not name.startswith("[") and name not in clips
        name = str(name) if usable else f"[{place}]"
        clips[name] = SetClip(fields.get("label"), partial(_clip, name, fields))
    if isinstance(content, dict):
        return ClipSet(clips, _read_parts(content.get("split", {})))
    parts: dict[str, list[str]] = {}
    with suppress(SourceError):  # older versions of MMAction2 have a file for each part
        part = split_of(stem)
        parts = {name: [part] for name in clips if not name.startswith("[")}
    return ClipSet(clips, parts)


def _clip(name: str, fields: Mapping[str, Any], axes: str) -> RawClip:
    """The joints of an annotation; raises ReadError."""
    if name.startswith("["):
        raise ReadError(f"annotation {name[1:-1]}: field 'frame_dir' must be a name that no other clip has")
    if fields.get("keypoint") is None:
        elsewhere = ": its joints are in the file that 'raw_file' names" if "raw_file" in fields else ""
        raise ReadError(f"field 'keypoint' is missing{elsewhere}")
    known = {field: called for field, called in _CALLED.items() if fields.get(called) is not None}
    clip = to_clip({field: _load(fields[called], called) for field, called in known.items()}, axes, _CALLED)
    match fields.get("img_shape"):
        case (int(height), int(width)):
            clip = clip._replace(size=(width, height))
    total = fields.get("total_frames")
    differs = isinstance(total, (int, np.integer)) and total != clip.joints.shape[1]
    return clip._replace(notes=(FRAMES_DIFFER,)) if differs else clip


def _read_parts(split: Any) -> dict[str, list[str]]:
    """The parts of each clip; raises ReadError."""
    parts: dict[str, list[str]] = {}
    named: Iterable[tuple[Any, Any]] = split.items() if isinstance(split, dict) else [(None, None)]
    for part, names in named:
        is_list = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
        if not isinstance(part, str) or not is_list:
            raise ReadError("field 'split' must be a dict of parts, each a list of names")
        try:
            word = split_of("_".join(part.split()))  # a sample's parts are separated by spaces
        except SourceError as error:
            raise ReadError(f"field 'split': {error}") from None
        for name in names:
            if word not in parts.setdefault(name, []):
                parts[name].append(word)
    return parts


def _splits(parts: Iterable[str]) -> list[str]:
    """The split that each part belongs to, if it is one's: ``xsub`` for ``xsub_train``, ``1`` for ``train1``."""
    found = (match for part in parts if (match := _PART.fullmatch(part)) is not None)
    return [match[1] or match[2] or "" for match in found]


def _is_label(label: Any) -> bool:
    is_whole = isinstance(label, (int, np.integer)) and not isinstance(label, bool)
    return is_whole and 0 <= int(label) <= MAX_LABEL


def _load(array: Any, field: str) -> np.ndarray:
    """An array that is still in the file, or nested lists; raises ReadError."""
    if isinstance(array, list):
        return nested(field, array)
    try:
        found = array.load() if isinstance(array, StoredArray) else array
    except ReadError as error:
        raise ReadError(f"field '{field}': {error}") from None
    if not isinstance(found, np.ndarray):
        raise ReadError(f"field '{field}' must be an array, is {type(found).__name__}")
    return found
