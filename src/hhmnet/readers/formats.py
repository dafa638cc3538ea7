"""What a file of skeletons is, by its content, and how it is read: for `predict` and for a folder of them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from hhmnet.readers import ReadError, SourceError, clip_files
from hhmnet.readers.array_sets import read_set
from hhmnet.readers.arrays import ArrayConfig, clip_fields, understand
from hhmnet.readers.clip_files import SUFFIXES, RawClip
from hhmnet.readers.joints import settle
from hhmnet.readers.json_poses import named_landmarks, read_poses, read_recording
from hhmnet.readers.ntu_skeleton import read_persons
from hhmnet.readers.nw_ucla import skeletons_of
from hhmnet.readers.recorded import RecordedReader, find_videos, video_fields
from hhmnet.readers.text import decode, disguised, foreign, read_json
from hhmnet.skeleton import KINECT20, NTU25, SkeletonLayout

_FRAME_FILE = re.compile(r"(?:(.*)_)?([0-9]{1,12})_keypoints\.json", re.IGNORECASE | re.DOTALL)


def clips_among(names: Iterable[str]) -> dict[str, list[str]]:
    """The files of each clip among the names of files: a file for itself, OpenPose's frames for their recording, which
    goes by its folder and its video's name; by the folder alone where that is called like the video.
    """
    clips: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        match = _FRAME_FILE.fullmatch(path.name)
        if match is not None:
            path = path.parent if match[1] in (None, path.parent.name) else path.parent / match[1]
        clips.setdefault(str(path), []).append(name)
    return clips


def is_clip(path: Path) -> bool:
    """Whether there is a file, or a recording of OpenPose, at ``path``."""
    try:
        return path.is_file() or bool(_recording(path))
    except (OSError, ReadError):
        return path.is_dir()


def _recording(path: Path) -> dict[int, Path]:
    """The files by frame of the recording that goes by a path, see :func:`clips_among`; none if there is none. Raises
    ReadError for a folder with several recordings, OSError for one that can't be listed.
    """
    folder = path if path.is_dir() else path.parent
    found = filter(None, map(_FRAME_FILE.fullmatch, os.listdir(folder) if folder.is_dir() else ()))
    frames = {f"{folder.name}/{match[0]}": int(match[2]) for match in found}
    clips = clips_among(frames)
    wanted = path.name if path.name == folder.name else f"{folder.name}/{path.name}"
    if folder == path and wanted not in clips:
        if len(clips) > 1:
            remedy = f"name one of them, such as {', '.join(sorted(clips)[:3])}"
            raise ReadError(f"holds OpenPose's frames of {len(clips)} videos; {remedy}")
        wanted = next(iter(clips), wanted)
    return {frames[name]: folder / PurePosixPath(name).name for name in clips.get(wanted, ())}


def read_clip(path: Path, axes: str = "") -> RawClip:
    """The clip in a file, or in a folder of OpenPose's frames; ``axes`` is the order of the axes of an array in it.
    Raises ReadError if it isn't a clip, with what it is instead, or OSError.
    """
    if not path.is_file():
        if frames := _recording(path):
            return read_recording(frames)
        is_folder = "is a folder without frames of OpenPose (…_keypoints.json)"
        raise ReadError(is_folder if path.is_dir() else "there is no such file")
    if path.stat().st_size > clip_files.MAX_BYTES:
        raise ReadError(f"is larger than {clip_files.MAX_BYTES // 2**20} MiB, so it is no single clip")
    suffix = path.suffix.lower()
    if what := foreign(path) or disguised(path, suffix):
        raise ReadError(f"is {what}")
    if is_msr(path):
        return read_msr(path)
    if suffix not in SUFFIXES:
        raise ReadError(f"'{suffix}' is none of the endings {', '.join(SUFFIXES)}")
    if suffix == ".json":
        document = read_json(path, nan=True)
        if isinstance(document, dict) and "skeletons" in document:
            return skeletons_of(document)
        is_plain = isinstance(document, dict) and "joints" in document
        return (None if is_plain else read_poses(document)) or clip_files.from_json(document, axes)
    if suffix == ".csv":
        return named_landmarks(clip_files.read_csv(path))
    try:
        found = read_set(path)
    except SourceError as error:
        raise ReadError(str(error).removeprefix(f"{path}: ")) from None
    if found is not None:
        raise ReadError(f"holds a data set of {len(found.clips):,} clips; `hhmnet prepare arrays` reads it")
    if suffix == ".npz":
        return clip_files.read_npz(path, axes)
    with open(path, "rb") as handle:
        return clip_files.to_clip({"joints": clip_files.npy_array(handle)}, axes)


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


_MSR = re.compile(r"a(?P<action>\d\d)_s(?P<subject>\d\d)_e\d\d_skeleton3d", re.ASCII | re.IGNORECASE)
_MSR_JOINTS = (
    "right_shoulder left_shoulder shoulder_center spine right_hip left_hip hip_center right_elbow left_elbow "
    "right_wrist left_wrist right_hand left_hand right_knee left_knee right_ankle left_ankle right_foot left_foot head"
)
_MSR_CLASSES = (
    "high arm wave, horizontal arm wave, hammer, hand catch, forward punch, high throw, draw x, draw tick, "
    "draw circle, hand clap, two hand wave, side boxing, bend, forward kick, side kick, jogging, tennis swing, "
    "tennis serve, golf swing, pick up and throw"
)


def is_msr(path: Path | PurePosixPath) -> bool:
    """Whether a file is called as MSR Action3D's are."""
    return path.suffix.lower() == ".txt" and _MSR.fullmatch(path.stem) is not None


