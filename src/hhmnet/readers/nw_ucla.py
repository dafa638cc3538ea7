"""Northwestern-UCLA Multiview Action 3D, and any data set written as clips of the same JSON form."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.conversion import KINECT_V1_COLOR, Camera
from hhmnet.fields import brief, one_of, within
from hhmnet.readers import Reader, ReaderConfig, ReadError, SourceError
from hhmnet.readers.labels import read_table
from hhmnet.readers.pairing import STRETCHED, by_time, find_videos, look_at, pair_frames, pixels_of
from hhmnet.readers.text import read_json
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20

CLASSES_FILE = "classes.json"

_NAME = re.compile(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)", re.ASCII)
_CLASSES = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "donning",
    9: "doffing",
    11: "throw",
    12: "carry",
}

ALIGNED = "aligned"
DELAYS = {1: 1.0, 2: 3.5, 3: 1.0}
"""How many frames of the skeleton the depth videos of each view come late.

Measured in two ways that agree within a frame: by how well projected bodies cover the walking persons (124 clips of
action 4), and by the correlation of the joints' speed with the change between pictures (420 clips of other actions).
"""


@dataclass
class NWUCLAConfig(ReaderConfig):
    """What can be chosen when NW-UCLA is read: whether its depth videos go with it, and how."""

    videos: Path | None = None
    """Folder of depth videos named like the clips (a01_s01_e00_v01.avi); without it, no clip has a video."""
    pairing: Path | None = None
    """Table with the columns name and aligned; a clip whose aligned is 1 belongs to the part "aligned"."""
    alignment: str = "index"
    """How frames are paired: index (one to one), stretch (by relative time, as the depth videos have about one frame
    to two of the skeleton) or measured (stretch, and as late as the videos of each view were measured to be)."""
    focal: float = 560.0
    """Focal length of the camera in pixels at 640 x 480; 560 fits the depth videos best, 545 to 575 nearly as well."""

    def __post_init__(self) -> None:
        one_of(self, "alignment", ("index", "stretch", "measured"))
        within(self, 100, 10_000, "focal")


def depth_fields(
    config: NWUCLAConfig, video: str, view: int, joints: np.ndarray, notes: Counter[str]
) -> dict[str, Any]:
    """A sample's fields ``video``, ``video_frames`` and ``pixels``; none if the video can't be read.

    Args:
        config: where the depth videos are, and how they are paired.
        video: the clip's, relative to their folder.
        view: the camera that saw it.
        joints: ``(T, V, 3)`` metres; zeros in frames without a body.
        notes: counts what doesn't fit.
    """
    look = look_at(Path(config.videos or ".", video), notes)
    if look is None:
        return {}
    if config.alignment == "index":
        frames, note = pair_frames(len(joints), look.frames)
    else:
        delay = DELAYS.get(view, 0.0) if config.alignment == "measured" else 0.0
        frames, note = by_time(len(joints), look.frames, delay), STRETCHED
    notes.update([note] if note else [])
    full = KINECT_V1_COLOR
    camera = Camera(config.focal, config.focal, full.cx, full.cy, full.size)
    pixels = pixels_of(joints[None], camera, look.size, notes)
    return {"video": video, "video_frames": frames, "pixels": pixels}


def _read_aligned(file: Path) -> frozenset[str]:
    """Names of the clips whose ``aligned`` is 1; raises SourceError, with the line, for a table that can't be used."""
    (_, headings), *lines = read_table(file, "it should say which clips are aligned")
    if not {"name", "aligned"} <= set(headings):
        raise SourceError(f"{file}, line 1: must name the columns 'name' and 'aligned'")
    aligned = set()
    for line, cells in lines:
        row = dict(zip(headings, cells, strict=False))
        if row.get("aligned") not in ("0", "1") or not row.get("name"):
            raise SourceError(f"{file}, line {line}: needs a name, and 0 or 1 for 'aligned'")
        if row["aligned"] == "1":
            aligned.add(row["name"])
    return frozenset(aligned)


