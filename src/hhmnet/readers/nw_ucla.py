"""Northwestern-UCLA Multiview Action 3D, and any data set written as clips of the same JSON form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.conversion import Camera
from hhmnet.fields import brief, one_of
from hhmnet.readers import ReaderConfig, ReadError, SourceError
from hhmnet.readers.clip_files import RawClip, nested, numbers
from hhmnet.readers.joints import settle
from hhmnet.readers.labels import read_table
from hhmnet.readers.recorded import RecordedConfig, RecordedReader
from hhmnet.readers.text import read_json
from hhmnet.skeleton import KINECT20

CLASSES_FILE = "classes.json"
CAMERA = Camera(560.0, 486.0, 319.5, 245.0, (640, 480))
"""The camera of the depth videos, which are squashed: fitted to the bodies' outlines in the training views."""

_NAMES = (
    "pick up with one hand, pick up with two hands, drop trash, walk around, sit down, stand up, donning, doffing, "
    "throw, carry"
)
_CLASSES = dict(zip((1, 2, 3, 4, 5, 6, 8, 9, 11, 12), _NAMES.split(", "), strict=True))

ALIGNED = "aligned"
DELAYS = {1: 1.0, 2: 3.5, 3: 1.0}
"""How many frames of the skeleton the depth videos of each view come late, measured in two ways that agree within one:
by how well projected bodies cover the walking persons (124 clips of action 4), and by the correlation of the joints'
speed with the change between pictures (420 clips of other actions).
"""


@dataclass
class NWUCLAConfig(RecordedConfig):
    """What can be chosen when NW-UCLA is read: whether its depth videos go with it, and how."""

    videos: Path | None = None
    """Folder of depth videos named like the clips (a01_s01_e00_v01.avi); without it, no clip has a video."""
    pairing: Path | None = None
    """Table with the columns name and aligned; a clip whose aligned is 1 belongs to the part "aligned"."""
    alignment: str = "index"
    """How frames are paired: index (one to one), stretch (by relative time, as the depth videos have about one frame
    to two of the skeleton) or measured (stretch, and as late as the videos of each view were measured to be)."""

    def __post_init__(self) -> None:
        one_of(self, "alignment", ("index", "stretch", "measured"))


class NWUCLA(RecordedReader):
    """Northwestern-UCLA Multiview Action 3D: 1,484 clips of 10 actions by 10 subjects, seen from 3 views.

    Format: one JSON file a clip, ``aAA_sSS_eEE_vVV.json`` (action id, subject, episode, view), an object with
    ``file_name`` (the same name), ``skeletons`` (T frames of 20 Kinect v1 joints x, y, z in metres, y up, z away from
    the camera) and ``label`` (from 1). One person a clip. A frame of zeros has no body.

    Classes: action ids 1, 2, 3, 4, 5, 6, 8, 9, 11, 12 are the labels 1 to 10. A ``classes.json`` in the source folder,
    ``{"name": str, "classes": [{"id": int, "name": str}, ...]}``, gives other ids and names, in the labels' order.

    Depth videos: those of :class:`NWUCLAConfig`, on which the joints are projected, were made from the colour videos by
    estimating depth; no sensor measured it. Splits: cross-view, as in the paper and since: train on views 1 and 2
    (1,020 clips), test on view 3 (464). The view is the sample's ``camera``. Terms: published for research by the
    authors of the paper. hhmnet brings no part of it along.
    """

    name: ClassVar[str] = "nw_ucla"
    title: ClassVar[str] = "NW-UCLA"
    citation: ClassVar[str] = (
        "J. Wang, X. Nie, Y. Xia, Y. Wu, S.-C. Zhu. "
        "Cross-view Action Modeling, Learning, and Recognition. CVPR 2014."
    )
    protocol = "nw_ucla_cross_view"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    config_class: ClassVar[type[ReaderConfig]] = NWUCLAConfig
    pattern = re.compile(r"a(?P<action>\d+)_s(?P<subject>\d+)_e\d+_v(?P<camera>\d+)", re.ASCII)
    form = "aAA_sSS_eEE_vVV.json"
    layout = KINECT20

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        file, pairing = self.source / CLASSES_FILE, self.config.pairing
        classes = _read_classes(file) if file.exists() else _CLASSES
        self.class_names = tuple(classes.values())
        self.known = {"action": list(classes)}
        self._aligned = frozenset() if pairing is None else _read_aligned(pairing)

    def describe(self) -> list[str]:
        """What was found: files and depth videos, and how frames are paired."""
        lines, config = super().describe(), self.config
        if config.videos is not None:
            lines.append(f"alignment of the videos' frames: {config.alignment}")
        if config.pairing is not None:
            lines.append(f"{len(self._aligned):,} clips are '{ALIGNED}' by {config.pairing}")
        return lines

    def _is_raw(self, path: PurePosixPath) -> bool:
        return path.name != CLASSES_FILE and super()._is_raw(path)

    def parse(self, file: Path, told: Mapping[str, int], notes: Counter[str]) -> dict[str, Any]:
        """The skeleton of one file; raises ReadError, with the reason, if it can't be used."""
        clip = _object(file)
        for field, named in (("file_name", file.stem), ("label", self.label(told) + 1)):
            if field not in clip:
                raise ReadError(f"field '{field}' is missing")
            if type(clip[field]) is not type(named) or clip[field] != named:
                shown = brief(repr(clip[field]), 60)
                raise ReadError(f"field '{field}' is {shown}, but by the file's name it is {named!r}")
        fields = settle(skeletons_of(clip).joints, notes, field="skeletons")
        return fields | {"split": ALIGNED if file.stem in self._aligned else ""}

    def alignment(self, told: Mapping[str, int]) -> dict[str, Any]:
        """The depth camera, and how its frames lie to the skeleton's."""
        how = self.config.alignment
        delay = DELAYS.get(told["camera"], 0.0) if how == "measured" else 0.0
        return {"camera": CAMERA, "stretch": how != "index", "delay": delay}


