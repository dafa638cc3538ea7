"""What is shown of a model of phase 2 is what it sees, how it weighs it, and what it answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hhmnet.cli import main
from hhmnet.data.roi import RoiConfig, crop_clip, empty_crops
from hhmnet.data.transform import DataConfig
from hhmnet.data.video_batch import VideoConfig
from hhmnet.evaluation import crops_picture
from hhmnet.evaluation.crops_picture import (
    GuidanceError,
    Guided,
    draw_crops,
    draw_guidance,
    guidance_of,
)
from hhmnet.evaluation.figures import SIDE_COLOURS
from hhmnet.models.heterogeneous import HeterogeneousConfig
from hhmnet.models.homogeneous import FusionConfig
from hhmnet.models.pretrained import ActionModel, ModelSpec, with_video
from hhmnet.models.stst import STSTConfig
from hhmnet.pose.assets import CACHE_VARIABLE
from hhmnet.sample import Sample
from hhmnet.skeleton import KINECT20, PARTS
from hhmnet.store import Store
from hhmnet.video import open_video
from made_crops import made_clip, write_made_store

ENCODER = STSTConfig(widths=(16, 32), strides=(1, 2), dropout=0.0, drop_path=0.0)
VIDEO = VideoConfig(instants=4, cell=32, scene=48, scenes=2)
ROI = RoiConfig(instants=4, cell=36, scene=54, scene_instants=2)
CLASSES = ("sit", "stand")


def phase1() -> ActionModel:
    torch.manual_seed(0)
    spec = ModelSpec(
        ENCODER,
        DataConfig(stream="joint+bone", frames=12, persons=2),
        KINECT20,
        CLASSES,
        "nw_ucla_cross_view",
        None,
        FusionConfig(),
    )
    return ActionModel(spec.build(), spec).eval()


def model(guidance: str = "feature", roi: RoiConfig = ROI) -> ActionModel:
    return with_video(phase1(), HeterogeneousConfig("small", guidance=guidance, projection=8), VIDEO, roi)


def late_clip() -> Sample:
    """A clip whose recording begins before its skeletons do, and whose body moves in the last third only."""
    clip = made_clip(3, frame_index=np.arange(20, 32, dtype=np.int32))
    joints = np.repeat(clip.joints[:, :1], 12, 1)
    joints[:, 8:, KINECT20.index("right_hand")] += 3
    return dataclasses.replace(clip, joints=joints)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Store, Path]:
    return write_made_store(
        tmp_path, [late_clip(), made_clip(1), made_clip(2, video=None, video_frames=None)]
    )


def test_cells_are_the_crops_and_weights_those_of_the_network(made: tuple[Store, Path]) -> None:
    store, videos = made
    whole = model()
    used: list[torch.Tensor] = []
    whole.network.video.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: used.append(inputs[1])
    )
    found = guidance_of(whole, store, 0, videos)
    sample = store.sample(0)
    with open_video(videos / "made03.mkv") as video:
        crops = crop_clip(sample, KINECT20, video, ROI)
    np.testing.assert_array_equal(found.cells, crops.parts[:, :, 2:34, 2:34].swapaxes(0, 1))
    np.testing.assert_array_equal(found.scenes, crops.scene[:, 3:51, 3:51])
    assert found.cell_mask.all()
    assert found.scene_mask.all()
    # Instants 1, 4, 7 and 10 of the skeleton, whose first frame is number 20 of the recording.
    assert found.frames.tolist() == [20 + round(time) for time in crops.times.tolist()]
    assert found.weights is not None
    np.testing.assert_array_equal(found.weights, used[0][0].numpy())
    assert (found.weights.min(), found.weights.max()) == (0, 2)


def test_answers_are_those_of_the_model(made: tuple[Store, Path], tmp_path: Path) -> None:
    store, videos = made
    whole = model().train()
    found = guidance_of(whole, store, 1, videos)
    assert whole.training, "it is left as it was"
    again = guidance_of(whole.eval(), store, 1, videos)
    assert found.answers == again.answers
    assert list(found.answers) == ["skeleton", "video", "both"]
    for answers in found.answers.values():
        assert {name for name, _ in answers} == set(CLASSES)
        assert answers[0][1] >= answers[1][1]
        assert sum(share for _, share in answers) == pytest.approx(1, abs=1e-5)
    alone = guidance_of(model("none"), store, 1, videos)
    assert alone.weights is None
    assert alone.answers["skeleton"] == found.answers["skeleton"]
    assert alone.answers["both"] != found.answers["both"]
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    draw_guidance(alone, "title", "sit", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def words(axes: Any) -> list[str]:
    return [axes.get_title(), axes.get_ylabel(), *(text.get_text() for text in axes.texts)]


def test_the_picture_names_parts_frames_weights_and_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    to_hex = pytest.importorskip("matplotlib.colors").to_hex
    kept: list[Any] = []
    monkeypatch.setattr(crops_picture, "save_figure", lambda figure, file: kept.append(figure))
    mask = np.ones((5, 2), bool)
    mask[0, 1] = False
    answers = {"skeleton": [("sit", 0.75), ("stand", 0.25)], "both": [("stand", 1.0)]}
    cells, scenes = np.zeros((5, 2, 8, 8, 3), np.uint8), np.zeros((2, 9, 9, 3), np.uint8)
    weights = np.linspace(0, 1.8, 10).reshape(5, 2)
    found = Guided(cells, mask, weights, scenes, np.array([True, True]), np.array([3, 11]), answers)
    draw_guidance(found, "clip 7", "stand", tmp_path / "a.png")
    draw_guidance(found._replace(weights=None, scene_mask=np.zeros(2, bool)), "", None, tmp_path / "b.png")
    (grid, right), (plain, empty) = (figure.subfigs for figure in kept)
    assert kept[0].get_suptitle() == "clip 7"
    assert words(grid.axes[0]) == ["frame 3", PARTS[0].replace("_", " "), "0.0"]
    assert words(grid.axes[1]) == ["frame 11", "", "nothing"]
    assert [words(axes) for axes in grid.axes[2::2]] == [
        ["", part.replace("_", " "), f"{row[0]:.1f}"]
        for part, row in zip(PARTS[1:], weights[1:], strict=True)
    ]
    assert not any(axes.texts for axes in plain.axes if axes is not plain.axes[1])
    scene, bars = right.axes
    assert scene.get_title() == "persons and surroundings"
    assert scene.images[0].get_array().shape == (9, 18, 3)
    assert (empty.axes[0].get_title(), len(empty.axes[0].images)) == ("no scene", 0)
    assert [text.get_text() for text in bars.texts] == ["sit  75 %", "stand  25 %", "stand  100 %"]
    assert [round(bar.get_width()) for bar in bars.patches] == [75, 25, 100]
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in bars.patches] == [0, 1, 4]
    own = [to_hex(bar.get_facecolor()) == SIDE_COLOURS["left"] for bar in bars.patches]
    assert own == [False, True, True]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["skeleton", "both"]
    assert bars.get_yticks().tolist() == [0.5, 4.0]
    assert bars.yaxis_inverted()


def test_crops_lie_in_rows_of_parts_with_the_scene_below(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept: list[np.ndarray] = []
    monkeypatch.setattr(crops_picture, "save_png", lambda page, file: kept.append(page))
    parts = np.zeros((3, 5, 8, 8, 3), np.uint8)  # instants, parts
    parts += np.arange(15, dtype=np.uint8).reshape(3, 5)[..., None, None, None]
    config = RoiConfig(instants=3, cell=8, scene=12, scene_instants=2)
    crops = empty_crops(config, 6)._replace(parts=parts, scene=np.full((2, 12, 12, 3), 100, np.uint8))
    draw_crops(crops, 0.5, tmp_path / "c.png")
    (page,) = kept
    assert page.shape == (5 * 8 + 4 * 2 + 8 + 12 + 8, 3 * 8 + 2 * 2, 3)
    corners = page[0:48:10, 0:28:10, 0]
    assert corners.tolist() == [[part, 5 + part, 10 + part] for part in range(5)]
    line = page[:8, :8, 0] > 60  # where the margin of half a side begins: 4/3 pixels from the edge
    assert line[1, 3]
    assert not line[0].any()
    assert not line[3:5, 3:5].any()
    assert (page[56:68, 0] == 100).all()
    assert (page[48:56] == 255).all()
    assert (page[56:68, 26:] == 255).all()


def test_the_control_shows_no_part(made: tuple[Store, Path], tmp_path: Path) -> None:
    store, videos = made
    control = model("none", dataclasses.replace(ROI, show="background"))
    pictures: list[int] = []
    control.network.video.backbone.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: pictures.append(len(inputs[0]))
    )
    found = guidance_of(control, store, 0, videos)
    assert set(pictures) == {VIDEO.scenes}, "empty grids go through the backbone"
    assert not found.cell_mask.any()
    assert found.scene_mask.all()
    assert found.answers["both"] != found.answers["skeleton"], "the video takes part"
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    draw_guidance(found, "title", None, tmp_path / "a.png")


def test_what_there_is_nothing_to_show_of(made: tuple[Store, Path]) -> None:
    store, videos = made
    with pytest.raises(GuidanceError, match="skeletons alone"):
        guidance_of(phase1(), store, 0, videos)
    with pytest.raises(GuidanceError, match="sample 'made02' has no video"):
        guidance_of(model(), store, 2, videos)


def test_the_command_draws_it(
    made: tuple[Store, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    store, videos = made
    model().save_pretrained(tmp_path / "run")
    phase1().save_pretrained(tmp_path / "first")
    words = ["inspect", str(store.path), "--videos", str(videos), "--rois", str(tmp_path / "a.png")]
    assert main([*words, "--sample", "made03", "--guidance", str(tmp_path / "run"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["sample_id"] == "made03"
    assert "a cell counts from 0 (blue) to 2 (orange)" in captured.err
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert main([*words, "--sample", "made03", "--guidance", str(tmp_path / "first")]) == 2
    assert "--guidance needs a model of phase 2" in capsys.readouterr().err
    assert main([*words, "--sample", "made02", "--guidance", str(tmp_path / "run")]) == 2
    assert "sample 'made02' has no video" in capsys.readouterr().err
    lone = ["inspect", str(store.path), "--sample", "made03", "--guidance", str(tmp_path / "run")]
    assert main(lone) == 2
    assert "--guidance draws a picture; name it with --rois FILE.png" in capsys.readouterr().err


def test_evaluation_names_what_fusion_mends_and_breaks(
    made: tuple[Store, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, videos = made
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    whole = model()
    with torch.no_grad():  # the skeleton says one class, the video the other, and the video is heard more
        for parameter in [*whole.network.skeleton.parameters(), *whole.network.video.parameters()]:  # type: ignore[union-attr]
            parameter.zero_()
        whole.network.video.part_head.bias.copy_(torch.tensor([0.0, 4.0]))  # type: ignore[union-attr]
        for encoder in whole.network.skeleton.encoders.values():  # type: ignore[union-attr]
            encoder.classifier.bias.copy_(torch.tensor([1.0, 0.0]))
    whole.save_pretrained(tmp_path / "run")
    words = ["evaluate", str(tmp_path / "run"), "--data", str(store.path), "--videos", str(videos)]
    assert main([*words, "--split", "all", "--out", str(tmp_path / "out")]) == 0
    fusion = json.loads((tmp_path / "out" / "metrics.json").read_text())["fusion"]
    # made02 has no video and is answered by its skeleton, as it is without; the other two are of class stand.
    mended = fusion["skeleton"]["mended"]
    assert mended["n"] == 2
    told = {"label": "stand", "alone": "sit", "joined": "stand"}
    assert mended["clips"] == [{"sample_id": name, **told} for name in ("made03", "made01")]
    assert fusion["skeleton"]["broken"] == {"n": 0, "clips": []}
    assert [fusion["video"][kind]["n"] for kind in ("mended", "broken")] == [0, 0]
    assert "What joining them changes" in (tmp_path / "out" / "report.html").read_text()
    assert "mended, broken beside skeleton alone" in " ".join(capsys.readouterr().out.split())
