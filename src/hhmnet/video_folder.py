"""Where the videos of a store's clips are: the note that ``hhmnet prepare`` leaves beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hhmnet.files import replacing

VIDEOS_FILE = "videos.json"


class VideoFolderError(ValueError):
    """Videos that can't be found; the message names the store and says what to do."""


def write_video_folder(store_folder: Path, videos: Path | None) -> None:
    """Note in a store's folder where its videos are, relative to it; None if it has none."""
    file = store_folder / VIDEOS_FILE
    if videos is None:
        file.unlink(missing_ok=True)
        return
    try:
        relative = Path(os.path.relpath(videos.resolve(), store_folder.resolve()))
    except ValueError:  # on another drive of Windows
        relative = videos.resolve()
    with replacing(file) as handle:
        handle.write(json.dumps({"folder": relative.as_posix()}).encode())


def read_video_folder(store_folder: Path) -> Path | None:
    """What :func:`write_video_folder` noted; None where there is no note. The folder itself may be gone.

    Raises:
        VideoFolderError: the note can't be read.
    """
    file = store_folder / VIDEOS_FILE
    try:
        return (store_folder.resolve() / json.loads(file.read_bytes())["folder"]).resolve()
    except FileNotFoundError:
        return None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
    ):  # the last: nested too deeply, or a link circle
        raise VideoFolderError(f'{file} should hold {{"folder": "..."}}; mend it or remove it') from None
