"""Phase 2 of training: its loss, and what the network is shown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_run import make_run
from short_video_run import (
    SIDEWAYS,
    certain,
    make_video_config,
    state,
    video_phase,
    write_phase1,
    write_video_store,
)
from torch import Tensor

from hhmnet.data.crop_cache import CropCache
from hhmnet.data.roi import ClipCrops, RoiConfig, empty_crops, slots
from hhmnet.data.transform import SampledFrames, choose_frames
from hhmnet.data.video_batch import VideoConfig, VideoInput
from hhmnet.models.heterogeneous import HeterogeneousOutput
from hhmnet.sample import Sample
from hhmnet.skeleton import PARTS
from hhmnet.store import Store
from hhmnet.training.engine import Trainer
from made_crops import made_clip

# The loss.


def plain_cross_entropy(logits: list[float], label: int, smoothing: float) -> float:
    total = math.log(sum(math.exp(value) for value in logits))
    loss = 0.0
    for number, value in enumerate(logits):
        target = smoothing / len(logits) + (1 - smoothing if number == label else 0)
        loss -= target * (value - total)
    return loss


def plain_contrast(
    output: HeterogeneousOutput, labels: list[int], temperature: float, positives: str
) -> float:
    """Part by part, both directions, over the clips that have the part; then the mean over parts."""
    assert output.part_features is not None
    assert output.part_teacher is not None
    assert output.part_mask is not None
    one, other = (f.detach().double().numpy() for f in (output.part_features, output.part_teacher))
    losses = []
    for part in range(one.shape[1]):
        clips = [n for n in range(len(labels)) if bool(output.part_mask[n, part])]
        if len(clips) < 2:
            continue
        total = 0.0
        for n in clips:
            friends = [m for m in clips if (labels[m] == labels[n] if positives == "class" else m == n)]
            for mine, theirs in ((one, other), (other, one)):
                close = {}
                for m in clips:
                    a, b = mine[n, part], theirs[m, part]
                    close[m] = math.exp(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b) / temperature)
                for m in friends:
                    total -= math.log(close[m] / sum(close.values())) / len(friends) / 2
        losses.append(total / len(clips))
    return sum(losses) / max(len(losses), 1)


def plain_divergence(student: list[float], teacher: list[float], temperature: float) -> float:
    def softmax(values: list[float]) -> list[float]:
        powers = [math.exp(value / temperature) for value in values]
        return [power / sum(powers) for power in powers]

    p, q = softmax(teacher), softmax(student)
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


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
@pytest.mark.parametrize(
    ("distill", "logit_distill"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.3, 0.7)], ids=str
)
def test_the_loss_is_that_of_its_definition(
    store: Store, phase1: Path, tmp_path: Path, positives: str, distill: float, logit_distill: float
) -> None:
    config = make_video_config(
        phase1, positives=positives, distill=distill, logit_distill=logit_distill, temperature=0.3
    )
    rows = [0, 1, 3, 4, 6, 7]  # the third has no video
    trainer, output, classes = first_output(store, tmp_path, config, rows)
    labels = store.labels[rows].tolist()
    assert output.used.tolist() == [[True, n != 2] for n in range(6)]
    assert output.video is not None
    assert output.teacher is not None
    seen = [0, 1, 3, 4, 5]
    video, teacher = output.video.tolist(), output.teacher.tolist()
    expected = sum(plain_cross_entropy(video[n], labels[n], 0.1) for n in seen) / len(seen)
    expected += distill * plain_contrast(output, labels, 0.3, positives)
    expected += logit_distill * sum(plain_divergence(video[n], teacher[n], 4.0) for n in seen) / len(seen)
    assert trainer.phase.loss(output, classes).item() == pytest.approx(expected, rel=1e-5)
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


class Telling(CropCache):
    """Crops that tell part, instant and side: red counts the parts, green the instants, blue is on the left half."""

    def get(self, store: Store, i: int, video_folder: Path | None) -> ClipCrops:
        config = self.config
        places = empty_crops(config, int(store.lengths[i]))
        places.part_mask[:], places.scene_mask[:] = True, True
        for shown in (places.parts, places.scene):
            shown[..., 2] = 0
            shown[..., : shown.shape[-2] // 2, 2] = 240
        places.parts[..., 0] = 20 * np.arange(len(PARTS))[None, :, None, None]
        places.parts[..., 1] = 10 * np.arange(config.instants)[:, None, None, None]
        places.scene[..., 1] = 10 * np.arange(config.scene_instants)[:, None, None]
        return places


OTHER = {"head": "head", "left_hand": "right_hand", "right_hand": "left_hand"}
OTHER |= {"left_foot": "right_foot", "right_foot": "left_foot"}


def telling_sample(number: int) -> Sample:
    """A clip whose joints tell the frame, by y, whether they are mirrored, by the sign of x, and its length, by z."""
    frames = 10 + number
    joints = np.zeros((1, frames, 20, 3), np.float32)
    joints[..., 0] = 1
    joints[..., 1] = np.arange(frames)[:, None]
    joints[..., 2] = frames
    return made_clip(number, frames=frames, joints=joints)


def test_skeleton_and_crops_are_seen_at_the_same_instants_and_mirrored_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_video_store(tmp_path, [telling_sample(number) for number in range(12)])
    first = write_phase1(tmp_path / "phase1", store, "joint")
    fields = (first / "config.json").read_text()
    assert '"center": "first"' in fields
    (first / "config.json").write_text(fields.replace('"center": "first"', '"center": "none"'))
    roi = RoiConfig(instants=9, cell=20, scene=36, scene_instants=4)
    config = make_video_config(
        first,
        **certain(augment=SIDEWAYS, roi=roi, video=VideoConfig(instants=3, cell=16, scene=32, scenes=2)),
        epochs=3,
    )
    trainer = make_run(tmp_path / "run", config, store)
    video_phase(trainer).cache = Telling(config=roi)
    trainer.dataset = trainer.phase.dataset(trainer.rows)
    views: list[SampledFrames] = []
    given: list[tuple[Tensor, VideoInput]] = []
    network = trainer.learner.forward

    def choose(*args: Any) -> SampledFrames:
        views.append(choose_frames(*args))
        return views[-1]

    def spy(x: Tensor, mask: Tensor | None, video: VideoInput) -> Any:
        given.append((x, video))
        return network(x, mask, video)

    trainer.learner.forward = spy  # type: ignore[assignment]
    monkeypatch.setattr("hhmnet.training.phases.choose_frames", choose)
    trainer.train()
    assert len(given) == len(views) == 6
    mirrored = []
    for (x, video), view in zip(given, views, strict=True):
        for n in range(4):
            mirrored.append(check_clip(x[n], view.positions[n].tolist(), video, n, roi))
            assert view.mirrored is not None
            assert mirrored[-1] == view.mirrored[n]
    assert 4 < sum(mirrored) < 20


def check_clip(x: Tensor, positions: list[float], video: VideoInput, n: int, roi: RoiConfig) -> bool:
    """Hold the crops of clip ``n`` against its skeleton ``(3, T, V, 1)``; true if it is mirrored."""
    mirrored = bool(x[0, 0, 0, 0] < 0)
    assert bool((x[0] < 0).all()) == mirrored
    colours = ((video.grid[n] * 0.502 + 0.498) * 255).round()
    scenes = ((video.scene[n] * 0.502 + 0.498) * 255).round()
    length = int(x[2, 0, 0, 0].round())
    np.testing.assert_allclose(x[1, :, 7, 0], np.clip(positions, 0, length - 1), atol=1e-3)
    times, scene_times = slots(length, roi.instants), slots(length, roi.scene_instants)
    chosen = [nearest(times, middle(positions, k, 3)) for k in range(3)]
    expected = np.interp([times[c] for c in chosen], positions, np.arange(len(positions)))
    np.testing.assert_allclose(video.times[n], expected, atol=1e-3)
    shown = [nearest(scene_times, middle(positions, k, 2)) for k in range(2)]
    assert scenes[:, 1, 8, 8].tolist() == [10 * number for number in shown]
    assert all(bool(scene[2, 8, 0] < scene[2, 8, -1]) == mirrored for scene in scenes)
    for p, name in enumerate(PARTS):
        source = PARTS.index(OTHER[name]) if mirrored else p
        for k in range(3):
            cell = colours[:, 16 * p : 16 * p + 16, 16 * k : 16 * k + 16]
            assert cell[0].unique().tolist() == [20 * source]
            assert cell[1].unique().tolist() == [10 * chosen[k]]
            assert bool(cell[2, 8, 0] < cell[2, 8, -1]) == mirrored
    return mirrored


def middle(positions: list[float], k: int, count: int) -> float:
    """The middle of the k-th of ``count`` equal chunks of the sampled frames."""
    return float(np.interp((k + 0.5) * len(positions) / count - 0.5, range(len(positions)), positions))


def nearest(times: np.ndarray, wanted: float) -> int:
    return int(np.abs(times - wanted).argmin())
