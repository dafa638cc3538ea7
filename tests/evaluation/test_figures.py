from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import image
from matplotlib.font_manager import fontManager

from hhmnet.evaluation import figures
from hhmnet.evaluation.figures import (
    class_labels,
    class_legend,
    draw_confusion,
    draw_curves,
    draw_strips,
    new_figure,
    set_fonts,
)
from hhmnet.predict.pictures import text_image
from hhmnet.sample import Sample
from hhmnet.skeleton import COCO17, KINECT20, SkeletonLayout
from hhmnet.training.logs import EpochLog

ORANGE, BLUE = [0xD9, 0x5F, 0x02], [0x1B, 0x6C, 0xA8]
# Characters that no font has: Unicode gives them no meaning.
UNICODE = ("walk", "\u0378\u0379", "run $1 or $2", "\u0380 \U0001f57a\ufe0f", "прыжок")


def holds(file: Path, colour: list[int]) -> bool:
    pixels = image.imread(file)[..., :3]
    return bool((np.abs(pixels - np.array(colour) / 255).max(-1) < 0.02).any())


@pytest.mark.parametrize("val", [None, 60.0])
def test_curves_and_a_confusion_matrix_of_many_classes(tmp_path: Path, val: float | None) -> None:
    draw_curves([EpochLog(e, 1 / e, 10.0 * e, 0.1, 1.0, 1.0, val) for e in range(1, 6)], tmp_path / "c.png")
    assert holds(tmp_path / "c.png", BLUE)
    assert holds(tmp_path / "c.png", ORANGE) == (val is not None)
    draw_confusion(np.eye(60, dtype=int), [f"class {i}" for i in range(60)], tmp_path / "c.png")
    assert image.imread(tmp_path / "c.png").std() > 0.01


@pytest.mark.parametrize("layout", [KINECT20, COCO17], ids=lambda layout: layout.name)
def test_strips_show_poses_evenly_over_the_clip_and_left_and_right(
    tmp_path: Path, layout: SkeletonLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = np.ones((2, 20), bool)
    present[-1, :10] = False
    joints = np.random.default_rng(0).random((2, 20, layout.num_joints, layout.dims), np.float32)
    joints[~present] = 0
    clip = Sample("a", 0, joints, present, np.arange(100, 120, dtype=np.int32))
    nobody = Sample("b", 0, 0 * joints, 0 * present > 0, clip.frame_index)
    kept, save = [], figures.save_figure
    monkeypatch.setattr(
        figures, "save_figure", lambda figure, file: (kept.append(figure), save(figure, file))
    )
    for clips, seen in (([("clip [1] $x", clip), ("b", nobody)], True), ([("b", nobody)], False)):
        draw_strips(clips, layout, tmp_path / "s.png")
        assert [holds(tmp_path / "s.png", colour) for colour in (ORANGE, BLUE)] == [seen, seen]
    axes, shown = kept[0].axes[0], [0, 3, 5, 8, 11, 14, 16, 19]
    assert axes.get_title("left") == "clip [1] $x"
    assert [text.get_text() for text in axes.texts] == [f"frame {100 + frame}" for frame in shown]
    assert len(axes.collections) == present[:, shown].sum()


@pytest.fixture
def own_font(tmp_path: Path) -> Iterator[str]:
    """The family of an installed font that has the three characters, as one block each."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (600, 700), (600, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names, built = [".notdef", "block"], FontBuilder(1000)
    built.setupGlyphOrder(names)
    built.setupCharacterMap(dict.fromkeys((0x0378, 0x0379, 0x0380, 0x1F57A), "block"))
    built.setupGlyf(dict.fromkeys(names, pen.glyph()))
    built.setupHorizontalMetrics(dict.fromkeys(names, (650, 0)))
    built.setupHorizontalHeader(ascent=800, descent=-200)
    built.setupNameTable({"familyName": "Made Blocks", "styleName": "Regular"})
    built.setupOS2()
    built.setupPost()
    built.save(tmp_path / "blocks.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "blocks.ttf")
    figures._family.cache_clear()
    yield "Made Blocks"
    fontManager.ttflist = before
    figures._family.cache_clear()


def test_a_font_that_has_a_class_name_is_used(own_font: str, tmp_path: Path) -> None:
    assert class_labels(UNICODE) == list(UNICODE)
    assert class_legend(UNICODE) == ""
    figure = new_figure(2, 2)
    text = figure.text(0, 0, UNICODE[1] + "a")
    set_fonts(figure)
    assert text.get_fontfamily() == ["DejaVu Sans", own_font]
    draw_confusion(np.eye(5, dtype=int), UNICODE, tmp_path / "c.png")


def test_without_one_the_number_stands_for_it_in_every_picture_and_nothing_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    assert class_labels(UNICODE) == ["walk", "1", "run $1 or $2", "3", "прыжок"]
    assert class_legend(UNICODE).endswith(f"1 is {UNICODE[1]}, 3 is {UNICODE[3]}")
    kept, save = [], figures.save_figure

    def keep(figure: object, file: Path) -> None:
        kept.append(figure)
        save(figure, file)

    monkeypatch.setattr(figures, "save_figure", keep)
    draw_confusion(np.eye(5, dtype=int), UNICODE, tmp_path / "c.png")
    assert [label.get_text() for label in kept[0].axes[0].get_yticklabels()] == class_labels(UNICODE)
    assert text_image(["a", UNICODE[1], "$_{"], 20).any()
    assert [str(warning.message) for warning in recwarn] == []