class NWUCLA(Reader):
    """Northwestern-UCLA Multiview Action 3D: 1,484 clips of 10 actions by 10 subjects, seen from 3 views.

    Format: one JSON file a clip, ``aAA_sSS_eEE_vVV.json`` (action id, subject, episode, view), an object
    with ``file_name`` (the same name), ``skeletons`` (T frames of 20 Kinect v1 joints x, y, z in metres, y
    up, z away from the camera) and ``label`` (from 1). One person a clip. A frame of zeros has no body.

    Classes: action ids 1, 2, 3, 4, 5, 6, 8, 9, 11, 12 are the labels 1 to 10. If the source folder has a
    ``classes.json``, ``{"name": str, "classes": [{"id": int, "name": str}, ...]}``, the action ids and names
    are taken from it, and the labels count its entries from 1.

    Depth videos: if the field ``videos`` names their folder, each clip is paired with the video of its name and the
    joints are projected on it, see :class:`~hhmnet.readers.nw_ucla.NWUCLAConfig`. They were made from
    the colour videos by estimating depth; no sensor measured it.

    Splits: cross-view, as in the paper and since: train on views 1 and 2 (1,020 clips), test on view 3 (464).
    The view is the sample's ``camera``.

    Terms: published for research by the authors of the paper. hhmnet brings no part of it along.

    Citation: J. Wang, X. Nie, Y. Xia, Y. Wu, S.-C. Zhu. Cross-view Action Modeling, Learning, and
    Recognition. CVPR 2014.

    Args:
        source: folder of the JSON files.
        config: a :class:`~hhmnet.readers.nw_ucla.NWUCLAConfig`.

    Raises:
        SourceError: there is no such folder or folder of videos, or ``classes.json`` or the table of pairs can't be
            used.
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
    layout = KINECT20
    config: NWUCLAConfig

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        file = self.source / CLASSES_FILE
        classes = _read_classes(file) if file.exists() else _CLASSES
        self.class_names = tuple(classes.values())
        self._labels = {action: label for label, action in enumerate(classes)}
        videos, pairing = self.config.videos, self.config.pairing
        self._aligned = frozenset() if pairing is None else _read_aligned(pairing)
        clips = [] if videos is None else [PurePosixPath(item).stem for item in self.items()]
        self._videos, self._left_over = ({}, []) if videos is None else find_videos(videos, clips)

    @property
    def video_folder(self) -> Path | None:
        """The folder of depth videos, if one is given."""
        return self.config.videos

    def describe(self) -> list[str]:
        """What was found: files and depth videos, and how frames are paired."""
        lines, config = super().describe(), self.config
        if config.videos is not None:
            lines.append(
                f"videos for {len(self._videos):,} of {len(self.items()):,} samples; {len(self._left_over):,} videos "
                f"of no sample; alignment of their frames: {config.alignment}"
            )
        if config.pairing is not None:
            lines.append(f"{len(self._aligned):,} clips are '{ALIGNED}' by {config.pairing}")
        return lines

    def _is_raw(self, path: PurePosixPath) -> bool:
        return path.name != CLASSES_FILE and super()._is_raw(path)

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError, with the reason, if it can't be used."""
        file = self.source / item
        named = _NAME.fullmatch(file.stem)
        if named is None:
            raise ReadError("the file's name is not of the form aAA_sSS_eEE_vVV.json")
        action, subject, _, view = (int(number) for number in named.groups())
        if action not in self._labels:
            known = ", ".join(str(known) for known in self._labels)
            raise ReadError(f"action id {action} in the file's name is unknown; known: {known}")
        label = self._labels[action]

        clip = load_object(file)
        _check_field(clip, "file_name", file.stem)
        _check_field(clip, "label", label + 1)
        joints, present = joints_of(clip)
        video = self._videos.get(file.stem)
        return Sample(
            sample_id=file.stem,
            label=label,
            joints=joints[None],
            present=present[None],
            frame_index=np.arange(len(joints), dtype=np.int32),
            subject=str(subject),
            camera=str(view),
            split=ALIGNED if file.stem in self._aligned else "",
            **({} if video is None else depth_fields(self.config, video, view, joints, notes)),
        )


