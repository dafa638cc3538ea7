"""What a file of skeletons is, by its content, and how it is read: one table for `prepare` and `predict`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.array_sets import read_set
from hhmnet.readers.arrays import ArrayConfig, clip_fields, understand
from hhmnet.readers.clip_files import MAX_BYTES, RawClip, from_json
from hhmnet.readers.clip_files import read_clip as read_arrays
from hhmnet.readers.joints import doubts
from hhmnet.readers.json_poses import read_poses
from hhmnet.readers.kinect_text import is_kinect_text, read_kinect_text
from hhmnet.readers.mediapipe import named_landmarks
from hhmnet.readers.ntu import body_fields
from hhmnet.readers.ntu_bodies import BodyRules, persons
from hhmnet.readers.ntu_format import parse
from hhmnet.readers.nw_ucla import NWUCLAConfig, depth_fields, joints_of, load_object
from hhmnet.readers.openpose import find_recording, read_recording
from hhmnet.readers.pairing import find_videos
from hhmnet.readers.text import read_json
from hhmnet.skeleton import KINECT20, NTU25, SkeletonLayout

_AS_CSV = "export the joints' positions, as a CSV with a line a frame (docs/your_own_data.md)"
_RIG = f"holds a moving figure, mostly as rotations of bones; {_AS_CSV}"
_MARKERS = f"holds markers on the skin; fit a skeleton to them, then {_AS_CSV}"
_FOREIGN = {
    **dict.fromkeys((".bvh", ".fbx", ".amc", ".asf", ".glb", ".gltf", ".usd"), _RIG),
    **dict.fromkeys((".c3d", ".trc"), _MARKERS),
    **dict.fromkeys(
        (".h5", ".slp", ".parquet", ".xlsx"), "isn't read; save or export it as CSV or NumPy's .npy"
    ),
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
    """The clip in a file, or in a folder of OpenPose's frames.

    Args:
        path: the file or folder.
        axes: order of the axes of an array in it, such as TMVC; by its values if "".

    Raises:
        ReadError: it isn't a clip; says what is wrong, or what it is instead.
        OSError: it can't be read.
    """
    if not path.is_file():
        if (frames := find_recording(path)) is None:
            raise ReadError(
                "is a folder without frames of OpenPose (…_keypoints.json)"
                if path.is_dir()
                else "there is no such file"
            )
        return read_recording(frames)
    with open(path, "rb") as handle:
        head = handle.read(256)
    if path.stat().st_size > MAX_BYTES:
        raise ReadError(f"is larger than {MAX_BYTES // 2**20} MiB, so it is no single clip")
    if (fault := foreign(path, head)) is not None:
        raise ReadError(fault)
    if path.suffix.lower() == ".json":
        document = read_json(path, nan=True)
        clip = None if isinstance(document, dict) and "joints" in document else read_poses(document)
        return clip or from_json(document, axes)
    if is_kinect_text(path):
        return read_kinect_text(path)
    try:
        found = read_set(path)
    except SourceError as error:
        raise ReadError(str(error).removeprefix(f"{path}: ")) from None
    if found is not None:
        raise ReadError(f"holds a data set of {len(found.clips):,} clips; `hhmnet prepare arrays` reads it")
    return named_landmarks(read_arrays(path, axes))


def read_skeleton(
    path: Path, wanted: SkeletonLayout, arrays: ArrayConfig, videos: Path | None, notes: Counter[str]
) -> tuple[SkeletonLayout, dict[str, Any]]:
    """The skeleton of a file, and a sample's fields that follow from it.

    Forms: NTU's ``.skeleton``, NW-UCLA's ``.json`` (an object with ``skeletons``), and what the reader ``folder``
    takes, whose numbers are told as :mod:`hhmnet.readers.arrays` says; of several skeletons that fit the wanted one.

    Args:
        path: the file.
        wanted: the model's skeleton.
        arrays: what is said of joints in the reader folder's forms.
        videos: folder of NW-UCLA's depth videos; their fields come too if the clip has one.
        notes: counts what was done to the data, and what is odd about them.

    Raises:
        ReadError: it isn't such a file, or its skeleton isn't known.
        SourceError: there is no such folder of videos.
        OSError: it can't be read.
    """
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise ReadError(f"is larger than {MAX_BYTES // 2**20} MiB, so it is no single clip")
    if path.suffix.lower() == ".skeleton":
        return NTU25, _ntu(path, notes)
    if path.is_file() and path.suffix.lower() == ".json" and b'"skeletons"' in path.read_bytes():
        fields = _nw_ucla(path, videos, notes)
        notes.update(doubts(fields["joints"], KINECT20))
        return KINECT20, fields
    return understood(read_clip(path, arrays.axes), wanted, arrays, notes)


def understood(
    raw: RawClip, wanted: SkeletonLayout, arrays: ArrayConfig, notes: Counter[str]
) -> tuple[SkeletonLayout, dict[str, Any]]:
    """The skeleton of a clip, and a sample's fields that follow from it; see :func:`read_skeleton`."""
    form = understand([raw], arrays, wanted)
    if form.is_inferred:
        notes[f"read as {form}"] += 1
    return form.layout, clip_fields(raw, form, notes)


def _nw_ucla(path: Path, videos: Path | None, notes: Counter[str]) -> dict[str, Any]:
    joints, present = joints_of(load_object(path))
    frames = np.arange(len(joints), dtype=np.int32)
    fields = {"joints": joints[None], "present": present[None], "frame_index": frames}
    found = {} if videos is None else find_videos(videos, [path.stem])[0]
    for video in found.values():
        fields |= depth_fields(NWUCLAConfig(videos=videos), video, 0, joints, notes)
    return fields


def _ntu(path: Path, notes: Counter[str]) -> dict[str, Any]:
    skeletons = parse(path.read_bytes())
    bodies = persons(skeletons, BodyRules(), notes)
    if not bodies:
        raise ReadError("no frame has a body")
    frames = np.arange(skeletons.frames, dtype=np.int32)
    return {"frame_index": frames, **body_fields(skeletons, bodies, notes)}
