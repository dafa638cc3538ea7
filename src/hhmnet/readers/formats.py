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
FOREIGN = {
    ".bvh": (b"HIERARCHY", "BVH, which holds rotations of bones", _AS_CSV),
    ".fbx": (b"Kaydara FBX", "FBX, a scene", _AS_CSV),
    ".c3d": (b"", "C3D, which holds markers on the skin", f"fit a skeleton to them, then {_AS_CSV}"),
    ".trc": (
        b"PathFileType",
        "TRC, which holds markers on the skin",
        f"fit a skeleton to them, then {_AS_CSV}",
    ),
    ".amc": (b"", "AMC, which holds rotations of bones", _AS_CSV),
    ".asf": (b"", "ASF, a skeleton without its motion", _AS_CSV),
    ".glb": (b"glTF", "glTF, a scene", _AS_CSV),
    ".gltf": (b"", "glTF, a scene", _AS_CSV),
    ".usd": (b"", "USD, a scene", _AS_CSV),
    ".slp": (b"", "SLEAP's", "export it as NumPy or CSV"),
    ".h5": (b"\x89HDF", "HDF5 (DeepLabCut, SLEAP)", "export it as CSV or NumPy"),
    ".parquet": (b"PAR1", "Parquet", "write it as CSV"),
    ".mat": (
        b"MATLAB",
        "MATLAB's",
        "UTD-MHAD's are read by `hhmnet prepare utd_mhad`; of others save the joints as .npy",
    ),
    ".xlsx": (b"", "an Excel sheet", "save it as CSV"),
}
"""Endings of formats that aren't read: how their files begin, what they are, and the way out."""


def foreign(path: Path, head: bytes = b"") -> str | None:
    """What a file is that can't be read, and what to do, by its name or first bytes; None if it isn't known."""
    for suffix, (start, kind, remedy) in FOREIGN.items():
        if path.suffix.lower() == suffix or (start and head.startswith(start)):
            return f"is {kind}; {remedy}"
    return None


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
