"""``hhmnet demo``, as a user runs it, with tiny recipes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.commands import demo as demo_module
from hhmnet.commands.configuration import read_config
from hhmnet.commands.demo import PAIRED
from hhmnet.synthetic import SKELETON_CEILING, generate
from hhmnet.training.engine import Trainer
from made_video_world import DEMO_STREAMS, DEMO_VIDEO

MODELS = ["joint", "bone", "2 streams", "video", "video + guidance", "+ multi-part", "HHMNet"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, filmed_clips: Path) -> list[int]:
    """How many clips a demo made, each time that it made any; of thirty they are copied."""
    counts: list[int] = []

    def quick(out: Path, *, clips: int, **more) -> None:
        counts.append(clips)
        shutil.copytree(filmed_clips, out) if clips == 30 else generate(out, clips=clips, videos=True)

    monkeypatch.setattr(demo_module, "generate", quick)
    return counts


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[int]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HHMNET_CACHE", str(tmp_path / "cache"))
    # Starting other processes takes longer than all their work.
    for module in ("crops", "demo"):
        monkeypatch.setattr(f"hhmnet.commands.{module}.cores", lambda: 1)
    (tmp_path / "streams.yaml").write_text(DEMO_STREAMS)
    (tmp_path / "video.yaml").write_text(DEMO_VIDEO)

    def run(*more: str) -> int:
        recipes = ["--config", "streams.yaml", "--video-config", "video.yaml"]
        return main(["demo", *recipes, "--clips", "30", *more])

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The folder of every training of a demo, and the step that it began at."""
    steps, before = list[tuple[str, int]](), Trainer.train

    def train(self, time_limit=None):
        steps.append((self.out.name, self.step))
        return before(self, time_limit)

    monkeypatch.setattr(Trainer, "train", train)
    return steps


def test_the_whole_way_once_more_and_with_other_recipes(demo, made, trained, capsys, tmp_path):
    assert demo() == 0
    out = Path("runs/demo")
    captured = capsys.readouterr()
    assert f"{100 * SKELETON_CEILING:.2f}" in captured.out
    assert "lift a bottle, lift a book, swing a racket, swing a bat" in captured.err
    rows = json.loads((out / "results.json").read_text())["models"]
    assert [row["model"] for row in rows] == MODELS
    assert all(row["n"] == 10 and f"{row['top1']:.2f}" in captured.out for row in rows)
    assert trained == [("skeletons", 0), ("video", 0), ("guided", 0), ("hhmnet", 0)]
    for name, rest in (("video", ("none", 0)), ("guided", ("feature", 0)), ("hhmnet", ("feature", 1.0))):
        config = read_config(out / name / "config.yaml")
        assert (config.heterogeneous.guidance, config.loss.part_contrast) == rest
    for name in ("clips.png", "rois.png", "confusion.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert name in captured.err

    weights = (out / "hhmnet" / "model.safetensors").read_bytes()
    assert demo() == 0
    assert capsys.readouterr().err.count("has finished already") == 4
    assert (out / "hhmnet" / "model.safetensors").read_bytes() == weights
    assert len(trained) == 4
    assert made == [30]

    # The table says what the runs say.
    fused = json.loads((out / "hhmnet" / "eval-test" / "metrics.json").read_text())
    assert rows[-1]["top1"] == fused["top1"]
    paired = [fused["per_class"][name]["top1"] for name in PAIRED]
    assert rows[-1]["pairs"] == pytest.approx(sum(paired) / 4)  # one clip of each

    # Another recipe starts anew.
    trained.clear()
    (tmp_path / "video.yaml").write_text(DEMO_VIDEO + "video_augment: {shift: 0.5}\n")
    assert demo("--time-limit", "0.001s") == 0
    assert (made, trained) == ([30, 30], [("skeletons", 0)])


def test_a_killed_demo_runs_again_and_a_stopped_one_goes_on(demo, made, trained, capsys):
    out = Path("runs/demo")
    (out / "raw").mkdir(parents=True)
    (out / "raw" / "a01_s01_e00_v01.json").write_text('{"file_name"')
    (out / "demo.json").write_text('{"format": "hhmnet-demo", "made_of": ""}')
    (out / "store").mkdir()
    (out / "store" / ".samples.arrow.0123.tmp").write_text("half")
    (out / "skeletons").mkdir()
    (out / "skeletons" / "config.yaml").write_text("fold: null\n")
    assert demo("--time-limit", "0.001s") == 0
    assert "run the demo again to go on" in capsys.readouterr().err
    assert not (out / "skeletons" / "model.safetensors").exists()
    assert demo("--time-limit", "0.001s") == 0
    assert trained == [("skeletons", 0), ("skeletons", 1)]
    assert demo("--clips", "12", "--time-limit", "0.001s") == 0, "other data start anew"
    assert trained[2:] == [("skeletons", 0)]
    assert made == [30, 12]


def test_a_folder_with_other_things_is_left_alone(demo, capsys):
    out = Path("mine")
    (out / "skeletons").mkdir(parents=True)
    (out / "skeletons" / "work.txt").write_text("mine")
    (out / "demo.json").write_text('{"made_of": {}}')
    assert demo("--out", "mine") == 2
    assert "mine: holds something else than a demo" in capsys.readouterr().err
    assert (out / "skeletons" / "work.txt").exists()
    assert demo("--clips", "0") == 2
    assert "field 'clips' must be 1 to" in capsys.readouterr().err
