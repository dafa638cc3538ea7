"""The sample data set: ten actions performed by made-up people, as raw files in NW-UCLA's format.

Skeletons come from parametric motion (:mod:`~hhmnet.synthetic.motion`) of a body with fixed bone lengths
(:mod:`~hhmnet.synthetic.body`), written here as three noisy sensors would have recorded them; colour videos of the same
bodies come from :mod:`~hhmnet.synthetic.pictures`. The set lets every command run without a download. Figures reached
on it show that the software works; they say nothing about real people.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from hhmnet.prepare.workers import in_workers
from hhmnet.skeleton import KINECT20
from hhmnet.synthetic.body import CAMERAS, FPS
from hhmnet.synthetic.motion import ACTIONS, EPISODES, SKELETON_CEILING, SUBJECTS, Performance, performance
from hhmnet.synthetic.pictures import render

__all__ = ["ACTIONS", "CAMERAS", "SKELETON_CEILING", "SUBJECTS", "performance", "render"]

MAX_CLIPS = len(ACTIONS) * SUBJECTS * EPISODES * len(CAMERAS)
VIDEOS = "videos"

_NOISE_STREAM = 3  # hhmnet.synthetic.motion uses 1 and 2

# Kinect finds the trunk more steadily than what moves fast or is thin.
_UNSTEADY = {"elbow": 1.4, "knee": 1.4, "wrist": 2.0, "ankle": 2.0, "hand": 2.5, "foot": 2.5}
_JITTER = np.array([_UNSTEADY.get(name.split("_")[-1], 1.0) for name in KINECT20.joints])
_LIMBS = np.flatnonzero(_JITTER > 1).tolist()


def generate(
    out: Path,
    *,
    clips: int = 240,
    seed: int = 0,
    videos: bool = False,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write clips and ``classes.json`` to a new or empty folder; the same seed gives the same bytes.

    Clips come in rounds: every action once by one subject, seen by every camera. The subject changes with each round,
    the episode when every subject has been on. A multiple of 30 clips is therefore balanced. A clip's content does not
    depend on how many there are. Videos go to the folder ``videos`` in ``out``, named like the clips, with a frame for
    each of the skeleton's. ``progress`` is called with (clips written, clips wanted).

    Returns the paths of the skeletons. Raises ValueError where ``clips`` isn't 1 to :data:`MAX_CLIPS`, or ``out`` holds
    something.
    """
    if not 1 <= clips <= MAX_CLIPS:
        raise ValueError(f"sample set: field 'clips' must be 1 to {MAX_CLIPS}, got {clips}")
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ValueError(f"{out} is there already; name a new or empty folder for the sample set")
    (out / VIDEOS if videos else out).mkdir(parents=True, exist_ok=True)
    written = in_workers(partial(_write, out, seed, videos), range(clips), jobs)
    for done, _ in enumerate(written, 1):
        progress(done, clips)
    classes = [{"id": action.id, "name": action.name} for action in ACTIONS]
    text = json.dumps({"name": "hhmnet-sample", "classes": classes}, indent=1) + "\n"
    (out / "classes.json").write_text(text, encoding="utf-8")
    return [out / f"{_numbers(clip)[0]}.json" for clip in range(clips)]


def _numbers(clip: int) -> tuple[str, int, int, int, int]:
    """Name, action, subject, episode and view of the clip that comes at this place, from 0."""
    acted, view = divmod(clip, len(CAMERAS))
    turn, action = divmod(acted, len(ACTIONS))
    episode, subject = divmod(turn, SUBJECTS)
    name = f"a{action + 1:02d}_s{subject + 1:02d}_e{episode:02d}_v{view + 1:02d}"
    return name, action + 1, subject + 1, episode, view + 1


def _write(folder: Path, seed: int, videos: bool, clip: int) -> None:
    """Write a clip, in whichever process."""
    name, action, subject, episode, view = _numbers(clip)
    acted = performance(action, subject, episode, seed)
    joints = np.round(observe(acted, view), 5).tolist()
    text = json.dumps({"file_name": name, "skeletons": joints, "label": action})
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    if videos:
        write_video(folder / VIDEOS / f"{name}.mp4", render(acted, view).pictures, round(FPS))


def write_video(file: Path, pictures: np.ndarray, fps: int) -> None:
    """Write pictures ``(T, H, W, 3)`` uint8 as a video: H.264 where PyAV has its encoder, else MPEG-4.

    Height and width must be even. The same pictures give the same bytes with the same PyAV.
    """
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


def observe(acted: Performance, view: int) -> np.ndarray:
    """What a sensor, 1 to 3, reports of a performance: ``(T, 20, 3)`` camera coordinates in metres.

    Every joint has a constant misplacement and jitters, as the square of depth, like triangulation's errors, and most
    along z; some are lost for some frames.
    """
    rng = acted.random(_NOISE_STREAM, view)
    seen = CAMERAS[view].to_camera(acted.joints)
    scale = 0.0035 * (seen[..., 2:] / 2.5) ** 2 * _JITTER[:, None] * np.array([1.0, 1.0, 1.6])
    quick = rng.normal(size=seen.shape)
    padded = rng.normal(size=(len(seen) + 6, *seen.shape[1:])).cumsum(0)
    slow = (padded[6:] - padded[:-6]) / np.sqrt(6.0)
    return _lose(seen + scale * (quick + 1.5 * slow + 2.0 * rng.normal(size=(1, *seen.shape[1:]))), rng)


def _lose(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Freeze or misplace limb joints, and what hangs on them, for some frames; hidden ones more often.

    A joint counts as hidden where it lies behind hip_center as the sensor sees it.
    """
    frames, hops = len(seen), KINECT20.hops
    hidden = np.clip((seen[:, _LIMBS, 2] - seen[:, :1, 2]) / 0.2, 0.0, 1.0).mean(0)
    events = rng.poisson((0.05 + 0.35 * hidden) * frames / 50)
    for joint in np.repeat(_LIMBS, events):
        start, length = int(rng.integers(1, frames - 3)), int(rng.integers(3, 13))
        lost = np.flatnonzero(hops[:, KINECT20.root] == hops[:, joint] + hops[joint, KINECT20.root])
        span = slice(start, start + length)
        if rng.random() < 0.6:
            seen[span, lost] = seen[start - 1, lost]
        else:
            seen[span, lost] += rng.normal(0.0, 0.08, 3)
    return seen
