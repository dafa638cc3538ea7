"""Writes the sample set as raw files in NW-UCLA's format, so that the NW-UCLA reader reads them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hhmnet.synthetic.camera import CAMERAS, observe
from hhmnet.synthetic.motion import ACTIONS, EPISODES, SUBJECTS, performance

NAME = "hhmnet-sample"
MAX_CLIPS = len(ACTIONS) * SUBJECTS * EPISODES * len(CAMERAS)

_CLASSES = "classes.json"
_UNFINISHED = ".hhmnet-sample-unfinished"
_CLIP_NAME = re.compile(r"a\d\d_s\d\d_e\d\d_v\d\d\.json")


def generate(
    out: Path, *, clips: int = 240, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """Write ``clips`` clips and ``classes.json`` to the folder ``out``; the same seed gives the same bytes.

    Clips come in rounds: every action once by one subject, seen by every camera. The subject changes with
    each round, the episode when every subject has been on. A multiple of 30 clips is therefore balanced; 240
    are 10 actions x 8 subjects x 3 views. A clip's content does not depend on how many there are.

    ``classes.json`` holds ``{"name": "hhmnet-sample", "classes": [{"id": 1, "name": "wave"}, ...]}``; a
    clip's label is its class's place in that list, from 1. An older sample set in ``out`` is replaced. Files
    move into place when all of them are written, so a run that is cut short leaves what was there before.

    Args:
        out: the folder; it is made if it does not exist.
        clips: how many clips, 1 to :data:`MAX_CLIPS`.
        seed: seed of the whole set; not negative.
        progress: called with (clips written, clips wanted) after every clip.

    Returns:
        The clips' paths.

    Raises:
        ValueError: a number out of range, or ``out`` is a file or holds anything but a sample set.
    """
    out = Path(out)
    if not 1 <= clips <= MAX_CLIPS:
        raise ValueError(f"sample set: field 'clips' must be 1 to {MAX_CLIPS}, got {clips}")
    if seed < 0:
        raise ValueError(f"sample set: field 'seed' must be at least 0, got {seed}")
    older = _older_files(out)
    made_here = not out.exists()
    staging = out / _UNFINISHED
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        names = []
        for name, text in _clips(clips, seed):
            (staging / name).write_text(text, encoding="utf-8")
            names.append(name)
            if progress is not None:
                progress(len(names), clips)
        classes = {"name": NAME, "classes": [{"id": a.id, "name": a.name} for a in ACTIONS]}
        (staging / _CLASSES).write_text(json.dumps(classes, indent=1) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if made_here:
            out.rmdir()
        raise
    # From here on the staging folder marks the set as ours, should the moving be cut short.
    for path in older:
        path.unlink()
    for name in (*names, _CLASSES):
        os.replace(staging / name, out / name)
    staging.rmdir()
    return [out / name for name in names]


def _clips(clips: int, seed: int) -> Iterator[tuple[str, str]]:
    """File name and text of the first ``clips`` clips."""
    views = list(CAMERAS)
    for first in range(0, clips, len(views)):
        turn, place = divmod(first // len(views), len(ACTIONS))
        subject, episode = turn % SUBJECTS + 1, turn // SUBJECTS
        acted = performance(ACTIONS[place].id, subject, episode, seed)
        for view in views[: clips - first]:
            stem = f"a{acted.action.id:02d}_s{subject:02d}_e{episode:02d}_v{view:02d}"
            joints = np.round(observe(acted, view, seed), 5).tolist()
            yield f"{stem}.json", json.dumps({"file_name": stem, "skeletons": joints, "label": place + 1})


def _older_files(out: Path) -> list[Path]:
    """Files of a sample set that stands in ``out``; raises ValueError if there is anything else."""
    if not out.exists():
        return []
    if not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the sample set")
    unfinished = (out / _UNFINISHED).is_dir()
    files = [path for path in sorted(out.iterdir()) if path.name != _UNFINISHED]
    for path in files:
        if not path.is_file() or not (path.name == _CLASSES or _CLIP_NAME.fullmatch(path.name)):
            raise ValueError(
                f"{out} holds '{path.name}', which is no part of a sample set; name a new or empty folder"
            )
    if files and not unfinished and not _is_ours(out / _CLASSES):
        raise ValueError(
            f"{out} holds another data set ({_CLASSES} does not name {NAME}); name a new or empty folder"
        )
    return files


def _is_ours(classes: Path) -> bool:
    try:
        content = json.loads(classes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("name") == NAME
