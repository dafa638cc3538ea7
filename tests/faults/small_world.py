"""What the tests of faults work on: small raw files and videos, the commands for them, a disk."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fork_server import Ended, Fault, Server, members
from safetensors import safe_open

from hhmnet.commands.crops import cut_crops
from hhmnet.commands.terminal import console
from hhmnet.data.crop_cache import CropCache
from hhmnet.data.roi import RoiConfig
from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.store import Store, read_video_folder
from made_clips import clip, put
from made_video import write_video
from made_video_world import VIDEO_RECIPE

ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
CLIPS = 70
PAGE = 4096
RECIPES = {
    "one.yaml": """\
model: {widths: [16, 16], strides: [2, 2], head_width: 8}
data: {frames: 8}
optim: {epochs: 3, batch_size: 16, ema: 0.9, warmup_epochs: 1}
run: {threads: 1, device: cpu, checkpoint_every: 1}
""",
    "two.yaml": VIDEO_RECIPE.replace("batch_size: 8", "batch_size: 16, warmup_epochs: 1"),
}
PREPARE = "prepare nw_ucla --source {world}/raw --videos {world}/raw/videos --out {out} --jobs "
COMMANDS = {
    "prepare": f"{PREPARE} 1",
    "prepare, two jobs": f"{PREPARE} 2",
    "train phase 1": "train --config {world}/one.yaml --data {world}/store --out {out}",
    "train phase 2": "train --config {world}/two.yaml --phase1 {world}/one --data {world}/store --out {out}",
    "crops": "crops {world}/store {out}",
    "export": "export {world}/one --out {out}/model.onnx --clips 4",
    "evaluate": "evaluate {world}/one --data {world}/store --out {out}",
}
"""What a user types to write into a folder ``out``; and the cutting of crops, which has no command of its own."""


def cut(words: list[str]) -> int:
    """Cut the crops of a store's clips into a folder; a third word is where the videos are."""
    store = Store(words[0])
    cache = CropCache(Path(words[1]), RoiConfig(instants=4, cell=20, scene=36, scene_instants=2))
    cut_crops(cache, store, np.arange(len(store)), store.find_videos(*map(Path, words[2:])), console())
    return 0


def long(*values: object) -> Any:
    """Parameters of a test that `make test-long` runs."""
    return pytest.param(*values, marks=pytest.mark.long)


class Whole(NamedTuple):
    """An undisturbed run: what it leaves, its seconds of processor time, its number of changes of files."""

    contents: dict[str, Any]
    seconds: float
    changes: int


