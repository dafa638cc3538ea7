from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hhmnet.cli import main
from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.synthetic import generate
from hhmnet.training.engine import Hooks
from hhmnet.training.logs import EpochLog
from made_video_world import VIDEO_RECIPE, VideoWorld


@pytest.fixture(scope="session")
def filmed_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty clips of the sample with videos, as raw files; only for reading."""
    folder = tmp_path_factory.mktemp("filmed")
    generate(folder, clips=30, videos=True)
    return folder


@pytest.fixture(scope="session")
def video_world(tmp_path_factory, recipe, filmed_clips) -> Iterator[VideoWorld]:
    """Made by the commands that a user gives: prepare, train, train."""
    folder = tmp_path_factory.mktemp("video")
    world = VideoWorld(
        folder / "store", filmed_clips / "videos", folder / "phase2.yaml", folder / "one", folder / "two"
    )
    world.recipe.write_text(VIDEO_RECIPE)
    data = ("--data", str(world.store))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        # Starting other processes takes longer than all their work.
        patch.setattr("hhmnet.commands.crops.cores", lambda: 1)
        raw = ("--source", str(filmed_clips), "--videos", str(world.videos))
        assert main(["prepare", "nw_ucla", *raw, "--out", str(world.store)]) == 0
        one = ("--config", str(recipe), "--data.stream", "joint+bone", "--out", str(world.phase1))
        assert main(["train", *one, *data]) == 0
        two = ("--config", str(world.recipe), "--phase1", str(world.phase1), "--out", str(world.run))
        assert main(["train", *two, *data]) == 0
        yield world


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Does something when a training reaches a step."""

    def install(wanted: int, action: Callable[[], object]) -> None:
        def hooks(show: Callable[[int, int], None], on_epoch: Callable[[EpochLog], None]) -> Hooks:
            def on_step(step: int, total: int) -> None:
                show(step, total)
                if step == wanted:
                    action()

            return Hooks(on_step, on_epoch)

        monkeypatch.setattr("hhmnet.commands.train.Hooks", hooks)

    return install