def joints_of(clip: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Joints ``(T, 20, 3)`` float32 of a clip's object, and where a body is, ``(T,)`` bool; raises ReadError."""
    if "skeletons" not in clip:
        raise ReadError("field 'skeletons' is missing")
    joints = _to_joints(clip["skeletons"])
    present = (joints != 0).any(axis=(1, 2))
    if not present.any():
        raise ReadError("field 'skeletons': no frame has a body, all joints are zero")
    return joints, present


def load_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; raises ReadError if there is none."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise ReadError(f"must hold one JSON object, holds {kind_of(content)}")
    return content


def _check_field(clip: dict[str, Any], key: str, named: str | int) -> None:
    """Raise ReadError unless a clip's field says what the file's name says."""
    if key not in clip:
        raise ReadError(f"field '{key}' is missing")
    value = clip[key]
    if type(value) is not type(named) or value != named:
        shown = kind_of(value) if isinstance(value, (dict, list)) else brief(repr(value), 60)
        raise ReadError(f"field '{key}' is {shown}, but by the file's name it is {named!r}")


def _to_joints(frames: Any) -> np.ndarray:
    """Nested lists as joints ``(T, 20, 3)`` float32; zeros for a frame that is null or empty.

    Raises:
        ReadError: names the first fault.
    """
    if not isinstance(frames, list):
        raise ReadError(f"field 'skeletons' must be a list of frames, is {kind_of(frames)}")
    if not frames:
        raise ReadError("field 'skeletons' is empty")
    for t, frame in enumerate(frames):
        if frame is not None and frame != []:
            _check_frame(frame, f"field 'skeletons', frame {t}")
    nobody = [[0] * KINECT20.dims] * KINECT20.num_joints
    try:
        with np.errstate(over="ignore"):
            joints = np.array([frame or nobody for frame in frames], np.float64).astype(np.float32)
    except OverflowError:  # a whole number beyond float64
        joints = np.full(1, np.inf, np.float32)
    if not np.isfinite(joints).all():
        raise ReadError("field 'skeletons': a number is too large")
    return joints


def _check_frame(frame: Any, where: str) -> None:
    """Raise ReadError at the first thing that keeps a frame from being numbers ``(20, 3)``."""
    count, dims = KINECT20.num_joints, KINECT20.dims
    if not isinstance(frame, list):
        raise ReadError(f"{where}: must be a list of joints, is {kind_of(frame)}")
    if len(frame) != count:
        raise ReadError(f"{where}: must have {count} joints, has {len(frame)}")
    for v, joint in enumerate(frame):
        if not isinstance(joint, list):
            raise ReadError(f"{where}, joint {v}: must be a list of coordinates, is {kind_of(joint)}")
        if len(joint) != dims:
            raise ReadError(f"{where}, joint {v}: must have {dims} coordinates, has {len(joint)}")
        for value in joint:
            if type(value) not in (int, float):
                raise ReadError(f"{where}, joint {v}: must be numbers, has {kind_of(value)}")


def _read_classes(file: Path) -> dict[int, str]:
    """Class name of every action id, in the order of their labels; raises SourceError."""
    try:
        content = load_object(file)
    except ReadError as error:
        raise SourceError(f"{file}: {error}") from None
    entries = content.get("classes")
    if not isinstance(entries, list) or not entries:
        raise SourceError(f"{file}: field 'classes' must be a list of objects with 'id' and 'name'")
    classes: dict[int, str] = {}
    for place, entry in enumerate(entries):
        where = f"{file}: field 'classes', entry {place}"
        fields = entry if isinstance(entry, dict) else {}
        action, name = fields.get("id"), fields.get("name")
        if type(action) is not int or action < 0:
            raise SourceError(
                f"{where}: 'id' must be a whole number from 0, the action id in the files' names"
            )
        if not isinstance(name, str) or not name:
            raise SourceError(f"{where}: 'name' must be text")
        if action in classes or name in classes.values():
            raise SourceError(f"{where}: id {action} or name {name!r} stands there twice")
        classes[action] = name
    return classes


def kind_of(value: Any) -> str:
    """What a value of JSON is, in a word or two."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