def skeletons_of(clip: Mapping[str, Any]) -> RawClip:
    """The clip in an object of NW-UCLA's form; raises ReadError."""
    if "skeletons" not in clip:
        raise ReadError("field 'skeletons' is missing")
    joints = nested("skeletons", clip["skeletons"])
    if joints.ndim != 3 or joints.shape[1:] != (KINECT20.num_joints, KINECT20.dims):
        raise ReadError(f"field 'skeletons' must have the shape (T, 20, 3), has {joints.shape}")
    index = np.arange(len(joints))
    return RawClip(numbers("skeletons", joints)[None], index, camera=CAMERA, layout=KINECT20.name)


def _object(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise ReadError(f"must hold one JSON object, holds a {type(content).__name__}")
    return content


def _read_aligned(file: Path) -> frozenset[str]:
    """Names of the clips whose ``aligned`` is 1; raises SourceError, with the line, for a table that can't be used."""
    (_, headings), *lines = read_table(file, "it should say which clips are aligned")
    if not {"name", "aligned"} <= set(headings):
        raise SourceError(f"{file}, line 1: must name the columns 'name' and 'aligned'")
    names = set()
    for line, cells in lines:
        row = dict(zip(headings, cells, strict=False))
        if row.get("aligned") not in ("0", "1") or not row.get("name"):
            raise SourceError(f"{file}, line {line}: needs a name, and 0 or 1 for 'aligned'")
        if row["aligned"] == "1":
            names.add(row["name"])
    return frozenset(names)


def _read_classes(file: Path) -> dict[int, str]:
    """Class name of every action id, in the order of their labels; raises SourceError."""
    try:
        entries = _object(file).get("classes")
    except ReadError as error:
        raise SourceError(f"{file}: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise SourceError(f"{file}: field 'classes' must be a list of objects with 'id' and 'name'")
    classes: dict[int, str] = {}
    for place, entry in enumerate(entries):
        action, name = (entry.get(key) if isinstance(entry, dict) else None for key in ("id", "name"))
        is_entry = type(action) is int and action >= 0 and isinstance(name, str) and name != ""
        if not is_entry or action in classes or name in classes.values():
            rule = "an 'id', the action's whole number in the files' names, and a 'name', each of them once"
            shown = brief(repr(entry), 60)
            raise SourceError(f"{file}: field 'classes', entry {place} needs {rule}; it is {shown}")
        classes[action] = name  # type: ignore[index, assignment]
    return classes