class World:
    """Raw files in ``raw`` with ``raw/videos``, a ``store``, a run ``one`` of phase 1, recipes; only for reading."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        self.environment = {CACHE_VARIABLE: str(folder / "cache")}
        self._wholes: dict[str, Whole] = {}

    def make(self) -> World:
        """Fill the folder."""
        videos = self.folder / "raw/videos"
        videos.mkdir(parents=True)
        video = write_video(self.folder / "one.mkv", "ffv1", size=(64, 48), pixels="bgr0").read_bytes()
        for number in range(CLIPS):
            action = ACTIONS[number % 10]
            name = f"a{action:02d}_s{1 + number % 9:02d}_e{number // 30:02d}_v{1 + number // 10 % 3:02d}"
            put(self.folder / "raw", clip(name, 1 + number % 10, 20 + number % 7), name)
            # Bytes behind a video's end change nothing but its content's digest.
            (videos / f"{name}.mkv").write_bytes(video + name.encode())
        for name, recipe in RECIPES.items():
            (self.folder / name).write_text(recipe)
        for name, place in (("prepare", "store"), ("train phase 1", "one")):
            self._undisturbed(name, self.folder / place)
        return self

    def words(self, name: str, out: Path, *more: str) -> list[str]:
        """What a user types."""
        return [*(word.format(world=self.folder, out=out) for word in COMMANDS[name].split()), *more]

    def run(self, name: str, out: Path, *more: str, fault: Fault | None = None) -> Ended:
        """A command, with a fault on its way."""
        return self.server.run(self.words(name, out, *more), fault, out, self.environment)

    def run_well(self, name: str, out: Path, *more: str, fault: Fault | None = None) -> Ended:
        """A command that ends well."""
        ended = self.run(name, out, *more, fault=fault)
        assert ended.code == 0, ended.told
        return ended

    def whole(self, name: str) -> Whole:
        """An undisturbed run, made when it is asked for."""
        return self._wholes.get(name) or self._undisturbed(name, self.folder / f"whole {name}")

    def _undisturbed(self, name: str, out: Path) -> Whole:
        ended = self.run_well(name, out)
        self._wholes[name] = Whole(contents(out), ended.seconds, ended.changes)
        return self._wholes[name]

    def check(self, name: str, out: Path) -> None:
        """The folder holds the bytes of an undisturbed run and nothing else."""
        found, whole = contents(out), self.whole(name).contents
        assert found.keys() == whole.keys()
        assert [file for file in found if found[file] != whole[file]] == []

    def check_weights(self, name: str, out: Path) -> None:
        """The run holds the weights of an undisturbed one."""
        assert (out / "model.safetensors").read_bytes() == self.whole(name).contents["model.safetensors"]

    def check_again(self, name: str, out: Path) -> None:
        """The same call, of train with ``--resume``, ends well and leaves what an undisturbed run leaves."""
        ended = self.run_well(name, out, *(["--resume"] if name.startswith("train") else []))
        assert "Traceback" not in ended.told
        self.check(name, out)


def refused(ended: Ended, *words: str, code: int = 2) -> None:
    """The command ended with one line that has these words in it, and with no traceback."""
    assert ended.code == code, ended.told
    assert "Traceback" not in ended.told
    for word in words:
        assert word in ended.last


def until_gone(session: int) -> None:
    """Wait for the workers of a command that was cut short."""
    for _ in range(60_000):
        if not members(session):
            return
        time.sleep(0.02)
    pytest.fail("a worker is left behind")


def start(words: list[str], world: World) -> subprocess.Popen[str]:
    """Start a command as a user does, as the leader of a session."""
    surroundings = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    return subprocess.Popen(
        [sys.executable, "-m", "hhmnet", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | surroundings | world.environment,
        start_new_session=True,
    )


class Disk:
    """A disk in memory of 16 MB, mounted in a folder; the test is skipped where none can be mounted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._mount("-t", "tmpfs", "-o", f"size={16 << 20}", "tmpfs")

    def _mount(self, *words: str) -> None:
        try:
            subprocess.run(["mount", *words, str(self.folder)], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting isn't permitted here")

    def fill(self, leave: int) -> None:
        """Fill it up but for some bytes."""
        facts = os.statvfs(self.folder)
        (self.folder / "filler").write_bytes(bytes(facts.f_bavail * facts.f_frsize - leave // PAGE * PAGE))

    def seal(self) -> None:
        """Let nobody write."""
        self._mount("-o", "remount,ro")

    def free(self) -> None:
        """Let everybody write again."""
        self._mount("-o", "remount,rw")
        (self.folder / "filler").unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)


def contents(folder: Path) -> dict[str, Any]:
    """What must be the same after a fault, by file: all bytes but times, and TensorBoard's events left out.

    Those are ``seconds`` in a checkpoint, ``samples_per_second`` and ``seconds`` in ``log.csv``, ``training_seconds``
    and ``commit`` in ``environment.json``, the order of lines in a list of videos' contents, and how a path is written.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return {name: _content(file) for name, file in names.items() if not name.startswith("tensorboard/")}


def _content(file: Path) -> Any:
    match file.name:
        case "checkpoint.safetensors":
            with safe_open(file, "np") as handle:
                progress = json.loads(handle.metadata()["progress"])
                assert progress.pop("seconds") > 0
                tensors = {name: handle.get_tensor(name).tobytes() for name in sorted(handle.keys())}
                return handle.metadata() | {"progress": progress}, tensors
        case "log.csv":
            rows, times = csv.DictReader(io.StringIO(file.read_text())), ("samples_per_second", "seconds")
            return [{key: value for key, value in row.items() if key not in times} for row in rows]
        case "environment.json":
            facts = json.loads(file.read_text())
            assert facts.pop("training_seconds") > 0
            facts.pop("commit")  # a commit may come between two runs
            return facts
        case "videos.json":
            return read_video_folder(file.parent)
    return file.read_bytes()
