"""Phase 2 of training with videos that are missing, damaged or odd."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from short_run import make_run
from short_video_run import (
    made_samples,
    make_video_config,
    state,
    video_phase,
    write_phase1,
    write_video_store,
)

from hhmnet.pose.networks import CACHE_VARIABLE
from hhmnet.sample import Sample
from hhmnet.training.engine import Hooks
from made_crops import made_clip

# Videos that are amiss.


def test_a_video_lost_in_the_middle_is_named_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    store = write_video_store(tmp_path, made_samples())
    config = make_video_config(write_phase1(tmp_path / "phase1", store), epochs=6)
    trainer = make_run(tmp_path / "run", config, store)
    phase = video_phase(trainer)

    def lose(step: int, total: int) -> None:
        if step == 2:  # the end of an epoch, when no worker is busy
            assert store.sample(4).video == "made04.mkv"
            file = tmp_path / "videos/made04.mkv"
            file.write_bytes(b"no video")
            shutil.rmtree(tmp_path / "cache/crops")

    trainer.hooks = Hooks(on_step=lose)
    model = trainer.train()
    assert trainer.step == 12
    assert phase.blind == {3, 4}
    assert list(phase.cache.problems) == ["made04"]
    assert "made04.mkv" in phase.cache.problems["made04"]
    assert all(np.isfinite(value).all() for value in state(model).values())
    batch = phase.dataset(np.array([4, 0])).__getitems__([0, 1])
    assert batch.video is not None
    assert batch.video.part_mask.any(2).any(1).tolist() == [False, True]
    assert batch.video.scene_mask.any(1).tolist() == [False, True]
    with torch.no_grad():
        assert model.eval().answer(batch.clips, batch.video).used.tolist() == [[True, False], [True, True]]


def _far(number: int) -> Sample:
    sample = made_clip(number)
    assert sample.pixels is not None
    return made_clip(number, pixels=sample.pixels + 5000)


ODD: dict[str, Callable[[int], Sample]] = {
    "the video is shorter than the skeleton": lambda n: made_clip(n, frames=20),
    "joints outside the picture": _far,
    "nobody is known in the picture": lambda n: made_clip(n, confidence=np.zeros((1, 12, 20), np.float32)),
    "no pixels": lambda n: made_clip(n, pixels=None),
    "two persons": lambda n: made_clip(n, persons=2),
    "a single frame": lambda n: made_clip(n, frames=1),
    "no body at all": lambda n: made_clip(
        n, present=np.zeros((1, 12), bool), joints=np.zeros((1, 12, 20, 3), np.float32), pixels=None
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_clips_are_trained_on(tmp_path: Path, kind: str) -> None:
    persons = 1 + list(ODD).index(kind) % 2
    samples = [ODD[kind](number) if number % 3 == 0 else made_clip(number) for number in range(12)]
    store = write_video_store(tmp_path, samples)
    config = make_video_config(write_phase1(tmp_path / "phase1", store, persons=persons), epochs=1)
    trainer = make_run(tmp_path / "run", config, store)
    model = trainer.train()
    assert all(np.isfinite(value).all() for value in state(model).values())
    phase = video_phase(trainer)
    batch = phase.dataset(trainer.rows).__getitems__(list(range(8)))
    assert batch.video is not None
    odd = trainer.rows % 3 == 0
    seen = batch.video.part_mask.any(2).any(1).numpy()
    blank = kind in (
        "joints outside the picture",
        "nobody is known in the picture",
        "no pixels",
        "no body at all",
    )
    assert seen[~odd].all()
    assert seen[odd].all() != blank
    assert batch.video.scene_mask[:, 0].all()
    assert bool(phase.cache.problems) == (kind == "the video is shorter than the skeleton")
    with torch.no_grad():
        answer = model.eval().answer(batch.clips, batch.video)
    assert answer.logits.isfinite().all()
    assert answer.used[:, 1].all()
    assert answer.used[:, 0].numpy()[odd].all() != (kind == "no body at all")
