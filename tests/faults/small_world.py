"""What the tests of faults work on: raw files and videos that are read in a second, and the commands for them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.video_folder import read_video_folder
from made_clips import clip, put
from made_video import write_video

ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
CLIPS = 70
RECIPE = """\
model: {widths: [16, 16], strides: [2, 2], head_width: 8}
data: {frames: 8}
optim: {epochs: 3, batch_size: 16, ema: 0.9, warmup_epochs: 1}
run: {threads: 1, device: cpu, checkpoint_every: 1}
"""
VIDEO_RECIPE = """\
phase: 2
heterogeneous: {backbone: small, projection: 8, modality_dropout: 0.2}
roi: {instants: 4, cell: 20, scene: 36, scene_instants: 2}
video: {instants: 2, cell: 16, scene: 32}
augment: {yaw: 0, tilt: 0, mirror: 0.5}
optim: {epochs: 2, batch_size: 16, ema: 0.9, warmup_epochs: 1}
run: {threads: 1, device: cpu, checkpoint_every: 1}
"""
ROI = ("--instants", "4", "--cell", "20", "--scene", "36", "--scene_instants", "2")


def write_raw(folder: Path, clips: int = CLIPS) -> None:
    """Made clips in NW-UCLA's format, and a video of each: three views, ten actions."""
    (folder / "videos").mkdir(parents=True)
    video = write_video(folder / "videos/one.mkv", "ffv1", size=(64, 48), pixels="bgr0").read_bytes()
    (folder / "videos/one.mkv").unlink()
    for number in range(clips):
        action = ACTIONS[number % 10]
        name = f"a{action:02d}_s{1 + number % 9:02d}_e{number // 30:02d}_v{1 + number // 10 % 3:02d}"
        put(folder, clip(name, 1 + number % 10, 20 + number % 7), name)
        # Bytes behind a video's end change nothing but its content's digest.
        (folder / f"videos/{name}.mkv").write_bytes(video + name.encode())


class World(NamedTuple):
    """Folders and files, most of them made by commands; only for reading."""

    folder: Path

    @property
    def raw(self) -> Path:
        """Raw clips, and ``raw/videos``."""
        return self.folder / "raw"

    @property
    def store(self) -> Path:
        """They as a store."""
        return self.folder / "store"

    @property
    def recipe(self) -> Path:
        """Of a run of phase 1."""
        return self.folder / "one.yaml"

    @property
    def video_recipe(self) -> Path:
        """Of a run of phase 2."""
        return self.folder / "two.yaml"

    @property
    def run(self) -> Path:
        """A finished run of phase 1."""
        return self.folder / "one"

    @property
    def environment(self) -> dict[str, str]:
        """What commands on videos need."""
        return {CACHE_VARIABLE: str(self.folder / "cache")}

    def prepare(self, out: Path, *more: str) -> list[str]:
        """Words for the store."""
        videos = ["--videos", str(self.raw / "videos")]
        return ["prepare", "nw_ucla", "--source", str(self.raw), *videos, "--out", str(out), *more]

    def train(self, out: Path, *more: str) -> list[str]:
        """Words for a run of phase 1."""
        return ["train", "--config", str(self.recipe), "--data", str(self.store), "--out", str(out), *more]

    def train_video(self, out: Path, *more: str) -> list[str]:
        """Words for a run of phase 2."""
        given = ["--config", str(self.video_recipe), "--phase1", str(self.run), "--data", str(self.store)]
        return ["train", *given, "--out", str(out), *more]

    def cache(self, folder: Path, *more: str) -> list[str]:
        """Words for crops."""
        return ["cache", str(self.store), "--folder", str(folder), *ROI, *more]

    def export(self, out: Path, *more: str) -> list[str]:
        """Words for an ONNX file in a folder."""
        return ["export", str(self.run), "--out", str(out / "model.onnx"), "--clips", "4", *more]

    def evaluate(self, out: Path, *more: str) -> list[str]:
        """Words for a report."""
        return ["evaluate", str(self.run), "--data", str(self.store), "--out", str(out), *more]


def hhmnet(
    words: Sequence[str], environment: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    with start(words, environment, **more) as process:
        out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start(
    words: Sequence[str], environment: Mapping[str, str] | None = None, **more: Any
) -> subprocess.Popen[str]:
    """Start a command as a user does, as the leader of a session."""
    surroundings = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    return subprocess.Popen(
        [sys.executable, "-m", "hhmnet", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | surroundings | dict(environment or {}),
        start_new_session=True,
        **more,
    )


def contents(folder: Path) -> dict[str, Any]:
    """What must be the same after a fault, by file: all bytes but times, and TensorBoard's events left out.

    Those are ``seconds`` in a checkpoint, ``samples_per_second`` and ``seconds`` in ``log.csv``, ``training_seconds``
    and ``commit`` in ``environment.json``, the order of lines in a list of videos' contents, and how a path is written.
    """
    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and not name.startswith("tensorboard/"):
            found[name] = _READ.get(file.name, Path.read_bytes)(file)
    return found


def _checkpoint(file: Path) -> Any:
    with safe_open(file, "np") as handle:
        told = {key: value for key, value in handle.metadata().items() if key != "seconds"}
        return told, {name: handle.get_tensor(name).tobytes() for name in sorted(handle.keys())}


def _log(file: Path) -> Any:
    rows = csv.DictReader(io.StringIO(file.read_text()))
    return [{k: v for k, v in row.items() if k not in ("samples_per_second", "seconds")} for row in rows]


def _environment(file: Path) -> Any:
    facts = json.loads(file.read_text())
    assert facts.pop("training_seconds") > 0
    facts.pop("commit")  # a commit may come between two runs
    return facts


def _videos(file: Path) -> Any:
    lines = set()
    for line in file.read_text().splitlines():
        try:
            lines.add(json.dumps(json.loads(line), sort_keys=True))
        except ValueError:  # half a line of a killed process
            continue
    return lines


_READ: dict[str, Callable[[Path], Any]] = {
    "checkpoint.safetensors": _checkpoint,
    "log.csv": _log,
    "environment.json": _environment,
    "videos.jsonl": _videos,
    "videos.json": lambda file: read_video_folder(file.parent),
}
