"""What a file of skeletons is, by its content, and how it is read: one table for `predict` and a folder of them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from hhmnet.readers import ReaderConfig, ReadError, SourceError, files_below
from hhmnet.readers.array_sets import read_set
from hhmnet.readers.arrays import ArrayConfig, clip_fields, survey, understand
from hhmnet.readers.clip_files import (
    MAX_BYTES,
    SUFFIXES,
    RawClip,
    from_json,
    npy_array,
    read_csv,
    read_npz,
    to_clip,
)
from hhmnet.readers.json_poses import find_recording, named_landmarks, read_poses, read_recording
from hhmnet.readers.kinect_text import is_kinect_text, read_kinect_text
from hhmnet.readers.labels import DEFAULT_TABLE, Labels, to_labels
from hhmnet.readers.listed import ListedReader
from hhmnet.readers.ntu_skeleton import read_persons
from hhmnet.readers.nw_ucla import skeletons_of
from hhmnet.readers.recorded import find_videos, video_fields
from hhmnet.readers.text import disguised, read_json, read_lines
from hhmnet.sample import Sample
from hhmnet.skeleton import NTU25, SkeletonLayout

_AS_CSV = "as a CSV with a line a frame (docs/your_own_data.md)"
_RIG = f"holds a moving figure, mostly as rotations of bones; export the joints' positions, {_AS_CSV}"
_MARKERS = f"holds markers on the skin; fit a skeleton to them, then export the joints' positions, {_AS_CSV}"
_FOREIGN = {
    **dict.fromkeys([".bvh", ".fbx", ".amc", ".asf", ".glb", ".gltf", ".usd"], _RIG),
    **dict.fromkeys((".c3d", ".trc"), _MARKERS),
    **dict.fromkeys([".h5", ".slp", ".parquet", ".xlsx"], "isn't read; export it as CSV or NumPy's .npy"),
    ".mat": "is read of UTD-MHAD alone, by `hhmnet prepare utd_mhad`; of others save the joints as .npy",
}
"""Endings of formats that aren't read, and the way out."""
_BEGINNINGS = {b"HIERARCHY": ".bvh", b"Kaydara FBX": ".fbx", b"glTF": ".glb", b"PathFileType": ".trc"}


def foreign(path: Path, head: bytes = b"") -> str | None:
    """What a file is that can't be read, and what to do, by its first bytes or name; None if it isn't known."""
    kinds = (suffix for start, suffix in _BEGINNINGS.items() if head.startswith(start))
    kind = next(kinds, path.suffix.lower())
    return f"is {kind[1:].upper()}, which {_FOREIGN[kind]}" if kind in _FOREIGN else None


