"""Runs of phase 2: the loss, what the network is shown, what stays as it is, and what is refused."""

from __future__ import annotations

import copy
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from short_run import (
    assert_same_runs,
    make_run,
    make_video_config,
    train_in_slices,
    write_phase1,
    write_video_store,
)

import hhmnet.synthetic
from hhmnet.commands.configuration import read_config
from hhmnet.config import TrainConfig
from hhmnet.data.protocols import get_protocol
from hhmnet.data.transform import SampledFrames
from hhmnet.losses import distillation, part_contrast
from hhmnet.models.heterogeneous import HeterogeneousNetwork
from hhmnet.models.pretrained import from_pretrained
from hhmnet.models.spec import ModelSpec
from hhmnet.skeleton import KINECT20
from hhmnet.training import phases
from hhmnet.training.engine import Trainer, TrainingError
from hhmnet.training.phases import PhaseError, make_phase
from made_crops import made_clip


def first_output(trainer: Trainer, rows: list[int]) -> Any:
    """What the network says of these training clips, and their class shares."""
    batch = trainer.phase.dataset(np.array(rows)).__getitems__(list(range(len(rows))))
    classes = torch.nn.functional.one_hot(torch.from_numpy(trainer.labels)[batch.index], 2).float()
    inputs, classes = trainer.phase.inputs(batch, classes, trainer.generator)
    return trainer.network(*inputs), classes


def all_finite(network: torch.nn.Module) -> bool:
    return all(bool(value.isfinite().all()) for value in network.state_dict().values())


def test_the_loss_is_that_of_its_definition(store, phase1, tmp_path):
    rows = [0, 1, 3, 4, 6, 7]  # the third has no video
    weights = {"part_contrast": 0.3, "distill": 0.7, "part_temperature": 0.3}
    trainer = make_run(tmp_path, make_video_config(phase1, **weights), store)
    output, classes = first_output(trainer, rows)
    labels = torch.from_numpy(store.labels[rows])
    assert output.used.tolist() == [[True, n != 2] for n in range(6)]
    seen = torch.tensor([0, 1, 3, 4, 5])
    expected = torch.nn.functional.cross_entropy(output.video[seen], labels[seen], label_smoothing=0.1)
    contrast = part_contrast(output.part_features, output.part_teacher, output.part_mask, 0.3)
    taught = distillation(output.video[seen], output.teacher[seen], None, 4.0)
    expected = expected + 0.3 * contrast + 0.7 * taught
    loss, logits = trainer.phase.loss(output, classes)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(logits, output.video)


def test_a_batch_of_clips_without_video_changes_no_number_to_nan(phase1, tmp_path):
    samples = [made_clip(number, video=None, video_frames=None) for number in range(9)]
    blind = write_video_store(tmp_path, [*samples, made_clip(9)])
    trainer = make_run(tmp_path / "run", make_video_config(phase1, epochs=1), blind)
    output, classes = first_output(trainer, [0, 1, 3])
    assert trainer.phase.loss(output, classes)[0].item() == 0
    assert all_finite(trainer.train())


def test_skeleton_and_crops_are_seen_at_the_same_instants_and_mirrored_alike(
    store, phase1, tmp_path, monkeypatch
):
    given: dict[str, SampledFrames] = {}

    def watched(call: Any, *words: Any, **more: Any) -> Any:
        given[call.__name__] = more.get("sampled") or SampledFrames(*words[1:3])
        return call(*words, **more)

    for name in ("prepare", "prepare_video"):
        monkeypatch.setattr(phases, name, partial(watched, getattr(phases, name)))
    first_output(make_run(tmp_path, make_video_config(phase1), store), [0, 1, 4, 6, 7])
    joints, crops = given["prepare"], given["prepare_video"]
    assert torch.equal(joints.positions, crops.positions)
    assert torch.equal(joints.mirrored, crops.mirrored)
    assert 0 < joints.mirrored.sum() < 5


