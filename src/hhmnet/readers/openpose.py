"""OpenPose's folders: a JSON file a frame.

Source: ``--write_json`` in doc/02_output.md of CMU-Perceptual-Computing-Lab/openpose: a file is called
``VIDEO_000000000012_keypoints.json`` after its video and frame. A folder may hold those of several videos; the frames
of one are then named as ``FOLDER/VIDEO``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from hhmnet.readers import ReadError
from hhmnet.readers.clip_files import RawClip
from hhmnet.readers.json_poses import people
from hhmnet.readers.people import gather
from hhmnet.readers.text import read_json

FRAME_FILE = re.compile(r"(?:(.*)_)?([0-9]{1,12})_keypoints\.json", re.IGNORECASE | re.DOTALL)


def clips_among(names: Iterable[str]) -> dict[str, list[str]]:
    """Clips among the names of files: a file for itself, OpenPose's frames for their recording.

    A recording goes by its folder and its video's name; by the folder alone where that is called like the video.

    Returns:
        The files of each clip.
    """
    clips: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        match = FRAME_FILE.fullmatch(path.name)
        if match is not None:
            path = path.parent if match[1] in (None, path.parent.name) else path.parent / match[1]
        clips.setdefault(str(path), []).append(name)
    return clips


def find_recording(path: Path) -> dict[int, Path] | None:
    """The frames' files of the recording that goes by a path; None if there is none.

    Raises:
        ReadError: it is a folder with several recordings.
        OSError: the folder can't be listed.
    """
    folder = path if path.is_dir() else path.parent
    videos: dict[str, dict[int, Path]] = {}
    for name in os.listdir(folder) if folder.is_dir() else ():
        if (match := FRAME_FILE.fullmatch(name)) is not None:
            videos.setdefault(match[1] or folder.name, {})[int(match[2])] = folder / name
    if folder == path and len(videos) > 1 and path.name not in videos:
        few = ", ".join(f"{path.name}/{video}" for video in sorted(videos)[:3])
        raise ReadError(f"holds OpenPose's frames of {len(videos)} videos; name one of them, such as {few}")
    only = next(iter(videos.values()), None) if folder == path else None
    return videos.get(path.name, only)


def is_clip(path: Path) -> bool:
    """Whether there is a file, or a recording of OpenPose, at ``path``."""
    try:
        return path.is_file() or bool(find_recording(path))
    except (OSError, ReadError):
        return path.is_dir()


def read_recording(frames: dict[int, Path]) -> RawClip:
    """A clip from its frames' files.

    Raises:
        ReadError: a file isn't one of OpenPose's; names it.
        OSError: a file can't be read.
    """
    found = {}
    for number, file in frames.items():
        try:
            content = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            try:
                content = read_json(file)
            except ReadError as error:
                raise ReadError(f"{file.name}, {error}") from None
        found[number] = people(content, file.name)
    return gather(found, "OpenPose")
