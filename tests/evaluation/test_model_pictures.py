"""What is shown of a model is what it used: crops, their weights, answers, and attention."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.data.roi import RoiConfig, cut_clip
from hhmnet.data.transform import DataConfig
from hhmnet.data.video_batch import VideoConfig
from hhmnet.evaluation.model_pictures import attention_of, crops_of, draw_attention, guidance_of
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.homogeneous import FusionConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec, with_video
from hhmnet.models.re_dmt import REDMT
from hhmnet.models.stst import STSTConfig
from hhmnet.skeleton import KINECT20
from hhmnet.store import Store
from made_crops import made_clip, write_made_store

ENCODER = STSTConfig(widths=(16, 32), strides=(1, 2), dropout=0.0, drop_path=0.0)
VIDEO = VideoConfig(instants=4, cell=32, scene=48, scenes=2)
ROI = RoiConfig(instants=4, cell=36, scene=54, scene_instants=2)
CLASSES = ("sit", "stand")


@pytest.fixture(scope="module")
def phase1() -> ActionModel:
    torch.manual_seed(0)
    data = DataConfig(stream="joint+bone", frames=12, persons=2)
    spec = ModelSpec(ENCODER, data, KINECT20, CLASSES, "nw_ucla_cross_view", None, FusionConfig())
    return ActionModel(spec.build(), spec).eval()


def phase2(phase1: ActionModel, guidance: str = "feature") -> ActionModel:
    torch.manual_seed(0)
    return with_video(phase1, HeterogeneousConfig("small", guidance=guidance, projection=8), VIDEO, ROI)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """A clip whose recording begins before its skeletons do, and whose body moves in the last third only; one without
    a video."""
    clip = made_clip(3, frame_index=np.arange(20, 32, dtype=np.int32))
    joints = np.repeat(clip.joints[:, :1], 12, 1)
    joints[:, 8:, KINECT20.index("right_hand")] += 3
    clips = [dataclasses.replace(clip, joints=joints), made_clip(2, video=None, video_frames=None)]
    return write_made_store(tmp_path_factory.mktemp("made"), clips)


def test_cells_weights_and_answers_are_the_networks(phase1: ActionModel, made: tuple[Store, Path]) -> None:
    store, videos = made
    whole = phase2(phase1).train()
    used: list[torch.Tensor] = []
    whole.network.video.register_forward_hook(lambda module, inputs, output: used.append(inputs[1]))
    found = guidance_of(whole, store, 0, videos)
    assert whole.training, "it is left as it was"
    crops, _ = cut_clip(store.sample(0), KINECT20, videos / "made03.mkv", ROI)
    np.testing.assert_array_equal(found.cells, crops.parts[:, :, 2:34, 2:34].swapaxes(0, 1))
    np.testing.assert_array_equal(found.scenes, crops.scene[:, 3:51, 3:51])
    assert found.cell_mask.all()
    # Instants 1, 4, 7 and 10 of the skeleton, whose first frame is number 20 of the recording.
    assert found.frames.tolist() == [20 + round(time) for time in crops.times.tolist()]
    assert found.weights is not None
    np.testing.assert_array_equal(found.weights, used[0][0].numpy())
    assert (found.weights.min(), found.weights.max()) == (0, 2)
    assert list(found.answers) == ["skeleton", "video", "skeleton+video"]
    for answers in found.answers.values():
        assert {name for name, _ in answers} == set(CLASSES)
        assert answers[0][1] >= answers[1][1]
        assert sum(share for _, share in answers) == pytest.approx(1, abs=1e-5)
    cut, _ = cut_clip(store.sample(0), KINECT20, videos / "made03.mkv", RoiConfig())
    without_a_model = crops_of(store, 0, videos)
    np.testing.assert_array_equal(without_a_model.cells, cut.parts.swapaxes(0, 1))
    unguided = guidance_of(phase2(phase1, "none"), store, 0, videos)
    assert unguided.weights is None
    assert unguided.answers["skeleton"] == found.answers["skeleton"]
    assert unguided.answers["skeleton+video"] != found.answers["skeleton+video"]


def test_inspect_draws_guidance_and_attention(phase1, made, tmp_path, capsys):
    store, videos = made
    phase2(phase1).save_pretrained(tmp_path / "run")
    phase1.save_pretrained(tmp_path / "first")
    words = ["inspect", str(store.path), "--videos", str(videos), "--rois", str(tmp_path / "a.png")]
    guided = ["--sample", "made03", "--guidance"]
    assert main([*words, *guided, str(tmp_path / "run"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["sample_id"] == "made03"
    assert "a cell counts from 0 (blue) to 2 (orange)" in captured.err
    assert main([*words, *guided, str(tmp_path / "first")]) == 2
    assert "--guidance needs one of phase 2" in capsys.readouterr().err
    words = ["inspect", str(store.path), "--sample", "made03", "--picture", str(tmp_path / "b.png")]
    assert main([*words, "--attention", str(tmp_path / "first")]) == 0
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("mask", ["none", "threshold"])
@pytest.mark.parametrize("reranking", ["none", "jaccard"])
def test_an_explanation_holds_the_weights_that_are_used(mask, reranking, monkeypatch):
    torch.manual_seed(0)
    config = STSTConfig((16,), (1,), head_width=8, mask=mask, reranking=reranking)
    module = REDMT(16, config, KINECT20).eval()
    x, used = torch.randn(3, 16, 20, 6), []
    plain = module.attention
    monkeypatch.setattr(module, "attention", lambda logits: used.append(plain(logits)) or used[-1])
    module(x)
    found = module.explain(x)
    torch.testing.assert_close(found.weights, used[0])
    torch.testing.assert_close(found.plain.sum(-1), torch.ones(3, 2, 20))
    assert not found.weights[~found.kept].any()
    assert bool(found.kept.all()) == (mask == "none")


def test_attention_is_drawn_of_whoever_is_there(phase1: ActionModel, tmp_path: Path) -> None:
    both = made_clip(4, persons=2)
    there = both.present & np.array([[False], [True]])
    alone = dataclasses.replace(both, present=there, joints=both.joints * there[..., None, None])
    draw_attention(attention_of(phase1, alone), alone, KINECT20, tmp_path / "seen.png")
    assert (tmp_path / "seen.png").stat().st_size > 1000