def test_the_skeleton_network_stays_bit_by_bit(store, phase1, tmp_path):
    config = make_video_config(phase1, lr=0.1, weight_decay=0.5)
    given = copy.deepcopy(config)
    trainer = make_run(tmp_path, config, store)
    fresh = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    assert not fresh["video.part_head.weight"].any()  # the first step leaves the backbone alone
    trainer.train()
    assert config == given
    before, after = load_file(phase1 / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert len(before) > 20
    for name, value in before.items():
        assert torch.equal(value, after[f"skeleton.{name}"]), name
    assert torch.equal(after["teacher_projection"], fresh["teacher_projection"])
    for name, parameter in HeterogeneousNetwork.named_parameters(from_pretrained(tmp_path).network):
        assert torch.equal(fresh[name], parameter) == name.startswith("skeleton."), name


def test_an_interrupted_run_ends_bit_by_bit_like_a_whole_one(store, phase1, tmp_path, whole_run):
    config = make_video_config(phase1, workers=1)
    assert train_in_slices(tmp_path / "run", config, store, [1, 3]) == [1, 3]
    assert_same_runs(tmp_path / "run", whole_run)


def test_a_moved_phase_1_is_the_same_one_and_another_is_not(store, phase1, tmp_path, whole_run):
    moved = shutil.copytree(phase1, tmp_path / "moved")
    trainer = make_run(whole_run, make_video_config(moved), store)
    trainer.resume()
    assert trainer.step == 4
    weights = load_file(moved / "model.safetensors")
    weights = {name: value + 1 if value.is_floating_point() else value for name, value in weights.items()}
    save_file(weights, moved / "model.safetensors")
    with pytest.raises(TrainingError, match="was started with another phase1"):
        make_run(whole_run, make_video_config(moved), store).resume()


NOBODY = {"present": np.zeros((1, 12), bool), "joints": np.zeros((1, 12, 20, 3), np.float32), "pixels": None}
# Clips that are amiss: what each has, and whether its persons can be seen.
ODD: dict[str, tuple[dict[str, Any], bool]] = {
    "the video is shorter than the skeleton": ({"frames": 20}, True),
    "joints outside the picture": ({"pixels": np.full((1, 12, 20, 2), 5000, np.float32)}, False),
    "nobody is known": ({"confidence": np.zeros((1, 12, 20), np.float32)}, False),
    "no pixels": ({"pixels": None}, False),
    "two persons": ({"persons": 2}, True),
    "a single frame": ({"frames": 1}, True),
    "no body at all": (NOBODY, False),
    "whole": ({}, True),
}


def test_odd_clips_are_trained_on(tmp_path):
    numbers = [n for n in range(12) if n % 3 != 2]  # those of the training views
    samples = [made_clip(n, **fields) for n, (fields, _) in zip(numbers, ODD.values(), strict=True)]
    store = write_video_store(tmp_path, [*samples, made_clip(2)])
    config = make_video_config(write_phase1(tmp_path / "phase1", store, persons=2), epochs=1)
    trainer = make_run(tmp_path / "run", config, store)
    model, phase = trainer.train(), trainer.phase
    assert all_finite(model)
    batch = phase.dataset(np.arange(8)).__getitems__(list(range(8)))
    with torch.no_grad():
        answer = model.eval().answer(batch.clips, batch.video)
    assert answer.logits.isfinite().all()
    for row, (name, (_, seen)) in enumerate(ODD.items()):
        assert bool(batch.video.part_mask[row].any()) == seen, name
        assert batch.video.scene_mask[row, 0], name
        assert answer.used[row].tolist() == [name != "no body at all", True], name
    assert list(phase.cache.problems) == ["made00"]


# Of phase 1 and of the run what is given, and what is said.
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"class_names": ("sit", "run")}, {}, r"tells 2 classes apart.*train phase 1 on this store"),
    ({"fold": 1}, {"fold": 0}, "measured on clips that phase 1 has seen"),
    ({"protocol": "utd_mhad"}, {}, "measured on clips that phase 1 has seen"),
    ({}, {"mixup": 0.2}, r"'optim\.mixup' is of phase 1"),
    ({}, {"graph": True}, r"'run\.graph' is of phase 1"),
    ({}, {"phase": 1}, "'phase' is 1, but 'phase1' is given"),
    ({}, {"phase": 2, "phase1": ""}, "field 'phase' is 2, but 'phase1' is empty: give --phase1 RUN"),
    ({}, {"phase1": ""}, "field 'heterogeneous' is of phase 2, but 'phase1' is empty"),
]


@pytest.mark.parametrize(("theirs", "ours", "message"), REFUSED, ids=str)
def test_what_is_refused(store, tmp_path, theirs, ours, message):
    first = write_phase1(tmp_path / "phase1", store, **theirs)
    with pytest.raises(PhaseError, match=message):
        make_phase(make_video_config(**{"phase1": first} | ours), store, [get_protocol(store.protocol)])


def test_the_demo_recipes_fit_each_other():
    """What phase 2 leaves unsaid of the skeletons it takes from phase 1; neither says it twice."""
    folder, usual = Path(hhmnet.synthetic.__file__).parent, TrainConfig()
    first, second = (read_config(folder / f"{name}.yaml") for name in ("demo", "demo_video"))
    assert (second.model, second.data, second.fusion) == (usual.model, usual.data, usual.fusion)
    assert (first.protocol, first.fold, len(first.data.streams)) == (second.protocol, second.fold, 4)
    assert (first.looks_at_video, second.looks_at_video) == (False, True)
    video = {name: getattr(second, name) for name in ("heterogeneous", "video", "roi")}
    ModelSpec(first.model, first.data, KINECT20, ("lift", "swing"), **video)  # refuses what doesn't fit
    assert second.heterogeneous.guidance != "none"
    assert second.loss.part_contrast > 0
