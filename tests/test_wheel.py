"""What a user has who installed the package and has no repository: the wheel, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy
import pytest

from made_video_world import DEMO_STREAMS, DEMO_VIDEO

pytest.importorskip("hatchling", reason="the extra 'dev' isn't installed")

BOTH = """
import hhmnet
from hhmnet.cli import main

print(hhmnet.__file__)
assert main("demo --clips 24 --config streams.yaml --video-config video.yaml".split()) == 0
smaller = "--model.widths [16] --model.strides [2] --model.head_width 8 --data.frames 8"
words = f"train --config nw_ucla/skeleton --data runs/demo/store --dry-run {smaller}"
assert main(words.split()) == 0
"""
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_recipes_and_pages(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for source, place in ((ROOT / "src/hhmnet", "hhmnet"), (ROOT / "configs", "hhmnet/recipes")):
        files = [file for file in source.rglob("*.*") if "__pycache__" not in file.parts]
        assert {f"{place}/{file.relative_to(source)}" for file in files} <= held
    pages = {"hhmnet/serving/web/index.html", "hhmnet/recipes/nw_ucla/skeleton.yaml", "hhmnet/py.typed"}
    assert pages <= held


def test_demo_and_a_recipe_by_its_name_away_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, symlinks=True)
    python = place / "bin/python"
    install = ["-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    # Its dependencies are this environment's; a path file there isn't read, so the repository isn't seen.
    (packages / "others.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")
    here = tmp_path / "here"
    here.mkdir()

    def run(*words: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert run(str(place / "bin/hhmnet"), "--version").startswith("hhmnet ")
    (here / "streams.yaml").write_text(DEMO_STREAMS)
    (here / "video.yaml").write_text(DEMO_VIDEO)
    told = run(str(python), "-c", BOTH)
    assert Path(told.splitlines()[0]).is_relative_to(place)
    assert (here / "runs/demo/results.json").is_file()
    assert "\ndry run" in told
