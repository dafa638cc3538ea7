from __future__ import annotations

import sys

import numpy as np
import pytest

from hhmnet.evaluation import figures
from hhmnet.evaluation.figures import (
    FigureError,
    Strip,
    confusion,
    draw_confusion,
    draw_curves,
    draw_strips,
)
from hhmnet.evaluation.scores import Scores
from hhmnet.skeleton import COCO17, KINECT20
from hhmnet.training.engine import EpochLog


def make_scores(count: int = 50, classes: int = 4) -> Scores:
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, classes, count)
    logits = generator.normal(size=(count, classes)).astype(np.float32)
    ids = np.array([f"clip{i}" for i in range(count)])
    return Scores(ids, labels, logits, tuple(f"class {i}" for i in range(classes)))


def make_strip(layout, frames: int = 20, persons: int = 2) -> Strip:
    generator = np.random.default_rng(0)
    joints = generator.random((persons, frames, layout.num_joints, layout.dims), np.float32)
    present = np.ones((persons, frames), bool)
    present[-1, : frames // 2] = False
    return Strip("clip [1] $x", joints, present, np.arange(frames) * 2)


def pixels(file) -> np.ndarray:
    image = pytest.importorskip("matplotlib.image")
    return image.imread(file)[..., :3]


def test_confusion_counts_by_hand():
    scores = make_scores()
    expected = np.zeros((4, 4), int)
    for label, logits in zip(scores.labels, scores.logits, strict=True):
        if label >= 0:
            expected[label, max(range(4), key=lambda c: logits[c])] += 1
    np.testing.assert_array_equal(confusion(scores), expected)


@pytest.mark.parametrize("classes", [2, 10, 30, 60])
def test_confusion_is_drawn_for_any_number_of_classes(tmp_path, classes):
    pytest.importorskip("matplotlib")
    draw_confusion(make_scores(classes=classes), tmp_path / "c.png")
    assert pixels(tmp_path / "c.png").std() > 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


@pytest.mark.parametrize("val", [None, 60.0])
def test_curves(tmp_path, val):
    pytest.importorskip("matplotlib")
    rows = [EpochLog(e, 1 / e, 10.0 * e, 0.1, 1.0, 1.0, val) for e in range(1, 6)]
    draw_curves(rows, tmp_path / "c.png")
    picture = pixels(tmp_path / "c.png")
    orange = np.abs(picture - np.array([0xD9, 0x5F, 0x02]) / 255).max(-1) < 0.02
    assert orange.any() == (val is not None)


@pytest.mark.parametrize("layout", [KINECT20, COCO17], ids=lambda layout: layout.name)
@pytest.mark.parametrize("frames", [1, 3, 20])
def test_strips_show_left_and_right(tmp_path, layout, frames):
    pytest.importorskip("matplotlib")
    draw_strips([make_strip(layout, frames), make_strip(layout, frames)], layout, tmp_path / "s.png")
    picture = pixels(tmp_path / "s.png")
    for colour in ([0xD9, 0x5F, 0x02], [0x1B, 0x6C, 0xA8]):
        assert (np.abs(picture - np.array(colour) / 255).max(-1) < 0.02).any()


def test_poses_lie_evenly_over_the_clip_and_tell_their_frames(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    kept = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, file: kept.append(figure))
    strip = make_strip(KINECT20, 20)._replace(frame_index=np.arange(100, 120))
    draw_strips([strip], KINECT20, tmp_path / "s.png")
    (axes,) = kept[0].axes
    shown = [0, 3, 5, 8, 11, 14, 16, 19]
    assert axes.get_title("left") == strip.title
    assert [text.get_text() for text in axes.texts] == [f"frame {100 + frame}" for frame in shown]
    assert len(axes.collections) == strip.present[:, shown].sum()


def test_a_body_that_is_not_there_is_not_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    strip = make_strip(KINECT20)
    draw_strips([strip._replace(present=np.zeros_like(strip.present))], KINECT20, tmp_path / "s.png")
    picture = pixels(tmp_path / "s.png")
    assert not (np.abs(picture - np.array([0xD9, 0x5F, 0x02]) / 255).max(-1) < 0.02).any()


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(FigureError, match=r"pip install 'hhmnet\[plot\]'"):
        draw_confusion(make_scores(), tmp_path / "c.png")
    assert not list(tmp_path.iterdir())
