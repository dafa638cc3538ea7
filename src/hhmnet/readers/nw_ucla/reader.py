"""Northwestern-UCLA Multiview Action 3D, and any data set written as clips of the same JSON form."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NoReturn

import numpy as np

from hhmnet.readers.base import Reader, ReaderConfig, ReadError, SourceError
from hhmnet.readers.nw_ucla.depth_videos import DepthVideos, NWUCLAConfig
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


class NWUCLA(Reader):
    """Northwestern-UCLA Multiview Action 3D: 1,484 clips of 10 actions by 10 subjects, seen from 3 views.

    Format: one JSON file a clip, ``aAA_sSS_eEE_vVV.json`` (action id, subject, episode, view), an object
    with ``file_name`` (the same name), ``skeletons`` (T frames of 20 Kinect v1 joints x, y, z in metres, y
    up, z away from the camera) and ``label`` (from 1). One person a clip. A frame of zeros has no body.

    Classes: action ids 1, 2, 3, 4, 5, 6, 8, 9, 11, 12 are the labels 1 to 10. If the source folder has a
    ``classes.json``, ``{"name": str, "classes": [{"id": int, "name": str}, ...]}``, the action ids and names
    are taken from it, and the labels count its entries from 1.

    Depth videos: if the field ``videos`` names their folder, each clip is paired with the video of its name and the
    joints are projected on it, see :class:`~hhmnet.readers.nw_ucla.depth_videos.NWUCLAConfig`. They were made from
    the colour videos by estimating depth; no sensor measured it.

    Splits: cross-view, as in the paper and since: train on views 1 and 2 (1,020 clips), test on view 3 (464).
    The view is the sample's ``camera``.

    Terms: published for research by the authors of the paper. hhmnet brings no part of it along.

    Citation: J. Wang, X. Nie, Y. Xia, Y. Wu, S.-C. Zhu. Cross-view Action Modeling, Learning, and
    Recognition. CVPR 2014.

    Args:
        source: folder of the JSON files.
        config: a :class:`~hhmnet.readers.nw_ucla.depth_videos.NWUCLAConfig`.

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
        clips = [] if self.config.videos is None else [PurePosixPath(item).stem for item in self.items()]
        self._videos = DepthVideos(self.config, clips)

    @property
    def video_folder(self) -> Path | None:
        """The folder of depth videos, if one is given."""
        return self.config.videos

    def describe(self) -> list[str]:
        """What was found: files and depth videos."""
        return [*super().describe(), *self._videos.describe()]

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
        return Sample(
            sample_id=file.stem,
            label=label,
            joints=joints[None],
            present=present[None],
            frame_index=np.arange(len(joints), dtype=np.int32),
            subject=str(subject),
            camera=str(view),
            **self._videos.fields(file.stem, view, joints, notes),
        )


def joints_of(clip: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Joints ``(T, 20, 3)`` float32 of a clip's object, and where a body is, ``(T,)`` bool; raises ReadError."""
    if "skeletons" not in clip:
        raise ReadError("field 'skeletons' is missing")
    joints = _to_joints(clip["skeletons"], KINECT20.num_joints, KINECT20.dims)
    present = (joints != 0).any(axis=(1, 2))
    if not present.any():
        raise ReadError("field 'skeletons': no frame has a body, all joints are zero")
    return joints, present


def load_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; raises ReadError if there is none."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ReadError(f"can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ReadError(f"not UTF-8 text (byte {error.start})", line) from None
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        end = {"{": "}", "[": "]"}.get(text.strip()[:1], "")
        whole = text[error.pos :].strip() and text.rstrip().endswith(end)
        reason = "not valid JSON" if whole else "cut short"
        raise ReadError(f"{reason}: {error.msg} (column {error.colno})", error.lineno) from None
    except RecursionError:
        raise ReadError("not valid JSON: nested too deeply") from None
    except ReadError:
        raise
    except ValueError as error:
        raise ReadError(f"not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ReadError(f"must hold one JSON object, holds {_kind(content)}")
    return content


def _refuse_constant(constant: str) -> NoReturn:
    raise ReadError(f"holds {constant}, which is no number")


def _check_field(clip: dict[str, Any], key: str, named: str | int) -> None:
    """Raise ReadError unless a clip's field says what the file's name says."""
    if key not in clip:
        raise ReadError(f"field '{key}' is missing")
    if type(clip[key]) is not type(named) or clip[key] != named:
        raise ReadError(f"field '{key}' is {_short(clip[key])}, but by the file's name it is {named!r}")


def _to_joints(frames: Any, count: int, dims: int) -> np.ndarray:
    """Nested lists as joints ``(T, V, C)`` float32; raises ReadError naming the first fault."""
    try:
        array = np.asarray(frames)
    except ValueError:  # lists of unequal lengths, or nested deeper than numpy goes
        array = np.empty(0)
    numeric = array.dtype.kind in "iuf" and array.shape[1:] == (count, dims) and len(array) > 0
    # Among numbers numpy turns true into 1 and false into 0, so only those values need a second look.
    if not numeric or np.isin(array, (0, 1)).any():
        _find_fault(frames, count, dims)
    try:
        # Whole numbers beyond 64 bits come as Python objects; only the conversion tells whether they fit.
        with np.errstate(over="ignore"):
            joints = array.astype(np.float64).astype(np.float32)
    except OverflowError:
        joints = np.full(1, np.inf, np.float32)
    if not np.isfinite(joints).all():
        raise ReadError("field 'skeletons': a number is too large")
    return joints


def _find_fault(frames: Any, count: int, dims: int) -> None:
    """Raise ReadError at the first thing that keeps ``frames`` from being numbers ``(T, count, dims)``."""
    if not isinstance(frames, list):
        raise ReadError(f"field 'skeletons' must be a list of frames, is {_kind(frames)}")
    if not frames:
        raise ReadError("field 'skeletons' is empty")
    for t, frame in enumerate(frames):
        where = f"field 'skeletons', frame {t}"
        if not isinstance(frame, list):
            raise ReadError(f"{where}: must be a list of joints, is {_kind(frame)}")
        if len(frame) != count:
            raise ReadError(f"{where}: must have {count} joints, has {len(frame)}")
        for v, joint in enumerate(frame):
            if not isinstance(joint, list):
                raise ReadError(f"{where}, joint {v}: must be a list of coordinates, is {_kind(joint)}")
            if len(joint) != dims:
                raise ReadError(f"{where}, joint {v}: must have {dims} coordinates, has {len(joint)}")
            for value in joint:
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise ReadError(f"{where}, joint {v}: must be numbers, has {_kind(value)}")


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
        action, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
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


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _short(value: Any) -> str:
    text = _kind(value) if isinstance(value, (dict, list)) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
