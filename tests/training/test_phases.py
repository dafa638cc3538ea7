"""Phase 2 of training: its loss, and what the network is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_run import make_run
from short_video_run import (
    SIDEWAYS,
    make_video_config,
    state,
    video_phase,
    write_video_store,
)
from torch import Tensor

from hhmnet.data.transform import SampledFrames
from hhmnet.losses import distillation, part_contrast
from hhmnet.models.heterogeneous import HeterogeneousOutput
from hhmnet.store import Store
from hhmnet.training import phases
from hhmnet.training.engine import Trainer
from made_crops import made_clip

# The loss.


def first_output(
    store: Store, folder: Path, config: Any, rows: list[int]
) -> tuple[Trainer, HeterogeneousOutput, Tensor]:
    """What the network says of these training clips, and their class shares."""
    trainer = make_run(folder, config, store)
    batch = video_phase(trainer).dataset(np.array(rows)).__getitems__(list(range(len(rows))))
    classes = torch.nn.functional.one_hot(batch.labels, 2).float()
    inputs, classes = trainer.phase.inputs(batch, classes, trainer.generator)
    return trainer, trainer.network(*inputs), classes


@pytest.mark.parametrize("positives", ["class", "clip"])
def test_the_loss_is_that_of_its_definition(
    store: Store, phase1: Path, tmp_path: Path, positives: str
) -> None:
    config = make_video_config(
        phase1, part_positives=positives, part_contrast=0.3, distill=0.7, part_temperature=0.3
    )
    rows = [0, 1, 3, 4, 6, 7]  # the third has no video
    trainer, output, classes = first_output(store, tmp_path, config, rows)
    labels = torch.from_numpy(store.labels[rows])
    assert output.used.tolist() == [[True, n != 2] for n in range(6)]
    assert output.video is not None
    assert output.teacher is not None
    seen = torch.tensor([0, 1, 3, 4, 5])
    expected = torch.nn.functional.cross_entropy(output.video[seen], labels[seen], label_smoothing=0.1)
    contrast = part_contrast(
        *(output.part_features, output.part_teacher, output.part_mask, 0.3),
        classes if positives == "class" else None,
    )
    expected = expected + 0.3 * contrast
    expected = expected + 0.7 * distillation(output.video[seen], output.teacher[seen], None, 4.0)
    assert trainer.phase.loss(output, classes).item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(trainer.phase.logits(output), output.video)


def test_a_clip_without_video_teaches_nothing(store: Store, phase1: Path, tmp_path: Path) -> None:
    trainer, output, classes = first_output(store, tmp_path, make_video_config(phase1), [0, 1, 3, 4])
    trainer.phase.loss(output, classes).backward()
    gradients = [p.grad for p in trainer.network.parameters() if p.grad is not None]
    again, without, fewer = first_output(store, tmp_path, make_video_config(phase1), [0, 1, 3, 4])
    keep = torch.tensor([0, 1, 3])
    # The same forward pass; the loss of the others alone.
    kept = HeterogeneousOutput(
        *(
            value if value is None else value[:, keep] if value.ndim == 3 and len(value) == 2 else value[keep]
            for value in without
        )
    )
    again.phase.loss(kept, fewer[keep]).backward()
    others = [p.grad for p in again.network.parameters() if p.grad is not None]
    assert len(gradients) == len(others) > 10
    for ours, theirs in zip(gradients, others, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_a_batch_of_clips_without_video_changes_no_number_to_nan(phase1: Path, tmp_path: Path) -> None:
    samples = [made_clip(number, video=None, video_frames=None) for number in range(9)]
    blind = write_video_store(tmp_path, [*samples, made_clip(9)])
    trainer, output, classes = first_output(blind, tmp_path / "run", make_video_config(phase1), [0, 1, 3])
    loss = trainer.phase.loss(output, classes)
    assert loss.item() == 0
    trainer.train()
    assert all(np.isfinite(value).all() for value in state(trainer.result).values())


# What the network is shown.


def test_skeleton_and_crops_are_seen_at_the_same_instants_and_mirrored_alike(
    store: Store, phase1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, SampledFrames] = {}

    def watched(name: str) -> None:
        call = getattr(phases, name)

        def recorded(*words: Any, **more: Any) -> Any:
            given[name] = more.get("sampled") or SampledFrames(*words[1:3])
            return call(*words, **more)

        monkeypatch.setattr(phases, name, recorded)

    watched("prepare")
    watched("prepare_video")
    first_output(store, tmp_path, make_video_config(phase1, augment=SIDEWAYS), [0, 1, 4, 6, 7])
    assert torch.equal(given["prepare"].positions, given["prepare_video"].positions)
    mirrored = given["prepare"].mirrored
    assert mirrored is not None
    assert torch.equal(mirrored, given["prepare_video"].mirrored)  # type: ignore[arg-type]
    assert 0 < mirrored.sum() < 5
