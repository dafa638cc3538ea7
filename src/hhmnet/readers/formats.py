"""What a file of skeletons is, by its content, and how it is read: one table for `prepare` and `predict`."""

from __future__ import annotations

from pathlib import Path

from hhmnet.readers import ReadError, SourceError
from hhmnet.readers.array_sets import read_set
from hhmnet.readers.clip_files import MAX_BYTES, RawClip, from_json
from hhmnet.readers.clip_files import read_clip as read_arrays
from hhmnet.readers.json_poses import read_poses
from hhmnet.readers.kinect_text import is_kinect_text, read_kinect_text
from hhmnet.readers.mediapipe import named_landmarks
from hhmnet.readers.openpose import find_recording, read_recording
from hhmnet.readers.text import read_json

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
