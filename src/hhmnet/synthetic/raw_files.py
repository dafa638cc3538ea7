"""Writes the sample set as raw files in NW-UCLA's format, so that the NW-UCLA reader reads them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hhmnet.prepare.workers import in_workers
from hhmnet.synthetic.camera import CAMERAS, observe
from hhmnet.synthetic.motion import ACTIONS, EPISODES, SUBJECTS, performance
from hhmnet.synthetic.rendering import render

NAME = "hhmnet-sample"
MAX_CLIPS = len(ACTIONS) * SUBJECTS * EPISODES * len(CAMERAS)
VIDEOS = "videos"

_CLASSES = "classes.json"
_UNFINISHED = ".hhmnet-sample-unfinished"
_CLIP_NAME = re.compile(r"a\d\d_s\d\d_e\d\d_v\d\d")
_CHUNK = 12  # clips that a worker process is given at a time


def generate(
    out: Path,
    *,
    clips: int = 240,
    seed: int = 0,
    videos: bool = False,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write ``clips`` clips and ``classes.json`` to the folder ``out``; the same seed gives the same bytes.

    Clips come in rounds: every action once by one subject, seen by every camera. The subject changes with
    each round, the episode when every subject has been on. A multiple of 30 clips is therefore balanced; 240
    are 10 actions x 8 subjects x 3 views. A clip's content does not depend on how many there are.

    ``classes.json`` holds ``{"name": "hhmnet-sample", "classes": [{"id": 1, "name": "wave"}, ...]}``; a
    clip's label is its class's place in that list, from 1. An older sample set in ``out`` is replaced. Files
    move into place when all of them are written, so a run that is cut short leaves what was there before.

    Videos go to the folder ``videos`` in ``out``, named like the clips, with one frame for each of the skeleton's
    (see :func:`~hhmnet.synthetic.rendering.render`): ``hhmnet prepare nw_ucla --source OUT --videos OUT/videos``.

    Args:
        out: the folder; it is made if it does not exist.
        clips: how many clips, 1 to :data:`MAX_CLIPS`.
        seed: seed of the whole set; not negative.
        videos: whether to write the clips' videos, too.
        jobs: number of processes. More than one are started afresh and import the program's main module, so its work
            must stand under ``if __name__ == "__main__"``.
        progress: called with (clips written, clips wanted), after every clip if it is written in this process.

    Returns:
        The paths of the clips' skeletons.

    Raises:
        ValueError: a number out of range, or ``out`` is a file or holds anything but a sample set.
    """
    out = Path(out)
    if not 1 <= clips <= MAX_CLIPS:
        raise ValueError(f"sample set: field 'clips' must be 1 to {MAX_CLIPS}, got {clips}")
    for field, value, least in (("seed", seed, 0), ("jobs", jobs, 1)):
        if value < least:
            raise ValueError(f"sample set: field '{field}' must be at least {least}, got {value}")
    older = _older_files(out)
    made_here = not out.exists()
    staging = out / _UNFINISHED
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    takes = [_take(number) for number in range(clips)]
    try:
        if videos:
            (staging / VIDEOS).mkdir()
        _write_all(_Writer(staging, seed, videos), takes, jobs, progress)
        classes = {"name": NAME, "classes": [{"id": a.id, "name": a.name} for a in ACTIONS]}
        (staging / _CLASSES).write_text(json.dumps(classes, indent=1) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if made_here:
            out.rmdir()
        raise
    # From here on the staging folder marks the set as ours, should the moving be cut short.
    for path in older:
        path.rmdir() if path.is_dir() else path.unlink()
    names = [f"{take.stem}.json" for take in takes]
    for name in (*names, *([VIDEOS] if videos else []), _CLASSES):
        os.replace(staging / name, out / name)
    staging.rmdir()
    return [out / name for name in names]


class _Take(NamedTuple):
    """A clip's numbers; ``action`` is the action's place in ACTIONS."""

    action: int
    subject: int
    episode: int
    view: int

    @property
    def stem(self) -> str:
        action = ACTIONS[self.action].id
        return f"a{action:02d}_s{self.subject:02d}_e{self.episode:02d}_v{self.view:02d}"


def _take(number: int) -> _Take:
    """The clip that comes at this place, from 0, in the order in which they are made."""
    acted, view = divmod(number, len(CAMERAS))
    turn, action = divmod(acted, len(ACTIONS))
    return _Take(action, turn % SUBJECTS + 1, turn // SUBJECTS, list(CAMERAS)[view])


class _Writer(NamedTuple):
    """Writes clips to a folder."""

    folder: Path
    seed: int
    videos: bool

    def write(self, takes: Sequence[_Take], on_clip: Callable[[], None]) -> int:
        """Write clips, and call ``on_clip`` after each; returns how many they were."""
        for take in takes:
            self._write_clip(take)
            on_clip()
        return len(takes)

    def _write_clip(self, take: _Take) -> None:
        acted = performance(ACTIONS[take.action].id, take.subject, take.episode, self.seed)
        joints = np.round(observe(acted, take.view, self.seed), 5).tolist()
        text = json.dumps({"file_name": take.stem, "skeletons": joints, "label": take.action + 1})
        (self.folder / f"{take.stem}.json").write_text(text, encoding="utf-8")
        if self.videos:
            file = self.folder / VIDEOS / f"{take.stem}.mp4"
            write_video(file, render(acted, take.view, self.seed), round(acted.fps))


def _write_all(
    writer: _Writer, takes: Sequence[_Take], jobs: int, progress: Callable[[int, int], None] | None
) -> None:
    written = 0

    def count(more: int) -> None:
        nonlocal written
        written += more
        if progress is not None:
            progress(written, len(takes))

    chunks = [takes[start : start + _CHUNK] for start in range(0, len(takes), _CHUNK)]
    if jobs == 1 or len(chunks) == 1:
        writer.write(takes, partial(count, 1))
    else:
        in_workers(writer.write, chunks, min(jobs, len(chunks)), count)


def write_video(file: Path, pictures: np.ndarray, fps: int) -> None:
    """Write pictures ``(T, H, W, 3)`` uint8 as a video: H.264 where PyAV has its encoder, else MPEG-4.

    Height and width must be even. The same pictures give the same bytes with the same PyAV.
    """
    import av  # needed for videos alone

    codec, settings = "mpeg4", {"qmin": "3", "qmax": "6"}
    if "libx264" in av.codecs_available:
        codec, settings = "libx264", {"preset": "superfast", "crf": "25"}
    with av.open(str(file), "w") as output:
        stream: Any = output.add_stream(codec, rate=fps, options=settings)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # Frames are looked up one by one, so keyframes are near; several threads would make the bytes vary.
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, 0
        stream.codec_context.thread_count = 1
        for picture in pictures:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        output.mux(stream.encode(None))


def _older_files(out: Path) -> list[Path]:
    """Files of a sample set that stands in ``out``, then their folders; raises ValueError if there is anything else."""
    if not out.exists():
        return []
    if not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the sample set")
    unfinished = (out / _UNFINISHED).is_dir()
    found = [path for path in sorted(out.iterdir()) if path.name != _UNFINISHED]
    if (out / VIDEOS).is_dir():
        found = sorted((out / VIDEOS).iterdir()) + found
    for path in found:
        if not _may_belong(path, out):
            name = path.relative_to(out).as_posix()
            raise ValueError(
                f"{out} holds '{name}', which is no part of a sample set; name a new or empty folder"
            )
    if found and not unfinished and not _is_ours(out / _CLASSES):
        raise ValueError(
            f"{out} holds another data set ({_CLASSES} does not name {NAME}); name a new or empty folder"
        )
    return found


def _may_belong(path: Path, out: Path) -> bool:
    """Whether a sample set in ``out`` may hold a file or folder at ``path``."""
    name = path.relative_to(out)
    if path.is_dir():
        return name == Path(VIDEOS)
    if name == Path(_CLASSES):
        return True
    suffix = {Path(): ".json", Path(VIDEOS): ".mp4"}[name.parent]
    return path.suffix == suffix and _CLIP_NAME.fullmatch(path.stem) is not None


def _is_ours(classes: Path) -> bool:
    try:
        content = json.loads(classes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("name") == NAME