def read_msr(path: Path) -> RawClip:
    """The clip in a file of MSR Action3D: a line a joint, ``x y z confidence`` in metres with y up, 20 lines a frame in
    the order of the data set's drawing code. Raises ReadError, with the line, if it isn't such a text; OSError.
    """
    numbers: list[float] = []
    for line, text in enumerate(decode(path.read_bytes()).splitlines(), 1):
        cells = text.split()
        if len(cells) not in (0, 4):
            raise ReadError(f"has {len(cells)} numbers; MSR Action3D has 4", line)
        try:
            numbers += map(float, cells)
        except ValueError:
            raise ReadError("holds something else than numbers", line) from None
    if not numbers or len(numbers) % 80:
        raise ReadError(f"has {len(numbers) // 4} joints, which is no multiple of 20")
    order = [_MSR_JOINTS.split().index(joint) for joint in KINECT20.joints]
    joints = np.array(numbers).reshape(1, -1, 20, 4)[:, :, order, :3]
    notes = ("MSR Action3D: read as kinect20",)
    return RawClip(joints, np.arange(joints.shape[1]), layout="kinect20", notes=notes)


class MSRAction3D(RecordedReader):
    """MSR Action3D: 20 actions of 10 persons, the files ``a01_s02_e03_skeleton3D.txt`` of its real-world joints."""

    name: ClassVar[str] = "msr_action3d"
    title: ClassVar[str] = "MSR Action3D"
    citation = "W. Li, Z. Zhang, Z. Liu. Action Recognition Based on a Bag of 3D Points. CVPRW 2010."
    protocol = "msr_action3d"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    pattern = _MSR
    form = "aAA_sSS_eEE_skeleton3D.txt"
    known: Mapping[str, range] = {"action": range(1, 21)}
    layout = KINECT20
    class_names = tuple(_MSR_CLASSES.split(", "))

    def _is_raw(self, path: PurePosixPath) -> bool:
        return is_msr(path)

    def parse(self, file: Path, told: Mapping[str, int], notes: Counter[str]) -> dict[str, Any]:
        """The skeleton of one file; raises ReadError if it can't be used."""
        clip = read_msr(file)
        notes.update(clip.notes)
        return settle(clip.joints, notes, largest=100.0, remedy=" m")
