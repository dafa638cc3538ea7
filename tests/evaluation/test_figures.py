from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image

from hhmnet.evaluation import figures
from hhmnet.evaluation.figures import class_labels, class_legend, draw_confusion, draw_strips
from hhmnet.predict.pictures import text_image
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, KINECT20

ORANGE, BLUE = [0xD9, 0x5F, 0x02], [0x1B, 0x6C, 0xA8]
# Characters that no font has: Unicode gives them no meaning.
UNICODE = ("walk", "\u0378\u0379", "run $1 or $2", "\u0380 \U0001f57a\ufe0f", "прыжок")


def holds(file: Path, colour: list[int]) -> bool:
    pixels = image.imread(file)[..., :3]
    return bool((np.abs(pixels - np.array(colour) / 255).max(-1) < 0.02).any())


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn."""
    found, save = list[Any](), figures.save_figure

    def keep(figure: Any, file: Path) -> None:
        found.append(figure)
        save(figure, file)

    monkeypatch.setattr(figures, "save_figure", keep)
    return found


def test_a_confusion_matrix_of_many_classes(tmp_path: Path) -> None:
    draw_confusion(np.eye(60, dtype=int), [f"class {i}" for i in range(60)], tmp_path / "c.png")
    assert image.imread(tmp_path / "c.png").std() > 0.01


@pytest.mark.parametrize("layout", [KINECT20, COCO17], ids=lambda layout: layout.name)
def test_strips_show_poses_evenly_over_the_clip_and_left_and_right(tmp_path, layout, kept):
    present = np.ones((2, 20), bool)
    present[-1, :10] = False
    joints = np.random.default_rng(0).random((2, 20, layout.num_joints, layout.dims), np.float32)
    joints[~present] = 0
    clip = Sample("a", 0, joints, present, np.arange(100, 120, dtype=np.int32))
    nobody = Sample("b", 0, 0 * joints, 0 * present > 0, clip.frame_index)
    draw_strips([("clip [1] $x", clip), ("b", nobody)], layout, tmp_path / "s.png")
    assert holds(tmp_path / "s.png", ORANGE)
    assert holds(tmp_path / "s.png", BLUE)
    axes, shown = kept[0].axes[0], [0, 3, 5, 8, 11, 14, 16, 19]
    assert axes.get_title("left") == "clip [1] $x"
    assert [text.get_text() for text in axes.texts] == [f"frame {100 + frame}" for frame in shown]
    assert len(axes.collections) == present[:, shown].sum()


def test_a_font_that_has_a_class_name_is_used(tmp_path, kept, recwarn):
    names = ["wave", "\u1d81"]  # of which matplotlib brings a font, but not its own first one
    assert class_labels(names) == names
    assert class_legend(names) == ""
    draw_confusion(np.eye(2, dtype=int), names, tmp_path / "c.png")
    label = kept[0].axes[0].get_yticklabels()[1]
    assert (label.get_text(), len(label.get_fontfamily())) == (names[1], 2)
    assert [str(warning.message) for warning in recwarn] == []


def test_without_one_the_number_stands_for_it_in_every_picture_and_nothing_warns(tmp_path, kept, recwarn):
    assert class_labels(UNICODE) == ["walk", "1", "run $1 or $2", "3", "прыжок"]
    assert class_legend(UNICODE).endswith(f"1 is {UNICODE[1]}, 3 is {UNICODE[3]}")
    draw_confusion(np.eye(5, dtype=int), UNICODE, tmp_path / "c.png")
    assert [label.get_text() for label in kept[0].axes[0].get_yticklabels()] == class_labels(UNICODE)
    assert text_image(["a", UNICODE[1], "$_{"], 20).any()
    assert [str(warning.message) for warning in recwarn] == []