def read_clip(path: Path, axes: str = "") -> RawClip:
    """The clip in a file, or in a folder of OpenPose's frames; ``axes`` is the order of the axes of an array in it.
    Raises ReadError if it isn't a clip, with what it is instead, or OSError.
    """
    if not path.is_file():
        if (frames := find_recording(path)) is not None:
            return read_recording(frames)
        is_folder = "is a folder without frames of OpenPose (…_keypoints.json)"
        raise ReadError(is_folder if path.is_dir() else "there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ReadError(f"is larger than {MAX_BYTES // 2**20} MiB, so it is no single clip")
    with open(path, "rb") as handle:
        head = handle.read(256)
    if (fault := foreign(path, head)) is not None:
        raise ReadError(fault)
    if is_kinect_text(path):
        return read_kinect_text(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ReadError(f"'{suffix}' is none of the endings {', '.join(SUFFIXES)}")
    if what := disguised(path, suffix):
        raise ReadError(f"is {what}")
    if suffix == ".json":
        document = read_json(path, nan=True)
        if isinstance(document, dict) and "skeletons" in document:
            return skeletons_of(document)
        is_plain = isinstance(document, dict) and "joints" in document
        return (None if is_plain else read_poses(document)) or from_json(document, axes)
    try:
        found = read_set(path)
    except SourceError as error:
        raise ReadError(str(error).removeprefix(f"{path}: ")) from None
    if found is not None:
        raise ReadError(f"holds a data set of {len(found.clips):,} clips; `hhmnet prepare arrays` reads it")
    if suffix == ".csv":
        return named_landmarks(read_csv(path))
    if suffix == ".npz":
        return read_npz(path, axes)
    with open(path, "rb") as handle:
        return to_clip({"joints": npy_array(handle)}, axes)


def read_skeleton(
    path: Path, wanted: SkeletonLayout, arrays: ArrayConfig, videos: Path | None, notes: Counter[str]
) -> tuple[SkeletonLayout, dict[str, Any]]:
    """The skeleton of a file, NTU's ``.skeleton`` or what ``folder`` reads, and a sample's fields that follow from it.

    ``wanted`` is the model's skeleton, ``arrays`` what is said of joints, and ``videos`` a folder of NW-UCLA's depth
    videos, whose fields come too if the clip has one. Raises ReadError where it isn't such a file, or its skeleton
    isn't known; SourceError where there is no such folder of videos; OSError.
    """
    if path.suffix.lower() == ".skeleton":
        return NTU25, read_persons(path, notes)
    raw = read_clip(path, arrays.axes)
    layout, fields = understood(raw, wanted, arrays, notes)
    if videos is not None and raw.camera is not None:
        for video in find_videos(videos, [path.stem])[0].values():
            fields |= video_fields(videos, video, fields["joints"], notes, camera=raw.camera)
    return layout, fields


def understood(
    raw: RawClip, wanted: SkeletonLayout, arrays: ArrayConfig, notes: Counter[str]
) -> tuple[SkeletonLayout, dict[str, Any]]:
    """The skeleton of a clip, and a sample's fields that follow from it; see :func:`read_skeleton`."""
    form = understand([raw], arrays, wanted)
    if form.is_inferred:
        notes[f"read as {form}"] += 1
    return form.layout, clip_fields(raw, form, notes)


@dataclass
class FolderConfig(ArrayConfig):
    """What can be chosen for a folder of skeletons."""

    labels: Path = DEFAULT_TABLE
    """The table of the clips and their labels; a relative path is looked for in the source folder first."""
    fps: float = 0.0
    """Frames a second, for a table whose columns start and end are in seconds."""


class Folder(ListedReader):
    """Skeletons of your own, in files of a common format, a file a clip; docs/your_own_data.md has examples.

    A joint whose position is NaN (empty, null) is missing. A table says what the clips are, see its base class.
    """

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "skeleton"
    citation: ClassVar[str] = "Your own data."
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    config_class: ClassVar[type[ReaderConfig]] = FolderConfig
    config: FolderConfig

    def __init__(self, source: Path, config: ReaderConfig | None = None) -> None:
        super().__init__(source, config)
        self.form, self._found = survey(self.items(), self._raw, self.config, self.source)
        self.layout = self.form.layout

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen, with what was found."""
        return super().options | self.form.options

    def describe(self) -> list[str]:
        """What was understood: the table, the files, the skeleton, the classes, and what is tested."""
        return [*super().describe(), *self._found]

    def read(self, item: str, notes: Counter[str]) -> Sample:
        """Read one clip; raises ReadError, with the reason, if it can't be used."""
        fields = clip_fields(self._raw(item), self.form, notes)
        return self.sample(item, fields, notes, self.config.fps)

    def _is_raw(self, path: PurePosixPath) -> bool:
        return super()._is_raw(path) or is_kinect_text(path)

    def _raw(self, item: str) -> RawClip:
        return read_clip(self.file(item), self.config.axes)


class UTKinect(Folder):
    """UTKinect-Action3D: 10 actions of 10 persons, cut out of its recordings as ``actionLabel.txt`` says.

    Its paper tests each sequence by itself; here some persons are tested.
    """

    name: ClassVar[str] = "utkinect"
    title: ClassVar[str] = "UTKinect-Action3D"
    citation: ClassVar[str] = (
        "L. Xia, C.-C. Chen, J. K. Aggarwal. View Invariant Human Action Recognition. CVPRW 2012."
    )
    suffixes: ClassVar[tuple[str, ...]] = ()

    def find_labels(self) -> Labels:
        """What ``actionLabel.txt`` says in the source, beside it or in ``joints``; raises SourceError."""
        recordings = [path for path in files_below(self.source) if is_kinect_text(path)]
        by_name = {path.stem.lower().removeprefix("joints_"): path.as_posix() for path in recordings}
        places = [self.source / "actionLabel.txt", self.source.parent / "actionLabel.txt"]
        places.append(self.source / "joints/actionLabel.txt")
        table = next((place for place in places if place.is_file()), places[0])
        found, recording = [], ""
        for line, text in enumerate(read_lines(table, "it says in which frames the actions are"), start=1):
            action, colon, frames = text.partition(":")
            if text.strip() and not colon:
                recording = text.strip().lower()
            elif (numbers := re.fullmatch(r"\s*(\d{1,9})\s+(\d{1,9})\s*", frames, re.ASCII)) is not None:
                if path := by_name.get(recording):
                    fields = {"path": path, "label": action, "subject": str(int(recording[1:3]))}
                    fields |= {"start": numbers[1], "end": str(int(numbers[2]) + 1)}
                    found.append((table, line, fields))
            elif colon and "nan" not in frames.lower():
                raise SourceError(f"{table}, line {line}: must be an action, a colon, and two frames")
        if not found:
            raise SourceError(f"{table}: none of its recordings is in {self.source}")
        return to_labels(table, found)
